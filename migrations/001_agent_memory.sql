-- The table that agents write to, exactly as the service that owns it creates it.
-- On a database that already has it, this step is verified and recorded, never executed.
-- `metadata` is JSON or NULL; `expires_at` NULL means never.

CREATE TABLE agent_memory (
    id            TEXT PRIMARY KEY,
    agent_id      TEXT NOT NULL,
    type          TEXT NOT NULL,
    key           TEXT NOT NULL,
    value         TEXT NOT NULL,
    metadata      TEXT,
    importance    INTEGER DEFAULT 5,
    access_count  INTEGER DEFAULT 0,
    last_accessed TEXT DEFAULT (datetime('now')),
    created_at    TEXT DEFAULT (datetime('now')),
    expires_at    TEXT,
    UNIQUE (agent_id, type, key)
);

CREATE INDEX idx_agent_memory_agent ON agent_memory (agent_id);
CREATE INDEX idx_agent_memory_type ON agent_memory (type);
