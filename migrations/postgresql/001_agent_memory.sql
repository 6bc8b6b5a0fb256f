-- The table that agents write to. Every statement that changes memories names one agent, whose rows
-- a distributed database keeps together. `metadata` is JSON or NULL; `expires_at` NULL means never.
-- The defaults are for clients; memctl binds every value.

CREATE TABLE agent_memory (
    id                    text COLLATE "C" NOT NULL,           -- unique for each agent
    agent_id              text COLLATE "C" NOT NULL,
    type                  text COLLATE "C" NOT NULL,
    key                   text COLLATE "C" NOT NULL,
    value                 text COLLATE "C" NOT NULL,
    metadata              text COLLATE "C",
    importance            double precision DEFAULT 5,
    access_count          bigint DEFAULT 0,
    last_accessed         timestamptz DEFAULT date_trunc('second', now()),
    created_at            timestamptz DEFAULT date_trunc('second', now()),
    expires_at            timestamptz,
    archived_at           timestamptz,                         -- when it was last archived; NULL: never
    importance_decay_rate double precision,                    -- points per idle day; NULL: the policy's
    last_decay_at         timestamptz,                         -- until when idle time is charged; NULL: never charged
    promoted_at           timestamptz,                         -- NULL: not in the knowledge base
    import_order          bigint,                              -- orders exports; NULL: not imported
    PRIMARY KEY (agent_id, id),
    UNIQUE (agent_id, type, key)
);

CREATE INDEX memctl_expires_at ON agent_memory (agent_id, expires_at);
