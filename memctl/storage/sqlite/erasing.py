"""Remove memories for good: every version, and all that memctl's tables say about them.

The rows of the memories are deleted. Events stay, because figures are counted from them, without
what identifies the memory. A tombstone for the name and one for each value remain. Nothing here
overwrites the bytes in the file: that needs `secure_delete` and `storage.sqlite.overwriting`.

Databases of earlier schemas, such as old backups, lack some of the tables.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple, TypeGuard, get_args

from memctl.storage.erasure import Removal
from memctl.storage.fragments import SPECIFIC, Fragments
from memctl.storage.memory import TYPES
from memctl.storage.rows import REASONS, reason_detail
from memctl.storage.sqlite.archiving import own_deletes
from memctl.storage.sqlite.candidates import NOTE
from memctl.storage.sqlite.database import MemoryTable, table_exists
from memctl.storage.sqlite.named_rows import NamedRows, RowsByName, Version, of_name
from memctl.storage.sqlite.tombstones import add_tombstones, salt_of
from memctl.storage.text import stored_bytes
from memctl.storage.times import to_unix
from memctl.storage.tombstones import Name, Stored, Tombstone, hash_content, hash_name

ERASED_ERROR = "erased"  # in place of an error that contained a text of a memory

NAMES_OF_COUNTS = re.compile(rb'"[a-z_]+":')  # in memory_runs

# Details of events that name no memory: the figures and the undo of an import depend on them.
KEPT_DETAILS = (*map(reason_detail, REASONS), json.dumps({"archived": True}))


def remove_rows(
    db: Connection, names: Sequence[Name], rows: RowsByName, *, now: datetime
) -> Removal:
    """Remove the rows of some memories, of which most were found before the transaction.

    That is all but the entries of the knowledge base, which must be decided on before, and the
    messages of runs.
    """
    rows.read(names)
    found = {name: rows.found[name] for name in names}
    salt = salt_of(db) if table_exists(db, "memory_tombstones") else None
    removal = noted(found)
    types = types_gone(db, found)
    with own_deletes(db) if table_exists(db, "memory_state") else nullcontext():
        for name, of_this in found.items():
            if salt is not None:
                removal.fingerprints.append(hash_name(salt, name).hex())
                add_tombstones(db, _tombstones(salt, name, of_this.seen, now))
            for where in _rows_of(db, name, of_this):
                removal.count(where.table, where.delete(db))
            removal.count("memory_events", blank_events(db, of_this.events))
            if name.type in types:
                blank_types(db, of_this.events)
    rows.note_deleted()
    for where in (*_rows_of_types(db, types), *_replacements(db)):
        removal.count(where.table, where.delete(db))
    return removal


def preview_rows(db: Connection, rows: RowsByName) -> Removal:
    """Return what `remove_rows` would remove of all names; only reads."""
    removal = noted(rows.found)
    for name, of_this in rows.found.items():
        for where in _rows_of(db, name, of_this):
            removal.count(where.table, where.count(db))
        removal.count("memory_events", len(of_this.events))
    for where in (*_rows_of_types(db, types_gone(db, rows.found)), *_replacements(db)):
        removal.count(where.table, where.count(db))
    return removal


class Where(NamedTuple):
    """Rows of a table that are about a memory."""

    table: str
    condition: str
    parameters: Mapping[str, Any]

    def count(self, db: Connection) -> int:
        """Return their number."""
        query = f"SELECT count(*) FROM {self.table} WHERE {self.condition}"
        return int(db.execute(query, self.parameters).fetchone()[0])

    def delete(self, db: Connection) -> int:
        """Delete them and return their number."""
        statement = f"DELETE FROM {self.table} WHERE {self.condition}"
        return db.execute(statement, self.parameters).rowcount


def _rows_of(db: Connection, name: Name, rows: NamedRows) -> list[Where]:
    """Return the rows to delete with a memory, except entries of the knowledge base."""
    named, parameters = of_name(name)
    agent, of_agent = of_name(name, "agent_id")
    found = [
        Where(
            version.table,
            f"{'rowid' if version.table == 'agent_memory' else 'archive_id'} = :rowid",
            {"rowid": version.rowid},
        )
        for version in rows.versions
    ]
    found += [
        Where("memory_promotions", named, parameters),
        Where("memory_holds", named, parameters),
    ]
    for memory_id in {version.id for version in rows.seen if version.id is not None}:
        known = "IN (CAST(:id AS TEXT), :id)"
        of_id = {"id": memory_id}
        found += [
            Where("memory_holds", f"memory_id {known} AND {agent}", {**of_id, **of_agent}),
            Where("memory_idle_times", f"memory_id {known}", of_id),
            Where("memory_state", "key = CAST(:note AS TEXT)", {"note": NOTE.encode() + memory_id}),
        ]
    return [where for where in found if table_exists(db, where.table)]


def noted(found: Mapping[Name, NamedRows]) -> Removal:
    """Return the number of memories and their texts, of which nothing is removed yet."""
    removal = Removal(memories=len(found))
    for name, rows in found.items():
        removal.names.add(b"".join(stored_bytes(part) or b"" for part in name))
        if _is_long(key := stored_bytes(name.key)):
            removal.texts.add(key)
        for version in rows.seen:
            removal.texts |= texts_of(name, version)
    return removal


def texts_of(name: Name, version: Version) -> set[bytes]:
    """Return the texts of a version of which no part must remain.

    A short value is searched for together with the key before it in the record, since other records
    may have the same. Texts in JSON are also searched for without its escapes, as entries of the
    knowledge base have them.
    """
    value = stored_bytes(version.value) or b""
    texts = {text for text in (value, version.metadata, version.id) if text and _is_long(text)}
    if value and not _is_long(value):
        texts.add((stored_bytes(name.key) or b"")[-SPECIFIC:] + value)
    return texts | _texts_in_json(value) | _texts_in_json(version.metadata)


def _is_long(text: bytes | None) -> TypeGuard[bytes]:
    return text is not None and len(text) >= SPECIFIC


def _texts_in_json(document: bytes | None) -> set[bytes]:
    """Return the longer texts that JSON contains with escapes."""
    if document is None or b"\\" not in document:
        return set()
    return {text for text in strings_in(document) if _is_long(text) and text not in document}


def strings_in(document: bytes | None) -> set[bytes]:
    """Return the strings in JSON, without the names of members; none if it is not JSON."""
    try:
        values = [json.loads(document or b"null")]
    except (ValueError, RecursionError):
        return set()
    found = set()
    while values:
        value = values.pop()
        if isinstance(value, str):
            found.add(value.encode("utf-8", "replace"))
        elif isinstance(value, list):
            values += value
        elif isinstance(value, dict):
            values += value.values()
    return found


def _tombstones(
    salt: bytes, name: Name, versions: Sequence[Version], now: datetime
) -> list[Tombstone]:
    """Return a tombstone for the name, and one for each value."""
    hashed = hash_name(salt, name)
    contents = {hash_content(salt, name, version.value) for version in versions}
    return [
        Tombstone("erased", to_unix(now), salt, hashed, content)
        for content in (None, *sorted(contents))
    ]


BLANK_EVENT = f"""
    UPDATE memory_events
    SET memory_id = NULL, key = NULL, detail = CASE
        WHEN detail IN ({", ".join(f"'{detail}'" for detail in KEPT_DETAILS)}) THEN detail
    END
    WHERE event_id = ?
