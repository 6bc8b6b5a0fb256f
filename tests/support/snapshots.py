"""The content of a database before and after a change, and the states allowed in between."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.database import column_names, connected_to_copy, exact_rows, is_sound


class State(NamedTuple):
    """Where a memory is, with the type and bytes of every column, and its events."""

    copies: tuple[tuple[str, tuple[Any, ...]], ...]
    events: tuple[str, ...]

    @property
    def places(self) -> list[str]:
        """The tables that have a copy."""
        return [table for table, _ in self.copies]


NOWHERE = State((), ())


@dataclass(frozen=True)
class Snapshot:
    """All memories of a database, their order in its tables, and what became knowledge."""

    sound: bool
    states: dict[str, State]
    order: dict[str, list[str]]
    recorded_decays: int
    knowledge: list[tuple[Any, ...]]


# The entries without their ids and times, which differ from run to run.
KNOWLEDGE = """
    SELECT type, content, tags, confidence, occurrences, source_agent_id FROM knowledge_entries
    ORDER BY rowid
"""


# The links of the active memories, to entries that are there.
PROMOTED = """
    SELECT memory.id, link.content_hash, link.promoted_at, entry.content
    FROM agent_memory AS memory
    JOIN memory_promotions AS link USING (agent_id, type, key)
    JOIN knowledge_entries AS entry ON entry.id = link.entry_id
"""


def snapshot(path: Path) -> Snapshot:
    """Read a copy of the files, so that the originals stay as they are."""
    with connected_to_copy(path) as db:
        copies = defaultdict(list)
        order = {}
        for table in ("agent_memory", "archived_memories"):
            memories = exact_rows(db, table)
            order[table] = [memory_id for memory_id, *_ in memories]
            for memory_id, *columns in memories:
                copies[memory_id].append((table, tuple(columns)))
        knowledge = []
        if column_names(db, "knowledge_entries"):
            knowledge = db.execute(KNOWLEDGE).fetchall()
            for memory_id, *link in db.execute(PROMOTED):
                copies[memory_id].append(("knowledge_entries", tuple(link)))
        events = defaultdict(list)
        recorded_decays = 0
        if column_names(db, "memory_events"):
            for memory_id, event, detail in db.execute(
                "SELECT memory_id, event, detail FROM memory_events ORDER BY event_id"
            ):
                if event == "memory:decayed":
                    recorded_decays += json.loads(detail)["decayed"]
                elif memory_id is not None:
                    events[memory_id].append(event)
        return Snapshot(
            sound=is_sound(db),
            states={
                memory_id: State(tuple(copies[memory_id]), tuple(events[memory_id]))
                for memory_id in {*copies, *events}
            },
            order=order,
            recorded_decays=recorded_decays,
            knowledge=knowledge,
        )


def broken_promises(before: Snapshot, after: Snapshot, found: Snapshot) -> list[str]:
    """Describe each memory for which neither all nor nothing of the change happened."""
    broken = [] if found.sound else ["the file is damaged"]
    decayed = 0
    for memory_id in sorted({*before.states, *found.states}):
        old = before.states.get(memory_id, NOWHERE)
        new = after.states.get(memory_id, NOWHERE)
        state = found.states.get(memory_id, NOWHERE)
        if state not in (old, new):
            broken.append(f"{memory_id} is in {state.places}, recorded by {list(state.events)}")
        decayed += state != old and (state.places, state.events) == (old.places, old.events)
    if decayed != found.recorded_decays - before.recorded_decays:
        broken.append(f"{decayed} memories decayed, {found.recorded_decays} were recorded")
    return broken


def count_changed(before: Snapshot, found: Snapshot) -> int:
    """Return how many memories have changed."""
    return sum(
        found.states.get(key, NOWHERE) != before.states.get(key, NOWHERE)
        for key in before.states.keys() | found.states.keys()
    )


@dataclass(frozen=True)
class Shape:
    """The schema of a database, the steps it records, and its active memories."""

    schema: list[tuple[Any, ...]]
    steps: list[tuple[Any, ...]]
    memories: list[tuple[Any, ...]]
    sound: bool


def shape(path: Path) -> Shape:
    """Read a copy of the files."""
    with connected_to_copy(path) as db:
        schema = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2")
        recorded = column_names(db, "memctl_migrations")
        return Shape(
            schema=schema.fetchall(),
            steps=db.execute("SELECT * FROM memctl_migrations").fetchall() if recorded else [],
            memories=exact_rows(db, "agent_memory"),
            sound=is_sound(db),
        )
