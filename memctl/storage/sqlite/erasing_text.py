"""Find everything of memctl that contains a text, to erase it.

Rows that name a memory select the memory. Others are deleted, or blanked where something depends on
the row. A text is also found as JSON writes it: between the quotes of a string, with escapes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple, get_args

from memctl.errors import RefusedError, UsageError
from memctl.storage.erasure import ErasureFilter
from memctl.storage.fragments import LEAST
from memctl.storage.memory import TYPES
from memctl.storage.sqlite import knowledge_of_memories as knowledge
from memctl.storage.sqlite.candidates import NOTE
from memctl.storage.sqlite.database import MemoryTable, table_exists
from memctl.storage.sqlite.erasing import (
    BLANK_EVENT,
    BLANK_TYPE,
    ERASED_ERROR,
    KEPT_DETAILS,
    strings_in,
)
from memctl.storage.sqlite.knowledge import COLUMNS as ENTRY_COLUMNS
from memctl.storage.sqlite.named_rows import NAME, RowsByName, name_of, stored
from memctl.storage.sqlite.pause import STATE_KEY as PAUSE
from memctl.storage.sqlite.row_portions import column_names, numbered_rows
from memctl.storage.text import forms_in_json, from_bytes, stored_bytes, to_bytes
from memctl.storage.times import to_text
from memctl.storage.tombstones import Name

DELETED_STATE = (NOTE.encode(), b"alert:", b"undelivered:")
CONTENT = ("id", "key", "value", "metadata")
# Columns with words of memctl, and the name of the agent, which is not erased.
NOT_SEARCHED = (*CONTENT, "agent_id", "type", "archived_reason")
KNOWN_TYPES = {type_.encode() for type_ in TYPES}
KEPT = {detail.encode() for detail in KEPT_DETAILS}
TIME = re.compile(rb"[-+0-9:.,TZ ]*")
IN_STATE = "in the state of memctl"


def _is_no_time(text: bytes | None) -> bool:
    """Return whether a text is more than the time that most columns have."""
    return text is not None and not TIME.fullmatch(text)


class Trace(NamedTuple):
    """A row, other than of a memory, that contains the text, and how the text is removed."""

    table: str
    statements: tuple[str, ...]
    parameters: tuple[Any, ...] = ()

    def remove(self, db: Connection) -> int:
        """Remove the text from the row; return 1, or 0 if the row is gone."""
        *_, changed = [db.execute(each, self.parameters).rowcount for each in self.statements]
        return changed


@dataclass
class Traces:
    """What contains the text besides memories, and how many rows stay, by the reason."""

    found: list[Trace] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)

    def keep(self, reason: str) -> None:
        """Count a row that stays."""
        self.kept[reason] = self.kept.get(reason, 0) + 1


class ErasedText(NamedTuple):
    """A text that an erasure searches for, in all its forms; memories with it are erased."""

    forms: frozenset[bytes]
    agent: str | None  # None: of all agents


def text_of(which: ErasureFilter | None) -> ErasedText | None:
    """Return the text of a filter, if it has one. Raises UsageError if it occurs by chance."""
    if which is None or which.text is None:
        return None
    if len(to_bytes(which.text)) < LEAST:
        raise UsageError(
            f"the text to match has fewer than {LEAST} bytes", "specify more of it; case matters"
        )
    return ErasedText(frozenset(forms_in_json(which.text)), which.agent)


class TextSearch:
    """The search for a text, of an agent and of no agent, or of all agents.

    It only reads, in short transactions.
    """

    def __init__(self, db: Connection, text: ErasedText) -> None:
        self._db = db
        self._forms = text.forms
        self._agent = None if text.agent is None else to_bytes(text.agent)

    def names(self) -> set[Name]:
        """Return the names of the memories, present or gone, that contain the text anywhere."""
        found: set[Name] = set()
        for table in get_args(MemoryTable):
            found |= self._names_of_memories(table)
        for table in ("memory_events", "memory_promotions"):
            found |= self._names_in(table)
        return found

    def traces(
        self, rows: RowsByName, entries: knowledge.EntryDecision, types: set[Any], now: datetime
    ) -> Traces:
        """Return what contains the text besides the memories in `rows`, and what goes with them.

        Raises RefusedError if a hold in force contains it.
        """
        traces = Traces()
        ids = rows.ids
        self._add_events(traces, rows)
        self._add_holds(traces, rows, ids, now)
        self._add_idle_times(traces, ids)
        self._add_figures(traces, types)
        self._add_state(traces, ids)
        self._add_entries(traces, entries)
        return traces

    def _names_of_memories(self, table: MemoryTable) -> set[Name]:
        others = [name for name in column_names(self._db, table) if name not in NOT_SEARCHED]
        columns = (*CONTENT, *others)
        matching = [
            (rowid, agent, type_, texts[CONTENT.index("key")])
            for rowid, agent, (type_, *texts) in self._rows(table, "type", *columns)
            if self._is_of(agent)
            and (
                self._is_in_type(type_)
                or self._is_in(*texts[: len(CONTENT)], *filter(_is_no_time, texts[len(CONTENT) :]))
            )
        ]
        query = f"SELECT {NAME} FROM {table} WHERE rowid = ?"
        found = set()
        for rowid, *texts_of_name in matching:
            row = self._db.execute(query, (rowid,)).fetchone()
            # A client may have replaced the row since, perhaps with the same text.
            found.add(
                name_of(row) if row else Name(*(stored("text", one) for one in texts_of_name))
            )
        return found

    def _names_in(self, table: str) -> set[Name]:
        """Return the names in a table whose type or key contains the text."""
        if not table_exists(self._db, table):
            return set()
        query = f"SELECT DISTINCT CAST(agent_id AS BLOB), {NAME} FROM {table} WHERE key IS NOT NULL"
        return {
            name_of(columns)
            for agent, *columns in self._db.execute(query)
            if self._is_of(agent) and (self._is_in_type(columns[3]) or self._is_in(columns[5]))
        }

    def _add_events(self, traces: Traces, rows: RowsByName) -> None:
        known = {event for of_name in rows.found.values() for event in of_name.events}
        for rowid, agent, (type_, detail, *texts) in self._rows(
            "memory_events", "type", "detail", "memory_id", "key"
        ):
            if rowid in known or not self._is_of(agent):
                continue
            in_type = self._is_in_type(type_)
            if in_type or self._is_in(*texts) or (detail not in KEPT and self._is_in(detail)):
                blank = (BLANK_TYPE, BLANK_EVENT) if in_type else (BLANK_EVENT,)
                traces.found.append(Trace("memory_events", blank, (rowid,)))

    def _add_holds(self, traces: Traces, rows: RowsByName, ids: set[bytes], now: datetime) -> None:
        names = {tuple(stored_bytes(part) for part in name) for name in rows.found}
        columns = ("memory_id", "type", "key", "reason", "until")
        for rowid, agent, (memory_id, type_, key, reason, until) in self._rows(
            "memory_holds", *columns
        ):
            if not self._is_of(agent):
                continue
            if not (self._is_in_type(type_) or self._is_in(memory_id, key, reason)):
                continue
            if until is None or from_bytes(until) > to_text(now):
                raise RefusedError(
                    f"hold {rowid} contains the text", "release it first; nothing was erased"
                )
            if memory_id not in ids and (agent, type_, key) not in names:
                delete = "DELETE FROM memory_holds WHERE hold_id = ?"
                traces.found.append(Trace("memory_holds", (delete,), (rowid,)))

    def _add_idle_times(self, traces: Traces, ids: set[bytes]) -> None:
        table = "memory_idle_times"
        for rowid, texts in self._numbered(table, *column_names(self._db, table)):
            if texts[0] not in ids and self._is_in(*filter(_is_no_time, texts)):
                traces.found.append(
                    Trace(table, (f"DELETE FROM {table} WHERE rowid = ?",), (rowid,))
                )

    def _add_figures(self, traces: Traces, types: set[Any]) -> None:
        gone = {stored_bytes(type_) for type_ in types}
        for table in ("memory_analytics", "memory_access_counts"):
            for _, agent, (type_, day) in self._rows(table, "type", FIGURE_DAYS[table]):
                if self._is_of(agent) and self._is_in_type(type_) and type_ not in gone:
                    delete = f"""
                        DELETE FROM {table} WHERE agent_id = CAST(? AS TEXT)
                            AND type = CAST(? AS TEXT) AND {FIGURE_DAYS[table]} = CAST(? AS TEXT)
                    """
                    traces.found.append(Trace(table, (delete,), (agent, type_, day)))

    def _add_state(self, traces: Traces, ids: set[bytes]) -> None:
        """Notes and alerts are deleted, the reason of a pause is replaced; other state stays."""
        for _, (key, value) in self._numbered("memory_state", "key", "value"):
            texts = filter(_is_no_time, strings_in(value))
            if key is None or not self._is_in(key.partition(b":")[2], *texts):
                continue
            if key.startswith(NOTE.encode()) and key[len(NOTE) :] in ids:
                continue
            where = "WHERE key = CAST(? AS TEXT)"
            if key.startswith(DELETED_STATE):
                change = f"DELETE FROM memory_state {where}"
            elif key == PAUSE.encode():
                change = f"""
                    UPDATE memory_state SET value = json_set(value, '$.reason', '{ERASED_ERROR}')
                    {where}
                """
            else:
                traces.keep(IN_STATE)
                continue
            traces.found.append(Trace("memory_state", (change,), (key,)))

    def _add_entries(self, traces: Traces, entries: knowledge.EntryDecision) -> None:
        """Entries of memories are deleted; those of the owner stay."""
        if not knowledge.has_knowledge(self._db):
            return
        columns = sorted(ENTRY_COLUMNS)
        for _, texts in self._numbered(knowledge.TABLE, *columns):
            entry: Mapping[str, bytes | None] = dict(zip(columns, texts, strict=True))
            words = (entry["tags"] or b"").replace(f'"{knowledge.TAG}"'.encode(), b"")
            contents = (entry[name] for name in ENTRY_CONTENT)
            if not (self._is_of(entry["source_agent_id"]) and self._is_in(words, *contents)):
                continue
            if entry["id"] in entries.deleted or entry["id"] in entries.kept_ids:
                continue
            if entries.keep or not knowledge.is_tagged(entry["tags"]):
                traces.keep(knowledge.WANTED if entries.keep else knowledge.OF_OWNER)
            else:
                traces.found.append(
                    Trace(knowledge.TABLE, (knowledge.DETACH, knowledge.DELETE), (entry["id"],))
                )

    def _rows(
        self, table: str, *columns: str
    ) -> Iterator[tuple[int, bytes | None, tuple[bytes | None, ...]]]:
        """Yield the number, the agent and other columns of all rows."""
        for rowid, (agent, *texts) in self._numbered(table, "agent_id", *columns):
            yield rowid, agent, tuple(texts)

    def _numbered(
        self, table: str, *columns: str
    ) -> Iterator[tuple[int, tuple[bytes | None, ...]]]:
        if table_exists(self._db, table):
            yield from numbered_rows(self._db, table, columns, by_rowid=table not in WITHOUT_ROWID)

    def _is_of(self, agent: bytes | None) -> bool:
        return self._agent is None or agent is None or agent == self._agent

    def _is_in_type(self, type_: bytes | None) -> bool:
        """Return whether a type, which is none of the five, contains the text."""
        return type_ is not None and type_ not in KNOWN_TYPES and self._is_in(type_)

    def _is_in(self, *texts: bytes | None) -> bool:
        return any(form in text for text in texts if text is not None for form in self._forms)


FIGURE_DAYS = {"memory_analytics": "snapshot_date", "memory_access_counts": "day"}
ENTRY_CONTENT = (
    "id",
    "content",
    "file_patterns",
    "action_types",
    "source_execution_id",
    "source_task_id",
)
WITHOUT_ROWID = (*FIGURE_DAYS, "memory_state", "memory_promotions")
