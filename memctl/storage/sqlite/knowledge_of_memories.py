"""Entries of the knowledge base that came from memories, for the erasure of these memories.

An entry came from a memory if promote has tagged it, and the memory is linked to it, was linked to
it or to its successor, or has its text. An entry that another memory is linked to as well stays,
unless it has the erased text. Entries of the owner of the table, without the tag, always stay.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from sqlite3 import Connection
from typing import Any

from memctl.storage.entry_text import object_in, text_in
from memctl.storage.fragments import SPECIFIC
from memctl.storage.sqlite.database import table_exists
from memctl.storage.sqlite.knowledge import COLUMNS
from memctl.storage.sqlite.named_rows import NAME, NamedRows, name_of
from memctl.storage.text import from_bytes, stored_bytes, to_bytes
from memctl.storage.tombstones import Name

TAG = "from-memory"

TABLE = "knowledge_entries"
SHARED = "shared with other memories"
OF_OWNER = "not made by promote"
WANTED = "kept on request"


@dataclass
class EntryDecision:
    """The entries to delete and those that stay, by their ids, the latter with the reason."""

    keep: bool  # all of them, on request
    deleted: list[bytes] = field(default_factory=list)
    kept_ids: dict[bytes, str] = field(default_factory=dict)

    @property
    def kept(self) -> Counter[str]:
        """How many entries stay, by the reason."""
        return Counter(self.kept_ids.values())


def decide_on_entries(
    db: Connection, rows: Mapping[Name, NamedRows], *, keep: bool = False
) -> EntryDecision:
    """Return which entries go with the memories of these names; only reads.

    `rows` are the rows of the memories, whose links and events must still be there.
    """
    decision = EntryDecision(keep)
    if not has_knowledge(db):
        return decision
    links, others = _links(db, rows)
    linked = _with_superseded(db, links | _of_events(db, rows))
    texts = _texts_by_agent(rows)
    for entry in sorted(linked | _ids_of_agents(db, texts)):
        row = db.execute(
            "SELECT CAST(tags AS BLOB), CAST(source_agent_id AS BLOB), CAST(content AS BLOB)"
            f" FROM {TABLE} WHERE id = CAST(? AS TEXT)",
            (entry,),
        ).fetchone()
        if row is None:
            continue
        tags, agent, content = row
        has_text = any(text in content for text in texts[agent])
        if not (has_text or entry in linked):
            continue
        if not is_tagged(tags):
            reason = OF_OWNER
        elif keep:
            reason = WANTED
        elif entry in others and not any(
            text in content for all_ in texts.values() for text in all_
        ):
            reason = SHARED
        else:
            decision.deleted.append(entry)
            continue
        decision.kept_ids[entry] = reason
    return decision


def delete_entries(db: Connection, entries: Collection[bytes]) -> int:
    """Delete entries and return their number; others are no longer superseded by them.

    Called in a transaction. The owner's foreign key refers to the entries.
    """
    deleted = 0
    for entry in entries:
        db.execute(DETACH, (entry,))
        deleted += db.execute(DELETE, (entry,)).rowcount
    return deleted


DETACH = f"UPDATE {TABLE} SET superseded_by = NULL WHERE superseded_by = CAST(? AS TEXT)"
DELETE = f"DELETE FROM {TABLE} WHERE id = CAST(? AS TEXT)"


def has_knowledge(db: Connection) -> bool:
    """Return whether there is a knowledge base; another product has a table of the same name."""
    return {row[1] for row in db.execute(f"PRAGMA table_info({TABLE})")} == COLUMNS


def entries_of(db: Connection, rows: Mapping[Name, NamedRows]) -> list[bytes]:
    """Return the ids of the entries that came from these memories, or may have; only reads."""
    if not has_knowledge(db):
        return []
    links, _ = _links(db, rows)
    linked = _with_superseded(db, links | _of_events(db, rows))
    return sorted(
        linked | _ids_of_agents(db, {stored_bytes(name.agent_id) or b"" for name in rows})
    )


def _links(db: Connection, rows: Mapping[Name, NamedRows]) -> tuple[set[bytes], set[bytes]]:
    """Return the ids of the entries that these memories are linked to, and that others are."""
    links: set[bytes] = set()
    others: set[bytes] = set()
    if table_exists(db, "memory_promotions"):
        query = f"SELECT CAST(entry_id AS BLOB), {NAME} FROM memory_promotions"
        for entry, *name in db.execute(query):
            (links if name_of(name) in rows else others).add(entry)
    return links, others


def _of_events(db: Connection, rows: Mapping[Name, NamedRows]) -> set[bytes]:
    """Return the ids of the entries that the events of promotions name."""
    found = set()
    for event_id in (number for of_name_ in rows.values() for number in of_name_.events):
        row = db.execute(
            "SELECT CAST(detail AS BLOB) FROM memory_events"
            " WHERE event_id = ? AND event = 'memory:promoted'",
            (event_id,),
        ).fetchone()
        detail = _json(row[0]) if row else None
        if isinstance(detail, dict):
            ids = (detail.get("entry_id"), detail.get("superseded_id"))
            found |= {one.encode() for one in ids if isinstance(one, str) and one.isascii()}
    return found


def _with_superseded(db: Connection, entries: set[bytes]) -> set[bytes]:
    """Return entries, and those of the same agents that they have superseded."""
    query = f"""
        SELECT CAST(earlier.id AS BLOB), CAST(earlier.superseded_by AS BLOB)
        FROM {TABLE} AS earlier JOIN {TABLE} AS later ON later.id = earlier.superseded_by
        WHERE earlier.source_agent_id = later.source_agent_id
    """
    superseded = defaultdict(list)
    for earlier, later in db.execute(query):
        superseded[later].append(earlier)
    found, waiting = set(), list(entries)
    while waiting:
        entry = waiting.pop()
        if entry not in found:
            found.add(entry)
            waiting += superseded[entry]
    return found


def _texts_by_agent(rows: Mapping[Name, NamedRows]) -> defaultdict[bytes, set[bytes]]:
    """Return the texts that entries of each agent may have from the memories."""
    texts: defaultdict[bytes, set[bytes]] = defaultdict(set)
    for name, of_this in rows.items():
        for version in of_this.versions:
            text = _text_of(stored_bytes(version.value) or b"")
            if len(text) >= SPECIFIC:
                texts[stored_bytes(name.agent_id) or b""].add(text)
    return texts


def _text_of(value: bytes) -> bytes:
    """Return the text that promote takes from a value: its description, or all of it."""
    return to_bytes(text_in(object_in(from_bytes(value)).get("description"))) or value


def _ids_of_agents(db: Connection, agents: Collection[bytes]) -> set[bytes]:
    """Return the ids of the entries that came from memories of these agents."""
    found = set()
    for agent in agents:
        found |= {
            entry
            for (entry,) in db.execute(
                f"SELECT CAST(id AS BLOB) FROM {TABLE} WHERE source_agent_id = CAST(? AS TEXT)"
                f" AND instr(CAST(tags AS BLOB), CAST('{TAG}' AS BLOB))",
                (agent,),
            )
            if entry is not None
        }
    return found


def is_tagged(tags: bytes | None) -> bool:
    listed = _json(tags)
    return isinstance(listed, list) and TAG in listed


def _json(content: bytes | None) -> Any:
    try:
        return None if content is None else json.loads(content)
    except (ValueError, RecursionError):
        return None
