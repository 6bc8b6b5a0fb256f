-- The life of a memory after it was written: archive, retention, figures, ledger and events.
-- There are no sequences: memctl makes every key, and the holder of the lease every number.

-- A memory is here or in agent_memory, never in both. One key may be archived often.
CREATE TABLE archived_memories (
    archive_id            uuid NOT NULL,                       -- grows with time
    id                    text COLLATE "C" NOT NULL,
    agent_id              text COLLATE "C" NOT NULL,
    type                  text COLLATE "C" NOT NULL,
    key                   text COLLATE "C" NOT NULL,
    value                 text COLLATE "C" NOT NULL,
    metadata              text COLLATE "C",
    importance            double precision,
    access_count          bigint,
    last_accessed         timestamptz,
    created_at            timestamptz,
    expires_at            timestamptz,
    importance_decay_rate double precision,
    last_decay_at         timestamptz,
    promoted_at           timestamptz,
    archived_at           timestamptz NOT NULL,
    archived_reason       text COLLATE "C" NOT NULL,           -- expired, forgotten, replaced, imported, manual
    run_id                bigint,                              -- NULL: archived by a client, not by a run
    PRIMARY KEY (agent_id, archive_id)
);

CREATE INDEX archived_memories_by_time ON archived_memories (agent_id, archived_at);
CREATE INDEX archived_memories_by_id ON archived_memories (agent_id, id);

-- One row per day, agent and type; the figures of an agent or of all are sums over it. A period
-- begins where that of the day before ended; each event is counted in exactly one.
CREATE TABLE memory_analytics (
    snapshot_date      date NOT NULL,
    agent_id           text COLLATE "C" NOT NULL,
    type               text COLLATE "C" NOT NULL,
    period_start       timestamptz NOT NULL,
    period_end         timestamptz NOT NULL,
    last_event_id      bigint NOT NULL,                        -- the newest event that is counted
    memories           bigint NOT NULL,                        -- this and the following: at the period's end
    archived_memories  bigint NOT NULL,
    importance_count   bigint NOT NULL,                        -- memories that have an importance
    importance_sum     double precision NOT NULL,
    active_bytes       bigint NOT NULL,                        -- key, value and metadata
    archived_bytes     bigint NOT NULL,
    accesses_that_day  bigint NOT NULL,                        -- counted on snapshot_date until then
    accessed_memories  bigint NOT NULL,                        -- this and the following: over the period
    accesses           bigint,                                 -- NULL: not counted
    expired            bigint NOT NULL,
    archived           bigint NOT NULL,                        -- for whatever reason: expired is a part of it
    restored           bigint NOT NULL,
    pruned             bigint NOT NULL,
    promoted           bigint NOT NULL,
    PRIMARY KEY (agent_id, snapshot_date, type)
);

-- The ledger: a start without a finish is a crash.
CREATE TABLE memory_runs (
    run_id          bigint PRIMARY KEY,                        -- the newest is never deleted, so none is reused
    job             text COLLATE "C" NOT NULL,
    started_at      timestamptz NOT NULL,                      -- also the cutoff of everything the run did
    finished_at     timestamptz,                               -- NULL: running, or crashed
    duration_ms     bigint,
    status          text COLLATE "C" NOT NULL,                 -- running, ok, failed, refused
    complete        boolean NOT NULL,                          -- all that was due then is done, so that `run` can wait
    counts          text COLLATE "C",                          -- JSON object
    longest_lock_ms double precision,                          -- how long the rows of a batch were locked at the most
    error           text COLLATE "C",                          -- NULL: none
    memctl_version  text COLLATE "C" NOT NULL,
    host            text COLLATE "C" NOT NULL,
    pid             bigint NOT NULL
);

-- The outbox, written in the transaction of the change that it tells of. Readers continue after the
-- last event_id they have read. Events become visible to them when they are numbered, in order, by
-- the holder of the lease: numbers given by each writer could become visible in another order.
CREATE TABLE memory_events (
    event_key uuid NOT NULL,                                   -- grows with time
    event_id  bigint,                                          -- the cursor; NULL: not numbered yet
    at        timestamptz NOT NULL,
    event     text COLLATE "C" NOT NULL,                       -- 'memory:expired' and the like
    memory_id text COLLATE "C",                                -- NULL, as type and key: the event is about a run
    agent_id  text COLLATE "C" NOT NULL,                       -- '' if the event is about a run
    type      text COLLATE "C",
    key       text COLLATE "C",
    run_id    bigint,
    detail    text COLLATE "C",                                -- JSON object, or NULL for none
    PRIMARY KEY (agent_id, event_key)
);

CREATE INDEX memory_events_by_number ON memory_events (event_id, event_key);

-- Which knowledge entry a memory became.
CREATE TABLE memory_promotions (
    agent_id     text COLLATE "C" NOT NULL,
    type         text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    entry_id     text COLLATE "C" NOT NULL,
    content_hash text COLLATE "C" NOT NULL,
    promoted_at  timestamptz NOT NULL,
    PRIMARY KEY (agent_id, type, key)
);

-- Switches, such as the pause.
CREATE TABLE memory_state (
    key   text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL
);

-- The lease: only its holder runs jobs. Until when it is held is by the server's clock.
CREATE TABLE memory_leases (
    name          text COLLATE "C" PRIMARY KEY,
    token         uuid NOT NULL,                               -- of the holder, or of the last one
    job           text COLLATE "C" NOT NULL,
    host          text COLLATE "C" NOT NULL,
    pid           bigint NOT NULL,
    held_until    timestamptz NOT NULL,                        -- in the past: it is free
    last_event_id bigint NOT NULL                              -- the greatest number of an event so far
);
