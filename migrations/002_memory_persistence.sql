-- The life of a memory after it was written: archive, retention, figures, ledger and events.
-- Times are RFC 3339 in UTC ('2026-11-22T09:43:58Z').

-- When the memory was last archived; it stays after a restore. NULL: never archived.
ALTER TABLE agent_memory ADD COLUMN archived_at TEXT;
-- Points lost per idle day after the grace period. NULL: the policy decides.
ALTER TABLE agent_memory ADD COLUMN importance_decay_rate REAL;
-- Until when the idle time has been charged. NULL: never charged.
ALTER TABLE agent_memory ADD COLUMN last_decay_at TEXT;
-- When the memory reached the knowledge base. NULL: it has not.
ALTER TABLE agent_memory ADD COLUMN promoted_at TEXT;

-- The only index on the service's own table: any that begins with agent_id or importance
-- would reorder ties in the agents' prompts.
CREATE INDEX memctl_expires_at ON agent_memory (expires_at) WHERE expires_at IS NOT NULL;

-- A memory is here or in agent_memory, never in both. No UNIQUE: one key may be archived often.
CREATE TABLE archived_memories (
    archive_id            INTEGER PRIMARY KEY,       -- grows with time
    id                    TEXT,
    agent_id              TEXT NOT NULL,
    type                  TEXT NOT NULL,
    key                   TEXT NOT NULL,
    value                 TEXT NOT NULL,
    metadata              TEXT,
    importance            INTEGER,
    access_count          INTEGER,
    last_accessed         TEXT,
    created_at            TEXT,
    expires_at            TEXT,
    importance_decay_rate REAL,
    last_decay_at         TEXT,
    promoted_at           TEXT,
    archived_at           TEXT NOT NULL,
    archived_reason       TEXT NOT NULL,             -- expired, forgotten, deleted, replaced, imported, manual
    run_id                INTEGER                    -- NULL: archived by a client, not by a run
);

CREATE INDEX archived_memories_by_agent ON archived_memories (agent_id, archived_at);
CREATE INDEX archived_memories_by_time ON archived_memories (archived_at, importance);
CREATE INDEX archived_memories_by_id ON archived_memories (id);

-- One row per day, agent and type; the figures of an agent or of all are sums over it. A period
-- begins where that of the day before ended; each event is counted in exactly one.
CREATE TABLE memory_analytics (
    snapshot_date      TEXT NOT NULL,                -- '2026-11-22'
    agent_id           TEXT NOT NULL,
    type               TEXT NOT NULL,
    period_start       TEXT NOT NULL,
    period_end         TEXT NOT NULL,
    last_event_id      INTEGER NOT NULL,             -- the newest event that is counted
    memories           INTEGER NOT NULL,             -- this and the following: at the period's end
    archived_memories  INTEGER NOT NULL,
    importance_count   INTEGER NOT NULL,             -- memories whose importance is a number
    importance_sum     REAL NOT NULL,                -- of those
    active_bytes       INTEGER NOT NULL,             -- key, value and metadata
    archived_bytes     INTEGER NOT NULL,
    accesses_that_day  INTEGER NOT NULL,             -- counted on snapshot_date until then
    accessed_memories  INTEGER NOT NULL,             -- this and the following: over the period
    accesses           INTEGER,                      -- NULL: not counted all the time
    expired            INTEGER NOT NULL,
    archived           INTEGER NOT NULL,             -- for whatever reason: expired is a part of it
    restored           INTEGER NOT NULL,
    pruned             INTEGER NOT NULL,
    promoted           INTEGER NOT NULL,
    PRIMARY KEY (snapshot_date, agent_id, type)
) WITHOUT ROWID;

-- The ledger: a start without a finish is a crash.
CREATE TABLE memory_runs (
    run_id          INTEGER PRIMARY KEY,             -- the newest is never deleted, so none is reused
    job             TEXT NOT NULL,
    started_at      TEXT NOT NULL,                   -- also the cutoff of everything the run did
    finished_at     TEXT,                            -- NULL: running, or crashed
    duration_ms     INTEGER,
    status          TEXT NOT NULL,                   -- running, ok, failed, refused
    complete        INTEGER NOT NULL DEFAULT 0,      -- 1: all that was due then is done, so that `run` can wait
    counts          TEXT,                            -- JSON object
    longest_lock_ms REAL,                            -- how long other writers waited at the most
    error           TEXT,                            -- NULL: none
    memctl_version  TEXT NOT NULL,
    host            TEXT NOT NULL,
    pid             INTEGER NOT NULL
);

-- The outbox: event_id is the cursor; written in the transaction of the change it tells of.
CREATE TABLE memory_events (
    event_id  INTEGER PRIMARY KEY,                   -- the newest is never deleted, so none is reused
    at        TEXT NOT NULL,
    event     TEXT NOT NULL,                         -- 'memory:expired' and the like
    memory_id TEXT,                                  -- NULL here and below: the event is about a run
    agent_id  TEXT,
    type      TEXT,
    key       TEXT,
    run_id    INTEGER,
    detail    TEXT                                   -- JSON object, or NULL for none
);

-- By agent, not by memory: a random id would cost every archived memory one more page.
CREATE INDEX memory_events_by_agent ON memory_events (agent_id);

-- Which knowledge entry a memory became; without a foreign key, since neither side is ours.
CREATE TABLE memory_promotions (
    agent_id     TEXT NOT NULL,
    type         TEXT NOT NULL,
    key          TEXT NOT NULL,
    entry_id     TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    promoted_at  TEXT NOT NULL,
    PRIMARY KEY (agent_id, type, key)
) WITHOUT ROWID;

-- How often clients read memories, by day in UTC, while the feature access-counting is on.
CREATE TABLE memory_access_counts (
    day      TEXT NOT NULL,                          -- '2026-11-22'
    agent_id TEXT NOT NULL,
    type     TEXT NOT NULL,
    accesses INTEGER NOT NULL,
    PRIMARY KEY (day, agent_id, type)
) WITHOUT ROWID;

-- Switches, such as the pause. 'own_delete' is there only inside a transaction of memctl that
-- deletes what it has archived.
CREATE TABLE memory_state (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