"""


def blank_events(db: Connection, events: Iterable[int]) -> int:
    """Remove from events what identifies a memory, and return their number."""
    return sum(db.execute(BLANK_EVENT, (event,)).rowcount for event in events)


BLANK_TYPE = "UPDATE memory_events SET type = NULL WHERE event_id = ?"


def blank_types(db: Connection, events: Iterable[int]) -> None:
    """Remove from events a type that no memory has any more."""
    db.executemany(BLANK_TYPE, ((event,) for event in events))


def types_gone(db: Connection, found: Mapping[Name, NamedRows]) -> set[Stored]:
    """Return the types, other than the five, that no other memories than these have.

    Called before these are deleted.
    """
    erased: Counter[Stored] = Counter()
    for name, rows in found.items():
        if name.type not in TYPES:
            erased[name.type] += len(rows.versions)
    tables = [table for table in get_args(MemoryTable) if table_exists(db, table)]
    return {
        type_
        for type_, count in erased.items()
        if count == sum(Where(table, *_of_type(type_)).count(db) for table in tables)
    }


def _replacements(db: Connection) -> list[Where]:
    """Return the copies of memories that statements have left which ignored a conflict."""
    table = "memory_replacements"
    return [Where(table, "TRUE", {})] if table_exists(db, table) else []


def _rows_of_types(db: Connection, types: Iterable[Stored]) -> list[Where]:
    """Return the rows of figures of these types."""
    return [
        Where(table, *_of_type(type_))
        for table in ("memory_analytics", "memory_access_counts")
        if table_exists(db, table)
        for type_ in types
    ]


def _of_type(type_: Stored) -> tuple[str, dict[str, Any]]:
    return of_name(Name(None, type_, None), "type")


def in_messages(names: Iterable[Name], texts: set[bytes], whole: set[bytes]) -> Fragments:
    """Return what recognizes the memories in error messages, where names are in quotes."""
    quoted = {b"'" + (stored_bytes(name.key) or b"") + b"'" for name in names}
    return Fragments(texts, whole | quoted)


def runs_with(db: Connection, texts: Fragments) -> list[int]:
    """Return the runs whose error or counts contain a text."""
    if not table_exists(db, "memory_runs"):
        return []
    return [
        run_id
        for run_id, error, counts in db.execute(
            "SELECT run_id, CAST(ifnull(error, '') AS BLOB), CAST(ifnull(counts, '') AS BLOB)"
            " FROM memory_runs"
        )
        if texts.of(error) or texts.of(NAMES_OF_COUNTS.sub(b"", counts))
    ]


def blank_runs(db: Connection, runs: Iterable[int]) -> int:
    """Remove the errors and counts of runs, and return their number."""
    blank = "UPDATE memory_runs SET error = iif(error IS NULL, NULL, ?), counts = NULL"
    return sum(
        db.execute(f"{blank} WHERE run_id = ?", (ERASED_ERROR, run_id)).rowcount for run_id in runs
    )
