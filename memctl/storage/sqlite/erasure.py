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
from memctl.storage.fragments import Fragments
from memctl.storage.spool import overwrite_spool
from memctl.storage.sqlite import overwriting
from memctl.storage.sqlite.database import MemoryTable, transaction
from memctl.storage.sqlite.erased_rows import PENDING
from memctl.storage.sqlite.erasing import (
    blank_runs,
    in_messages,
    noted,
    preview_rows,
    remove_rows,
    runs_with,
    types_gone,
)
from memctl.storage.sqlite.erasing_text import TextSearch, Traces, forms_of
from memctl.storage.sqlite.features import renew_triggers
from memctl.storage.sqlite.holds import held_parameter, in_force, is_held
from memctl.storage.sqlite.knowledge_of_memories import TABLE as KNOWLEDGE
from memctl.storage.sqlite.knowledge_of_memories import decide_on_entries, delete_entries
from memctl.storage.sqlite.named_rows import NAME, RowsByName, Version, name_of, of_name
from memctl.storage.sqlite.raw_files import RawFiles
from memctl.storage.sqlite.state import delete_state, read_state, write_state
from memctl.storage.text import to_bytes
from memctl.storage.times import to_text
from memctl.storage.tombstones import Name

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches


class SqliteErasure:
    """Memories to be erased; see `storage.store.Erasure`."""

    def __init__(
        self, db: Connection, which: ErasureFilter | None, files: RawFiles, *, now: datetime
    ) -> None:
        self._db = db
        self._now = now
        self._files = files
        pending = read_state(db, PENDING)
        self._was_pending = pending is not None
        if which is None and pending is not None and not pending.get("removed", True):
            raise RefusedError(
                "the command was interrupted before everything was removed from the tables",
                "run it again as it was, `memctl erase` or `memctl redact`; nothing was changed",
            )
        self._forms = forms_of(which.text) if which and which.text is not None else set()
        search = TextSearch(db, self._forms, which.agent if which else None)
        self._names = sorted(search.names() if self._forms else self._named(which), key=repr)
        self._rows = RowsByName(db, self._names)
        keep = which is not None and which.keep_knowledge
        self._entries = decide_on_entries(db, self._rows.found, keep=keep)
        self._traces = Traces()
        if self._forms:
            types = types_gone(db, self._rows.found)
            self._traces = search.traces(self._rows, self._entries, types, now)
        self._require_not_held()

    def _named(self, which: ErasureFilter | None) -> set[Name]:
        """Return the names that were specified, without those that were erased before a kill."""
        if which is not None:
            return _names(self._db, which, all_must_exist=not self._was_pending)
        if not self._was_pending:
            raise NotFoundError("no erasure was interrupted", "nothing was changed")
        return set()

    def preview(self) -> Removal:
        removal = preview_rows(self._db, self._rows)
        removal.listed = self._names
        removal.count(KNOWLEDGE, len(self._entries.deleted))
        for trace in self._traces.found:
            removal.count(trace.table, 1)
        removal.count("memory_runs", len(self._runs(removal)))
        return self._completed(removal)

    def remove(self, batches: "Batches", *, run_id: int | None) -> Removal:
        removal = Removal()
        overwriting.delete_securely(self._db)
        with transaction(self._db):
            write_state(self._db, PENDING, {"since": to_text(self._now), "removed": False})

        def remove_entries(numbers: str) -> None:
            found = [self._entries.deleted[number] for number in json.loads(numbers)]
            removal.count(KNOWLEDGE, delete_entries(self._db, found))

        def remove_memories(numbers: str) -> None:
            names = [self._names[number] for number in json.loads(numbers)]
            removal.add(remove_rows(self._db, names, self._rows, now=self._now))

        def remove_traces(numbers: str) -> None:
            for number in json.loads(numbers):
                trace = self._traces.found[number]
                removal.count(trace.table, trace.remove(self._db))

        def blank(runs: str) -> None:
            removal.count("memory_runs", blank_runs(self._db, json.loads(runs)))

        # The memories last: if memctl is killed, the same command finds them, and the rest by them.
        doing = "erasing"
        batches.apply(range(len(self._entries.deleted)), remove_entries, doing=doing)
        batches.apply(range(len(self._traces.found)), remove_traces, doing=doing)
        batches.apply(self._runs(noted(self._rows.found)), blank, doing=doing)
        if self._names:
            batches.apply(range(len(self._names)), remove_memories, doing=doing)
        else:  # copies of memories that are gone
            batches.apply_at_once(lambda: remove_memories("[]"))
        batches.apply(self._runs(removal), blank, doing=doing)
        if removal.places["memory_holds"]:
            batches.apply_at_once(lambda: renew_triggers(self._db))
        batches.apply_at_once(lambda: self._record(removal, run_id))
        return self._completed(removal)

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
        if spool is not None:
            removal.count("spool", overwrite_spool(spool, self._in_messages(removal)))
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
                delete_state(self._db, PENDING)
        return done

    def _in_messages(self, removal: Removal) -> Fragments:
        return in_messages(self._names, removal.texts, removal.names | self._forms)

    def _runs(self, removal: Removal) -> list[int]:
        return runs_with(self._db, self._in_messages(removal))

    def _completed(self, removal: Removal) -> Removal:
        """Add what stays, and the text that was searched for."""
        removal.kept.update(self._entries.kept)
        removal.kept.update(self._traces.kept)
        removal.names |= self._forms
        return removal

    def _record(self, removal: Removal, run_id: int | None) -> None:
        """Record the event of the run, with numbers only, and that only bytes are left."""
        write_state(self._db, PENDING, {"since": to_text(self._now), "removed": True})
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
            for name, rows in self._rows.found.items()
        )
        if held:
            raise RefusedError(
                f"{held:,} of {counted(len(self._names), 'memory')} to erase "
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
