"""The memories of a redaction: found by their names or ids, and whether they can be redacted."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from sqlite3 import Connection

from memctl.storage.redaction import Find
from memctl.storage.secrets import Texts
from memctl.storage.sqlite.agents import OF_AGENT, agent_parameter
from memctl.storage.sqlite.database import bind_texts
from memctl.storage.sqlite.holds import require_not_held
from memctl.storage.sqlite.knowledge_of_memories import TABLE as KNOWLEDGE
from memctl.storage.sqlite.knowledge_of_memories import entries_of
from memctl.storage.sqlite.named_rows import NAME, NamedRows, RowsByName, name_of, of_name
from memctl.storage.sqlite.redacting import MEMORY_TABLES, VALUES, read_texts
from memctl.storage.sqlite.tombstones import find_tombstones
from memctl.storage.text import stored_bytes
from memctl.storage.tombstones import Name, hash_secret


def names_of_ids(db: Connection, agent: str, ids: Sequence[str]) -> list[Name]:
    """Return the names of an agent's memories with these ids, active or archived; only reads."""
    listed, parameters = bind_texts("id", ids)
    names = {
        name_of(row): None
        for table in MEMORY_TABLES
        for row in db.execute(
            f"SELECT {NAME} FROM {table} WHERE id IN ({listed}) AND {OF_AGENT}",
            {**parameters, **agent_parameter(agent)},
        )
    }
    return list(names)


def is_known(db: Connection, name: Name) -> bool:
    """Return whether there is a memory of this name, active, archived or promoted; only reads."""
    condition, parameters = of_name(name)
    return any(
        db.execute(f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1", parameters).fetchone()
        for table in (*MEMORY_TABLES, "memory_promotions")
    )


def require_no_hold(db: Connection, rows: NamedRows, *, now: datetime) -> None:
    """Raise RefusedError if a version of a memory is held."""
    for table in MEMORY_TABLES:
        numbers = [version.rowid for version in rows.versions if version.table == table]
        require_not_held(db, table, json.dumps(numbers), now=now)


def texts_of_memory(db: Connection, name: Name) -> list[Texts]:
    """Return what a memory has in each version, and in entries that came from it; only reads."""
    rows = RowsByName(db, [name]).found[name]
    key = stored_bytes(name.key) or b""
    found = [
        Texts(key, stored_bytes(version.value) or b"", version.metadata or b"")
        for version in rows.versions
    ]
    for entry in entries_of(db, {name: rows}):
        content = db.execute(
            f"SELECT CAST(content AS BLOB), CAST(tags AS BLOB) FROM {KNOWLEDGE}"
            " WHERE id = CAST(? AS TEXT)",
            (entry,),
        ).fetchone()
        found.append(Texts(b"", *(text or b"" for text in content)))
    return found


def was_redacted(db: Connection, name: Name, texts: Collection[bytes] | None) -> bool:
    """Return whether a text, or any if it is None, was redacted in a memory before; only reads."""
    return any(
        tombstone.kind == "redacted"
        and (
            texts is None
            or tombstone.secret_hash in {hash_secret(tombstone.salt, text) for text in texts}
        )
        for tombstone in find_tombstones(db).of(name)
    )


def columns_with(db: Connection, name: Name, find: Find) -> set[str]:
    """Return the columns, other than value and metadata, of a memory that contain a text."""
    found = {column for column, part in name._asdict().items() if find(stored_bytes(part) or b"")}
    for version in RowsByName(db, [name]).found[name].versions:
        names = [row[1] for row in db.execute(f"PRAGMA table_info({version.table})")]
        kept = [column for column in names if column not in VALUES]
        for column, (_, content) in read_texts(
            db, version.table, "rowid", version.rowid, kept
        ).items():
            if find(content):
                found.add(column)
    return found
