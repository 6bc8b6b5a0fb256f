"""The table memory_tombstones: hashes of what was erased or redacted; see `storage.tombstones`."""

import os
from collections.abc import Iterable
from sqlite3 import Connection

from memctl.storage.sqlite.database import table_exists
from memctl.storage.tombstones import SALT_BYTES, Tombstone, Tombstones

STEP_WITH_TOMBSTONES = 3  # creates the table unless it has survived a rollback
TABLE = "memory_tombstones"
OBJECTS = (TABLE, "memory_tombstones_by_name")

READ_TOMBSTONES = """
    SELECT kind, unixepoch(erased_at), salt, name_hash, content_hash, secret_hash, secret_bytes
    FROM memory_tombstones
    ORDER BY tombstone_id
"""

ADD_TOMBSTONE = """
    INSERT INTO memory_tombstones
        (kind, erased_at, salt, name_hash, content_hash, secret_hash, secret_bytes)
    SELECT :kind, strftime('%Y-%m-%dT%H:%M:%SZ', :erased_at, 'unixepoch'), :salt, :name_hash,
        :content_hash, :secret_hash, :secret_bytes
    WHERE NOT EXISTS (
        SELECT 1 FROM memory_tombstones AS present
        WHERE present.name_hash = :name_hash AND present.salt = :salt AND present.kind = :kind
            AND present.content_hash IS :content_hash AND present.secret_hash IS :secret_hash
            AND unixepoch(present.erased_at) = :erased_at
    )
"""


def read_tombstones(db: Connection) -> list[Tombstone]:
    """Return all tombstones of a database, which may be of an earlier schema; reads only."""
    if not table_exists(db, "memory_tombstones"):
        return []
    return [Tombstone(*row) for row in db.execute(READ_TOMBSTONES)]


def find_tombstones(db: Connection) -> Tombstones:
    """Return what recognizes the erased memories of a database; reads only."""
    return Tombstones(read_tombstones(db))


def salt_of(db: Connection) -> bytes:
    """Return the salt for new tombstones: that of the newest one, or a new one."""
    found = db.execute(
        "SELECT salt FROM memory_tombstones ORDER BY tombstone_id DESC LIMIT 1"
    ).fetchone()
    return bytes(found[0]) if found else os.urandom(SALT_BYTES)


def add_tombstones(db: Connection, tombstones: Iterable[Tombstone]) -> int:
    """Add tombstones that are not there yet, and return their number; called in a transaction."""
    return sum(db.execute(ADD_TOMBSTONE, vars(tombstone)).rowcount for tombstone in tombstones)
