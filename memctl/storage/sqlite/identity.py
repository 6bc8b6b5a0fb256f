"""The identity of a database, independent of the path of its file.

The identity is stored in the database, so it moves with the file, and a restored backup brings it
back unless the backup was made at another place. Because a copy of the file also has it, the place
of the file is stored with it, and a copy gets a new identity before its first backup. In doubt, a
file is treated as a copy: then its old backups are kept, and those of another database are never
removed.
"""

import os
import sqlite3
import uuid
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.database import is_busy, reachable, transaction
from memctl.storage.sqlite.state import read_state, statement_for_state, write_state

STEP_WITH_STATE = 2  # creates memory_state
STATE_KEY = "database_id"


class Identity(NamedTuple):
    """The identity of a database, and the last known place of its file."""

    id: str
    host: str  # this machine or container
    path: str
    file: str  # the file system and the inode


def database_id(db: Connection, path: Path) -> str | None:
    """Return the identity of a database, and store the place of its file.

    A database without an identity, or a copy, gets a new one. Return None for a database that is
    not migrated. The caller holds memctl's lock. Nothing is stored while another program has the
    database locked.
    """
    here = present_identity(db, path)
    if here is None:
        return None
    if here != known_identity(db):
        try:
            with transaction(db):
                store_identity(db, here)
        except sqlite3.OperationalError as error:
            if not is_busy(error):  # the backup matters more than the stored place
                raise
    return here.id


def present_identity(db: Connection, path: Path) -> Identity | None:
    """Return the identity that the next backup will name, with the place of the file; read-only.

    A copy gets a new one. Return None for a database that is not migrated.
    """
    if not _has_state(db):
        return None
    known = known_identity(db)
    here = new_identity(path)
    if known and _is_same_database(known, here):
        here = here._replace(id=known.id)
    return here


def new_identity(path: Path) -> Identity:
    """Return a new identity for the file at a path.

    Raises MemctlError for a path that cannot be accessed, such as a loop of links.
    """
    with reachable(path):
        place, file = str(path.resolve()), _file_id(path)
    return Identity(uuid.uuid4().hex, os.uname().nodename, place, file)


def store_identity(db: Connection, identity: Identity) -> None:
    """Store an identity in the database; called in a transaction."""
    write_state(db, STATE_KEY, identity._asdict())


def statement_for_identity(identity: Identity) -> str:
    """Return the statement that stores an identity."""
    return statement_for_state(STATE_KEY, identity._asdict())


def keep_identity(db: Connection, identity: Identity | None, path: Path) -> None:
    """Restore the identity that a database had before a restore, unless the backup was made here.

    With the identity of another database, it would remove that database's backups as its own.
    """
    restored = known_identity(db)
    here = new_identity(path)
    if identity and restored and (restored.host, restored.path) != (here.host, here.path):
        with transaction(db):
            store_identity(db, identity)


def known_identity(db: Connection) -> Identity | None:
    """Return the stored identity, which a copy shares with its original; read-only."""
    stored = read_state(db, STATE_KEY) if _has_state(db) else None
    return Identity(**stored) if stored else None


def _has_state(db: Connection) -> bool:
    return any(step.version == STEP_WITH_STATE for step in migrations.applied(db))


def _file_id(path: Path) -> str:
    """Return the file system and the inode of a file; an empty text if it does not exist."""
    try:
        return f"{os.statvfs(path).f_fsid:x}:{path.stat().st_ino}"
    except FileNotFoundError:
        return ""


def _is_same_database(known: Identity, here: Identity) -> bool:
    """Return whether a file is the known one, or has replaced it, and is not a copy."""
    if known.file == here.file:
        return True  # moved, or in a container whose host name changes at each start
    if known.host != here.host:
        return False
    return known.path == here.path or _is_gone(known.path)


def _is_gone(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # unknown
    return False
