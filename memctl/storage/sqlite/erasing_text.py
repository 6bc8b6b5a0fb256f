"""Find everything of memctl that contains a text, to erase it.

Rows that name a memory select the memory; the rest is deleted, or blanked where something depends
on the row. A text is also found as JSON writes it: between the quotes of a string, with escapes.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple, get_args

from memctl.errors import RefusedError, UsageError
from memctl.storage.fragments import LEAST
from memctl.storage.sqlite.candidates import NOTE
from memctl.storage.sqlite.database import MemoryTable, table_exists
from memctl.storage.sqlite.erasing import BLANK_EVENT, ERASED_ERROR
from memctl.storage.sqlite.knowledge import COLUMNS
from memctl.storage.sqlite.knowledge_of_memories import TABLE as KNOWLEDGE
from memctl.storage.sqlite.knowledge_of_memories import has_knowledge, is_tagged
from memctl.storage.sqlite.named_rows import NAME, name_of
from memctl.storage.sqlite.row_portions import column_names, numbered_rows, rows_in_portions
from memctl.storage.text import from_bytes, to_bytes
from memctl.storage.times import to_text
from memctl.storage.tombstones import Name


class Trace(NamedTuple):
    """A row, other than of a memory, that contains the text, and the statement that removes it."""

    table: str
    statement: str
    parameters: tuple[Any, ...]

    def remove(self, db: Connection) -> int:
        """Remove the text from the row; return 1, or 0 if the row is gone."""
        return db.execute(self.statement, self.parameters).rowcount


@dataclass
class Matches:
    """What contains the text: memories, by their names, other rows, and rows that stay."""

    names: set[Name] = field(default_factory=set)
    traces: list[Trace] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)  # by the reason


def forms_of(text: str) -> set[bytes]:
    """Return the bytes of a text, also as JSON has them within a string.

    Raises UsageError for a text that occurs by chance.
    """
    if len(to_bytes(text)) < LEAST:
        raise UsageError(
            f"the text to match has fewer than {LEAST} bytes", "specify more of it; case matters"
        )
    plain = to_bytes(text)
    try:
        return {
            plain,
            *(json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode() for is_ascii in (True, False)),
        }
    except UnicodeEncodeError:  # it is not valid UTF-8, and JSON cannot contain it
        return {plain}


def find_text(
    db: Connection, text: str, *, agent: str | None, keep_knowledge: bool, now: datetime
) -> Matches:
    """Return everything that contains a text, of an agent and of no agent, or of all agents.

    Reads only, in short transactions. Raises RefusedError if a hold in force contains the text.
    """
    search = _Search(db, forms_of(text), None if agent is None else to_bytes(agent))
    for table in get_args(MemoryTable):
        search.memories(table)
    for table in ("memory_events", "memory_promotions", "memory_replacements"):
        search.names(table)
    search.events()
    search.holds(now)
    search.rows("memory_idle_times")
    search.rows("memory_replacements")
    search.figures()
    search.runs()
    search.state()
    search.knowledge(keep=keep_knowledge)
    return search.found


class _Search:
    """The search for one text."""

    def __init__(self, db: Connection, forms: set[bytes], agent: bytes | None) -> None:
        self.found = Matches()
        self._db = db
        self._forms = forms
        self._agent = agent

    def memories(self, table: MemoryTable) -> None:
        """Find memories of which any column but the name of the agent contains the text."""
        columns = (
            "agent_id",
            *(name for name in column_names(self._db, table) if name != "agent_id"),
        )
        if len(columns) == 1:
            return
        matching = [
            rowid
            for rowid, (agent, *texts) in numbered_rows(self._db, table, columns)
            if self._is_of(agent) and self._is_in(*texts)
        ]
        for rowid in matching:
            row = self._db.execute(
                f"SELECT {NAME} FROM {table} WHERE rowid = ?", (rowid,)
            ).fetchone()
            if row is not None:
                self.found.names.add(name_of(row))

    def names(self, table: str) -> None:
        """Find memories whose type or key contains the text, which may be gone."""
        if not table_exists(self._db, table):
            return
        query = f"SELECT DISTINCT CAST(agent_id AS BLOB), {NAME} FROM {table} WHERE key IS NOT NULL"
        for agent, *columns in self._db.execute(query):
            if agent is not None and self._is_of(agent) and self._is_in(columns[3], columns[5]):
                self.found.names.add(name_of(columns))

    def events(self) -> None:
        """Find events that contain it elsewhere."""
        table = "memory_events"
        columns = ("agent_id", "memory_id", "type", "key", "detail")
        for rowid, (agent, *texts) in self._numbered(table, columns):
            if self._is_of(agent) and self._is_in(*texts):
                self._add(table, BLANK_EVENT, rowid)
                if self._is_in(texts[1]):
                    self.found.traces.append(
                        Trace(
                            "", "UPDATE memory_events SET type = NULL WHERE event_id = ?", (rowid,)
                        )
                    )

    def holds(self, now: datetime) -> None:
        """Find holds that have ended; refuse if one in force contains it."""
        table = "memory_holds"
        columns = ("agent_id", "memory_id", "type", "key", "reason", "until")
        for rowid, (agent, *texts, until) in self._numbered(table, columns):
            if not (self._is_of(agent) and self._is_in(*texts)):
                continue
            if until is None or from_bytes(until) > to_text(now):
                raise RefusedError(
                    f"hold {rowid} contains the text", "release it first; nothing was erased"
                )
            self._add(table, f"DELETE FROM {table} WHERE rowid = ?", rowid)

    def rows(self, table: str) -> None:
        """Find rows that can be deleted."""
        if not table_exists(self._db, table):
            return
        for rowid, texts in self._numbered(table, column_names(self._db, table)):
            if self._is_in(*texts):
                self._add(table, f"DELETE FROM {table} WHERE rowid = ?", rowid)

    def figures(self) -> None:
        """Find figures of a type that contains it."""
        for table in ("memory_analytics", "memory_access_counts"):
            if not table_exists(self._db, table):
                continue
            query = f"SELECT DISTINCT CAST(agent_id AS BLOB), CAST(type AS BLOB) FROM {table}"
            for agent, type_ in self._db.execute(query).fetchall():
                if self._is_of(agent) and self._is_in(type_):
                    condition = "agent_id = CAST(? AS TEXT) AND type = CAST(? AS TEXT)"
                    self._add(table, f"DELETE FROM {table} WHERE {condition}", agent, type_)

    def runs(self) -> None:
        """Find runs whose error or counts contain it."""
        table = "memory_runs"
        for rowid, (error, counts) in self._numbered(table, ("error", "counts")):
            if self._is_in(error):
                self._add(
                    table, f"UPDATE {table} SET error = ? WHERE run_id = ?", ERASED_ERROR, rowid
                )
            if self._is_in(counts):
                self._add(table, f"UPDATE {table} SET counts = NULL WHERE run_id = ?", rowid)

    def state(self) -> None:
        """Find notes, alerts and the reason of a pause; other state stays."""
        table = "memory_state"
        if not table_exists(self._db, table):
            return
        for key, value in list(rows_in_portions(self._db, table, by_rowid=False)):
            if key is None or not self._is_in(key, value):
                continue
            where = "WHERE key = CAST(? AS TEXT)"
            if key.startswith(DELETED_STATE):
                self._add(table, f"DELETE FROM {table} {where}", key)
            elif key == b"pause" and value is not None:
                blank = json.dumps({**json.loads(value), "reason": ERASED_ERROR})
                self._add(table, f"UPDATE {table} SET value = ? {where}", blank, key)
            else:
                self._keep("in the state of memctl")

    def knowledge(self, *, keep: bool) -> None:
        """Find entries that came from memories; those of the owner stay."""
        if not has_knowledge(self._db):
            return
        columns = sorted(COLUMNS)
        for rowid, row in self._numbered(KNOWLEDGE, tuple(columns)):
            entry: Mapping[str, bytes | None] = dict(zip(columns, row, strict=True))
            if not (self._is_of(entry["source_agent_id"]) and self._is_in(*row)):
                continue
            if keep or not is_tagged(entry["tags"]):
                self._keep("kept on request" if keep else "not made by promote")
                continue
            superseded = (
                f"UPDATE {KNOWLEDGE} SET superseded_by = NULL WHERE superseded_by = CAST(? AS TEXT)"
            )
            self.found.traces.append(Trace("", superseded, (entry["id"],)))
            self._add(KNOWLEDGE, f"DELETE FROM {KNOWLEDGE} WHERE rowid = ?", rowid)

    def _numbered(
        self, table: str, columns: tuple[str, ...]
    ) -> Iterator[tuple[int, tuple[bytes | None, ...]]]:
        if table_exists(self._db, table):
            yield from numbered_rows(self._db, table, columns)

    def _add(self, table: str, statement: str, *parameters: Any) -> None:
        self.found.traces.append(Trace(table, statement, parameters))

    def _keep(self, reason: str) -> None:
        self.found.kept[reason] = self.found.kept.get(reason, 0) + 1

    def _is_of(self, agent: bytes | None) -> bool:
        return self._agent is None or agent is None or agent == self._agent

    def _is_in(self, *texts: bytes | None) -> bool:
        return any(form in text for text in texts if text is not None for form in self._forms)


DELETED_STATE = (NOTE.encode(), b"alert:", b"undelivered:")
