-- Holds, which protect memories from every change by memctl, and tombstones of erased memories.
-- Times are RFC 3339 in UTC ('2026-11-22T09:43:58Z').

-- A hold covers one memory by its id, all versions of one memory by type and key, or all memories
-- of an agent, active and archived.
CREATE TABLE memory_holds (
    hold_id   INTEGER PRIMARY KEY,
    agent_id  TEXT NOT NULL,
    memory_id TEXT,                                  -- NULL: not by id
    type      TEXT,                                  -- NULL, as the key: not by name
    key       TEXT,
    reason    TEXT,                                  -- NULL: none was given
    held_at   TEXT NOT NULL,
    until     TEXT                                   -- NULL: until it is released
);

CREATE INDEX memory_holds_by_agent ON memory_holds (agent_id, memory_id, type, key);

-- What was erased, as hashes from which the text cannot be read: it must not come back with an old
-- export or backup. The table survives a rollback of this step, unless it is empty.
CREATE TABLE IF NOT EXISTS memory_tombstones (
    tombstone_id INTEGER PRIMARY KEY,
    kind         TEXT NOT NULL,                      -- erased, redacted
    erased_at    TEXT NOT NULL,
    salt         BLOB NOT NULL,                      -- of the hashes
    name_hash    BLOB NOT NULL,                      -- of agent, type and key
    content_hash BLOB,                               -- of these and the value. NULL: any written before erased_at
    secret_hash  BLOB,                               -- redacted: of the text that was replaced
    secret_bytes INTEGER                             -- redacted: its length
);

CREATE INDEX IF NOT EXISTS memory_tombstones_by_name ON memory_tombstones (name_hash);

-- Memories with which a client's INSERT conflicts: filled, and emptied if they were replaced, within
-- the statement, while archive-on-replace is enabled or memories are held.
CREATE TABLE memory_replacements (
    replaced_row          INTEGER PRIMARY KEY,       -- in agent_memory
    is_lost               INTEGER NOT NULL,          -- 0: the new memory is the same
    archive_id            INTEGER,                   -- NULL: not archived yet
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
    promoted_at           TEXT
);
