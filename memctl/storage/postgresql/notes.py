"""The notes of the importance of candidates, in memory_state.

An id is unique for each agent only, so the key of a note names the agent as well.
"""

from memctl.storage.postgresql.database import Database
from memctl.storage.sqlite.candidates import NOTE

KEY_OF_NOTE = f"'{NOTE}' || json_array(agent_id, id)"  # in SQL of SQLite

IS_NOTE = f"key >= '{NOTE}[' AND key < '{NOTE}]'"  # in SQL of PostgreSQL

MOST_DELETED = 1000  # the next run deletes the rest: a statement should be short

NOTED = f"substr(key, {len(NOTE) + 1})::json"
DELETE_ORPHANED_NOTES = f"""
    DELETE FROM memory_state WHERE key IN (
        SELECT key
        FROM (
            SELECT key, {NOTED} ->> 0 AS agent_id, {NOTED} ->> 1 AS id
            FROM memory_state
            WHERE {IS_NOTE}
            OFFSET 0
        ) AS note
        WHERE NOT EXISTS (
                SELECT 1 FROM agent_memory
                WHERE agent_memory.agent_id = note.agent_id AND agent_memory.id = note.id
            )
            AND NOT EXISTS (
                SELECT 1 FROM archived_memories
                WHERE archived_memories.agent_id = note.agent_id AND archived_memories.id = note.id
            )
        LIMIT {MOST_DELETED}
    )
"""


def delete_orphaned_notes(db: Database) -> None:
    """Delete notes on memories that are no longer active or archived."""
    db.transaction(lambda: db.execute(DELETE_ORPHANED_NOTES))
