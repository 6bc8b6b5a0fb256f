"""Replace texts in memories by a marker: in every version, and in what memctl's tables say of them.

Ids, times and importance stay, and so do links to the knowledge base: their hashes are those of the
new texts, so that nothing is promoted again. Nothing here overwrites the bytes in the file: that
needs `secure_delete` and `storage.sqlite.overwriting`.

Databases of earlier schemas, such as old backups, lack some of the tables.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from sqlite3 import Connection
from typing import Any, NamedTuple, get_args

from memctl.errors import SchemaError
from memctl.storage.checksum import sha256
from memctl.storage.entry_text import content_hash
from memctl.storage.knowledge import ENTRY_TYPES
from memctl.storage.redaction import Find, redacted
from memctl.storage.sqlite.archiving import own_deletes
from memctl.storage.sqlite.database import MemoryTable, table_exists
from memctl.storage.sqlite.events import record_events
from memctl.storage.sqlite.knowledge_of_memories import TABLE as KNOWLEDGE
from memctl.storage.sqlite.knowledge_of_memories import entries_of
from memctl.storage.sqlite.named_rows import NamedRows, RowsByName, all_names, bound, of_name
from memctl.storage.sqlite.triggers import foreign_triggers
from memctl.storage.text import from_bytes, stored_bytes
from memctl.storage.times import to_sqlite_text, to_unix
from memctl.storage.tombstones import Name, Tombstone, Tombstones, hash_name, hash_secret

MEMORY_TABLES: Sequence[MemoryTable] = get_args(MemoryTable)
VALUES = ("value", "metadata")
ENTRY_TEXTS = (
    "content",
    "file_patterns",
    "action_types",
    "tags",
    "source_execution_id",
    "source_task_id",
)


@dataclass
class Redaction:
    """What was replaced: rows by table, and the texts, of which no byte must remain."""

    places: Counter[str] = field(default_factory=Counter)
    occurrences: int = 0  # in memories
    texts: set[bytes] = field(default_factory=set, repr=False)

    @property
    def memories(self) -> int:
        """The number of versions of memories."""
        return sum(self.places[table] for table in MEMORY_TABLES)

    def add(self, other: "Redaction") -> None:
        """Add what another redaction has replaced."""
        self.places.update(other.places)
        self.occurrences += other.occurrences
        self.texts |= other.texts


class Place(NamedTuple):
    """Columns of a row that may contain a text."""

    table: str
    number: str  # the column that identifies the row
    row: int
    columns: tuple[str, ...]


# The rows that were changed, by the table of memories.
ChangedRows = Mapping[MemoryTable, Sequence[int]]


def preview_redaction(db: Connection, name: Name, find: Find) -> Redaction:
    """Return what `redact_memory` would replace now; only reads."""
    rows = RowsByName(db, [name]).found[name]
    redaction, _ = _changes(db, _places(db, name, rows, entries_of(db, {name: rows})), find)
    return redaction


def old_places(db: Connection, name: Name, rows: NamedRows) -> list[Place]:
    """Return the places, of which there may be many, that no other program changes; only reads."""
    found = _places(db, name, rows, ())
    return [place for place in found if place.table in ("archived_memories", "memory_events")]


def redact_places(
    db: Connection, places: Iterable[Place], find: Find, *, now: datetime
) -> tuple[Redaction, ChangedRows]:
    """Replace texts in some rows; called in a transaction.

    Raises RefusedError if a text cannot be replaced, and SchemaError if a foreign trigger
    interferes.
    """
    redaction, changes = _changes(db, places, find)
    with own_deletes(db) if table_exists(db, "memory_state") else nullcontext():
        for place, columns in changes:
            _write(db, place, columns, now)
    return redaction, {
        table: [place.row for place, _ in changes if place.table == table]
        for table in MEMORY_TABLES
    }


def redact_memory(
    db: Connection,
    name: Name,
    rows: RowsByName,
    find: Find,
    *,
    hashes: Mapping[str, str],
    now: datetime,
    done: Collection[Place] = frozenset(),
) -> tuple[Redaction, ChangedRows]:
    """Replace texts in all versions of a memory except what is done; called in a transaction.

    `rows` is what was found before the transaction, and `hashes` those of `promotion_hashes`.
    Returns what was replaced, and the numbers of the changed memories. Raises the errors of
    `redact_places`.
    """
    rows.read([name])
    of_this = rows.found[name]
    places = _places(db, name, of_this, entries_of(db, {name: of_this}))
    result = redact_places(db, (place for place in places if place not in done), find, now=now)
    if table_exists(db, "memory_replacements"):  # what an ignored INSERT has left there
        condition, parameters = of_name(name)
        db.execute(f"DELETE FROM memory_replacements WHERE {condition}", parameters)
    _renew_link(db, name, hashes)
    return result


def record_redaction(
    db: Connection,
    changed: ChangedRows,
    *,
    now: datetime,
    run_id: int | None,
) -> None:
    """Record an event for each version that was changed; called in the transaction."""
    for table, numbers in changed.items():
        record_events(
            db, "memory:redacted", table, json.dumps(list(numbers)), now=now, run_id=run_id
        )


def redaction_tombstones(
    salt: bytes, name: Name, texts: Iterable[bytes], *, now: datetime
) -> list[Tombstone]:
    """Return what keeps texts from coming back in a memory of this name."""
    return [
        Tombstone(
            "redacted",
            to_unix(now),
            salt,
            hash_name(salt, name),
            secret_hash=hash_secret(salt, text),
            secret_bytes=len(text),
        )
        for text in sorted(texts)
    ]


def redact_memories(db: Connection, tombstones: Tombstones, *, now: datetime) -> Redaction:
    """Replace in a database what was redacted in another, such as in the one it is a backup of.

    Called in a transaction. Returns what was replaced. Neither events nor tombstones are added.
    """
    redaction = Redaction()
    for name in names_with_redactions(db, tombstones):

        def find(content: bytes, name: Name = name) -> list[bytes]:
            return tombstones.secrets_in(name, content)

        rows = RowsByName(db, [name])
        hashes = promotion_hashes(db, name, rows.found[name], find)
        replaced, _ = redact_memory(db, name, rows, find, hashes=hashes, now=now)
        redaction.add(replaced)
    return redaction


def names_with_redactions(db: Connection, tombstones: Tombstones) -> list[Name]:
    """Return the memories in which a text was redacted; only reads."""
    if not tombstones:
        return []
    return sorted((name for name in all_names(db) if tombstones.has("redacted", name)), key=repr)


def _changes(
    db: Connection, places: Iterable[Place], find: Find
) -> tuple[Redaction, list[tuple[Place, dict[str, tuple[str, bytes]]]]]:
    """Return what is to be replaced, and the new type and bytes of each column."""
    redaction = Redaction()
    changes = []
    for place in places:
        changed = {}
        for column, (kind, content) in read_texts(db, *place).items():
            new, texts = redacted(content, find)
            if texts:
                changed[column] = (kind, new)
                redaction.texts.update(texts)
                if place.table in MEMORY_TABLES:
                    redaction.occurrences += sum(content.count(text) for text in texts)
        if changed:
            changes.append((place, changed))
            redaction.places[place.table] += 1
    return redaction, changes


def _places(
    db: Connection, name: Name, rows: NamedRows, entries: Iterable[bytes]
) -> Iterator[Place]:
    """Yield the rows that may contain a text."""
    for version in rows.versions:
        yield Place(version.table, "rowid", version.rowid, VALUES)
    if table_exists(db, "memory_events"):
        numbers = json.dumps(rows.events)
        for (event_id,) in db.execute(
            "SELECT event_id FROM memory_events WHERE detail IS NOT NULL"
            " AND event_id IN (SELECT value FROM json_each(?))",
            (numbers,),
        ).fetchall():
            yield Place("memory_events", "event_id", event_id, ("detail",))
    if table_exists(db, "memory_holds"):
        condition, parameters = of_name(name, "agent_id")
        query = f"SELECT hold_id FROM memory_holds WHERE {condition} AND reason IS NOT NULL"
        for (hold_id,) in db.execute(query, parameters).fetchall():
            yield Place("memory_holds", "hold_id", hold_id, ("reason",))
    for entry in entries:
        found = db.execute(
            f"SELECT rowid FROM {KNOWLEDGE} WHERE id = CAST(? AS TEXT)", (entry,)
        ).fetchone()
        if found:
            yield Place(KNOWLEDGE, "rowid", found[0], ENTRY_TEXTS)


def read_texts(
    db: Connection, table: str, number: str, row: int, columns: Collection[str]
) -> dict[str, tuple[str, bytes]]:
    """Return the type and the bytes of the columns of a row that have text or a BLOB."""
    selected = ", ".join(f"typeof({column}), CAST({column} AS BLOB)" for column in columns)
    found = db.execute(f"SELECT {selected} FROM {table} WHERE {number} = ?", (row,)).fetchone()
    if found is None:  # in a preview, a client may have deleted the row
        return {}
    return {
        column: (kind, content)
        for column, kind, content in zip(columns, found[::2], found[1::2], strict=True)
        if kind in ("text", "blob")
    }


def _write(
    db: Connection, place: Place, changed: Mapping[str, tuple[str, bytes]], now: datetime
) -> None:
    """Write the new contents of a row. Raises SchemaError if they are not there afterwards."""
    terms = [f"{column} = {bound(column, kind)}" for column, (kind, _) in changed.items()]
    parameters: dict[str, Any] = {column: new for column, (_, new) in changed.items()}
    if place.table == KNOWLEDGE:
        terms.append("updated_at = :now")
        parameters["now"] = to_sqlite_text(now)
    db.execute(
        f"UPDATE {place.table} SET {', '.join(terms)} WHERE {place.number} = :number",
        {**parameters, "number": place.row},
    )
    if read_texts(db, *place[:3], list(changed)) != changed:
        triggers = ", ".join(foreign_triggers(db))
        raise SchemaError(
            f"a trigger of another program changes what is written ({triggers})",
            "the interrupted step was rolled back; change the trigger in the program that created"
            " it",
        )


def promotion_hashes(db: Connection, name: Name, rows: NamedRows, find: Find) -> dict[str, str]:
    """Return the hashes of promoted texts after the redaction by those before it; only reads."""
    hashes: dict[str, str] = {}
    for version in rows.versions:
        value, metadata = stored_bytes(version.value) or b"", version.metadata
        new_value, _ = redacted(value, find)
        new_metadata = None if metadata is None else redacted(metadata, find)[0]
        old = hash_of_texts(name, value, metadata)
        new = hash_of_texts(name, new_value, new_metadata)
        if old is not None and new is not None:
            hashes[old] = new
    for entry in entries_of(db, {name: rows}):
        found = db.execute(
            f"SELECT CAST(content AS BLOB) FROM {KNOWLEDGE} WHERE id = CAST(? AS TEXT)", (entry,)
        ).fetchone()
        if found and found[0] is not None:
            hashes.setdefault(sha256(found[0]), sha256(redacted(found[0], find)[0]))
    return hashes


def hash_of_texts(name: Name, value: bytes, metadata: bytes | None) -> str | None:
    """Return the hash of the entry that a memory becomes; None if its type is not promoted."""
    if not isinstance(name.type, str) or name.type not in ENTRY_TYPES:
        return None
    return content_hash(
        name.type,
        from_bytes(stored_bytes(name.key) or b""),
        from_bytes(value),
        None if metadata is None else from_bytes(metadata),
    )


def _renew_link(db: Connection, name: Name, hashes: Mapping[str, str]) -> None:
    """Replace the hash of the promoted text."""
    if not table_exists(db, "memory_promotions"):
        return
    condition, parameters = of_name(name)
    for old, new in hashes.items():
        if old != new:
            db.execute(
                "UPDATE memory_promotions SET content_hash = :new"
                f" WHERE {condition} AND content_hash = :old",
                {**parameters, "old": old, "new": new},
            )
