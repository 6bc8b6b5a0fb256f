"""Which database a file holds, wherever the file is and whatever it is called.

The identity is kept in the database: it moves with the file, and a restored backup brings it back,
unless the backup was made at another place. A copy of the file has it too. Therefore the place of
the file is noted beside it, and a copy gets an identity of its own before its first backup. In
doubt a file is a copy: its backups are then kept for longer, and those of another database are
never removed.
"""

import os
import sqlite3
import uuid
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.database import is_busy, transaction
from memctl.storage.sqlite.state import read_state, write_state

STEP_WITH_STATE = 2  # creates memory_state
STATE_KEY = "database_id"


class Identity(NamedTuple):
    """The identity of a database, and where its file was when it was last looked at."""

    id: str
    host: str  # this machine or container
    path: str
    file: str  # the file system and the inode


def database_id(db: Connection, path: Path) -> str | None:
    """Return the identity of a database, and note the place of its file.

    A database that has none, or is a copy, gets a new one; one that is not migrated has no place
    to keep it: None. The caller holds memctl's lock. While another program keeps the database
    locked, nothing is noted.
    """
    if not _has_state(db):
        return None
    known = known_identity(db)
    here = new_identity(path)
    if known and _is_same_database(known, here):
        here = here._replace(id=known.id)
    if here != known:
        try:
            with transaction(db):
                store_identity(db, here)
        except sqlite3.OperationalError as error:
            if not is_busy(error):  # a backup is worth more than a note of where it was made
                raise
    return here.id


def new_identity(path: Path) -> Identity:
    """Return an identity that no database has yet, for the file at a path."""
    return Identity(uuid.uuid4().hex, os.uname().nodename, str(path.resolve()), _file_id(path))


def store_identity(db: Connection, identity: Identity) -> None:
    """Make an identity that of the database; call it in a transaction."""
    write_state(db, STATE_KEY, identity._asdict())


def keep_identity(db: Connection, identity: Identity | None, path: Path) -> None:
    """Give a database, after a restore, the identity it had, unless the backup was made here.

    With the identity of another database it would remove the backups of that one as its own.
    """
    restored = known_identity(db)
    here = new_identity(path)
    if identity and restored and (restored.host, restored.path) != (here.host, here.path):
        with transaction(db):
            store_identity(db, identity)


def known_identity(db: Connection) -> Identity | None:
    """Return the identity that a database has, perhaps as a copy of another; reads only."""
    stored = read_state(db, STATE_KEY) if _has_state(db) else None
    return Identity(**stored) if stored else None


def _has_state(db: Connection) -> bool:
    return any(step.version == STEP_WITH_STATE for step in migrations.applied(db))


def _file_id(path: Path) -> str:
    return f"{os.statvfs(path).f_fsid:x}:{path.stat().st_ino}"


def _is_same_database(known: Identity, here: Identity) -> bool:
    """Tell whether a file is the one that was known, or took its place, rather than a copy."""
    if known.file == here.file:
        return True  # moved, or in a container that has another name after each start
    if known.host != here.host:
        return False
    return known.path == here.path or _is_gone(known.path)


def _is_gone(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False  # nobody can tell
    return False
