"""Texts that were redacted and come again: with a client's write, or with an imported document."""

from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.storage.redaction import redacted
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.named_rows import NAME, bound, name_of, of_name
from memctl.storage.sqlite.redacting import hash_of_texts
from memctl.storage.sqlite.row_portions import numbered_rows
from memctl.storage.sqlite.tombstones import find_tombstones
from memctl.storage.tombstones import Name, Tombstones

NOTED = "incoming_redacted"  # the staged rows that contained a redacted text


class RedactedMemory(NamedTuple):
    """An active memory, as it is stored."""

    id: Any
    agent_id: Any
    type: Any
    key: Any


def written_again(db: Connection) -> list[RedactedMemory]:
    """Return the active memories that contain a text that was redacted in them; reads only."""
    tombstones = find_tombstones(db)
    if not has_redactions(tombstones):
        return []
    named = [
        rowid
        for rowid, parts in numbered_rows(db, "agent_memory", Name._fields)
        if tombstones.has("redacted", Name(*parts))
    ]
    found = []
    for rowid in named:
        row = db.execute(
            "SELECT CAST(value AS BLOB), CAST(metadata AS BLOB), id, agent_id, type, key"
            " FROM agent_memory WHERE rowid = ?",
            (rowid,),
        ).fetchone()
        if row is not None:
            memory = RedactedMemory(*row[2:])
            if any(tombstones.secrets_in(Name(*memory[1:]), text) for text in row[:2]):
                found.append(memory)
    return found


def has_redactions(tombstones: Tombstones) -> bool:
    """Return whether any text was redacted."""
    return any(tombstone.kind == "redacted" for tombstone in tombstones)


def redact_staged(db: Connection) -> None:
    """Redact the staged memories as those in the database, and note which contained a text.

    Links to the knowledge base get the hashes of the redacted texts.
    """
    tombstones = find_tombstones(db)
    if not has_redactions(tombstones):
        return
    db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {NOTED} (row INTEGER PRIMARY KEY)")
    names = {name_of(row) for row in db.execute(f"SELECT DISTINCT {NAME} FROM incoming")}
    with transaction(db, "BEGIN"):  # it writes only temporary tables, and takes no lock
        for name in names:
            if tombstones.has("redacted", name):
                _redact_staged(db, tombstones, name)


def count_redacted(db: Connection) -> int:
    """Return how many staged memories contained a text that was redacted."""
    if db.execute("SELECT 1 FROM temp.sqlite_schema WHERE name = ?", (NOTED,)).fetchone() is None:
        return 0
    query = f"SELECT count(*) FROM {NOTED} WHERE row IN (SELECT rowid FROM incoming)"
    return int(db.execute(query).fetchone()[0])


def _redact_staged(db: Connection, tombstones: Tombstones, name: Name) -> None:
    condition, parameters = of_name(name)
    rows = db.execute(
        "SELECT rowid, typeof(value), CAST(value AS BLOB), typeof(metadata),"
        f" CAST(metadata AS BLOB) FROM incoming WHERE {condition}",
        parameters,
    ).fetchall()
    for row, value_kind, value, metadata_kind, metadata in rows:
        new_value, new_metadata = (
            content
            if content is None
            else redacted(content, lambda text: tombstones.secrets_in(name, text))[0]
            for content in (value, metadata)
        )
        if (new_value, new_metadata) == (value, metadata):
            continue
        db.execute(f"INSERT OR IGNORE INTO {NOTED} VALUES (?)", (row,))
        db.execute(
            f"UPDATE incoming SET value = {bound('value', value_kind)},"
            f" metadata = {bound('metadata', metadata_kind)} WHERE rowid = :row",
            {"value": new_value, "metadata": new_metadata, "row": row},
        )
        old, new = (
            hash_of_texts(name, *texts) for texts in ((value, metadata), (new_value, new_metadata))
        )
        db.execute(
            f"UPDATE incoming_promotions SET content_hash = :new WHERE {condition}"
            " AND content_hash = :old",
            {**parameters, "old": old, "new": new},
        )
