"""The erasure of memories: what is selected, its preview, and its removal in batches.

While something is erased, memory_state has a mark, until the files are overwritten. If memctl is
killed in between, the mark remains: `check` reports it, and the next erasure overwrites the files.
"""

import json
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import TYPE_CHECKING, get_args

from memctl.errors import NotFoundError, RefusedError, counted
from memctl.storage.erasure import ErasureFilter, Overwritten, Removal
from memctl.storage.spool import overwrite_spool
from memctl.storage.sqlite import overwriting
from memctl.storage.sqlite.database import MemoryTable, transaction
from memctl.storage.sqlite.erasable import Erasable
from memctl.storage.sqlite.erasing_text import text_of
from memctl.storage.sqlite.features import renew_triggers
from memctl.storage.sqlite.holds import held_parameter, in_force, is_held
from memctl.storage.sqlite.named_rows import NAME, RowsByName, Version, name_of, of_name
from memctl.storage.sqlite.raw_files import RawFiles
from memctl.storage.sqlite.unfinished_erasure import mark_finished, mark_unfinished, read_unfinished
from memctl.storage.text import to_bytes
from memctl.storage.times import to_text
from memctl.storage.tombstones import Name

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches


class Erasure:
    """Memories to be erased, or without a filter, the remains of an interrupted erasure.

    `files` stay open until the connection is closed.
    """

    def __init__(
        self, db: Connection, which: ErasureFilter | None, files: RawFiles, *, now: datetime
    ) -> None:
        """Find them; only reads.

        Raises NotFoundError if there is nothing, and RefusedError if a memory is held.
        """
        self._db = db
        self._now = now
        self._files = files
        unfinished = read_unfinished(db)
        self._was_pending = unfinished is not None
        if which is None and unfinished and not unfinished.is_removed:
            raise RefusedError(
                "the command was interrupted before everything was removed from the tables",
                "run it again as it was, `memctl erase` or `memctl redact`; nothing was changed",
            )
        text = text_of(which)
        self._found = Erasable(
            db,
            set() if text else self._named(which),
            text,
            keep_knowledge=which is not None and which.keep_knowledge,
            now=now,
        )
        self._require_not_held()

    def _named(self, which: ErasureFilter | None) -> set[Name]:
        """Return the names that were specified, without those that were erased before a kill."""
        if which is not None:
            return _names(self._db, which, all_must_exist=not self._was_pending)
        if not self._was_pending:
            raise NotFoundError("no erasure was interrupted", "nothing was changed")
        return set()

    def preview(self) -> Removal:
        """Return what would be removed; only reads."""
        return self._found.preview()

    def remove(self, batches: "Batches", *, run_id: int | None) -> Removal:
        """Remove the rows, and note that their remains must be overwritten."""
        removal = Removal()
        overwriting.delete_securely(self._db)
        with transaction(self._db):
            mark_unfinished(self._db, is_removed=False, now=self._now)
        for numbers, change in self._found.steps(removal):
            batches.apply(numbers, change, doing="erasing")
        if removal.places["memory_holds"]:
            batches.apply_at_once(lambda: renew_triggers(self._db))
        batches.apply_at_once(lambda: self._record(removal, run_id))
        return self._found.completed(removal)

    def overwrite(
        self,
        database: Path,
        removal: Removal,
        batches: "Batches",
        *,
        spool: Path | None,
        wait: float,
        force: bool,
        avoid_vacuum: bool,
    ) -> Overwritten:
        """Overwrite the remains in the files, and search these for what was removed.

        Readers of the write-ahead log have `wait` seconds to end. `force` rewrites a large file
        although another program writes. To `avoid_vacuum`, the file is only rewritten if the search
        finds remains.
        """
        if spool is not None:
            removal.count("spool", overwrite_spool(spool, self._found.in_messages(removal)))
        done = overwriting.overwrite(
            self._db,
            database,
            removal.fragments,
            self._files,
            batches,
            always_vacuum=self._was_pending or not avoid_vacuum,
            wait=wait,
            force=force,
            more_files=[] if spool is None else [spool],
        )
        if done.is_clean:
            with transaction(self._db):
                mark_finished(self._db)
        return done

    def _record(self, removal: Removal, run_id: int | None) -> None:
        """Record the event of the run, with numbers only, and that only bytes are left."""
        mark_unfinished(self._db, is_removed=True, now=self._now)
        self._db.execute(
            "INSERT INTO memory_events (at, event, run_id, detail)"
            " VALUES (?, 'memory:erased', ?, ?)",
            (
                to_text(self._now),
                run_id,
                json.dumps({"memories": removal.memories, "rows": removal.places.total()}),
            ),
        )

    def _require_not_held(self) -> None:
        """Raise RefusedError if a version of a memory, or its name, is held."""
        held = sum(
            any(self._is_held(version) for version in rows.versions) or self._is_name_held(name)
            for name, rows in self._found.rows.found.items()
        )
        if held:
            raise RefusedError(
                f"{held:,} of {counted(len(self._found.names), 'memory')} to erase "
                f"{'is' if held == 1 else 'are'} held",
                "see `memctl holds`, and end the holds with `memctl release` first; nothing was"
                " erased",
            )

    def _is_held(self, version: Version) -> bool:
        query = f"SELECT 1 FROM {version.table} WHERE rowid = :row AND {is_held(version.table)}"
        parameters = {"row": version.rowid, **held_parameter(self._now)}
        return self._db.execute(query, parameters).fetchone() is not None

    def _is_name_held(self, name: Name) -> bool:
        """Return whether a hold is on the name, perhaps without a memory."""
        condition, parameters = of_name(name)
        query = f"SELECT 1 FROM memory_holds WHERE {condition} AND {in_force(row='memory_holds')}"
        found = self._db.execute(query, {**parameters, **held_parameter(self._now)})
        return found.fetchone() is not None


def _names(db: Connection, which: ErasureFilter, *, all_must_exist: bool) -> set[Name]:
    """Return the names of an agent's memories with these ids, or of this type and key.

    If `all_must_exist`, raises NotFoundError if one is in no table; the message must not name it,
    since the ledger records it.
    """
    agent = to_bytes(which.agent or "")
    if not which.ids:
        name = Name(which.agent or "", which.type or "", which.key or "")
        rows = RowsByName(db, [name]).found[name]
        if rows.versions or rows.events or _is_linked(db, name):
            return {name}
        if all_must_exist:
            raise _not_found("this type and key")
        return set()
    found: set[Name] = set()
    for memory_id in which.ids:
        with_id = _names_with_id(db, agent, to_bytes(memory_id))
        if not with_id and all_must_exist:
            raise _not_found("one of these ids" if len(which.ids) > 1 else "this id")
        found |= with_id
    return found


def _not_found(what: str) -> NotFoundError:
    return NotFoundError(
        f"the agent has no memory with {what}, active or archived, and no events of one",
        "see `memctl list` and `memctl archived`; nothing was erased",
    )


def _is_linked(db: Connection, name: Name) -> bool:
    condition, parameters = of_name(name)
    query = f"SELECT 1 FROM memory_promotions WHERE {condition}"
    return db.execute(query, parameters).fetchone() is not None


# The archive appends a suffix, which begins with a tilde, to an id that an active memory needs.
WITH_ID = {
    "agent_memory": "id = CAST(:id AS TEXT)",
    "archived_memories": """
        (
            id = CAST(:id AS TEXT)
            OR id >= CAST(:id || '~' AS TEXT) AND id < CAST(:id || x'7f' AS TEXT)
        )
    """,
    "memory_events": "memory_id = CAST(:id AS TEXT) AND key IS NOT NULL",
}


def _names_with_id(db: Connection, agent: bytes, memory_id: bytes) -> set[Name]:
    """Return the names of an agent's memories with an id; of events, only if no memory has it."""
    for tables in (get_args(MemoryTable), ("memory_events",)):
        found = {
            name_of(row)
            for table in tables
            for row in db.execute(
                f"SELECT {NAME} FROM {table}"
                f" WHERE agent_id = CAST(:agent AS TEXT) AND {WITH_ID[table]}",
                {"agent": agent, "id": memory_id},
            )
        }
        if found:
            return found
    return set()
