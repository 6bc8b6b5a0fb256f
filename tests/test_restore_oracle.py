"""Restore on both engines, compared with a slow model that restores one memory after the other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memctl.errors import RefusedError
from memctl.jobs.engine import JobRequest, perform
from memctl.jobs.restore import RestoreConflict, restore
from memctl.storage.rows import ArchiveFilter
from tests.support.database import memory_row
from tests.support.engines import Engine
from tests.support.program import NOW

OLD_RUN, THIS_RUN = 7, 8
TIMES = [f"2026-11-0{day}T00:00:00Z" for day in (1, 2, 3)]  # the last is that of the old run


class Active(NamedTuple):
    """An active memory; its value is unique, and an id belongs to one agent."""

    agent: str
    id: str
    key: str
    value: str


@dataclass(frozen=True)
class Archived:
    """An archived memory; `number` is its place in the archive."""

    agent: str
    id: str
    key: str
    value: str
    archived_at: str
    reason: str
    run_id: int | None
    number: int

    @property
    def original_id(self) -> str:
        """The id before it was given up."""
        suffix = f"~{self.run_id}"
        return self.id.removesuffix(suffix) if self.reason == "replaced" else self.id

    @property
    def age(self) -> tuple[str, int]:
        """The greater, the newer."""
        return self.archived_at, self.number

    def conflicts_with(self, active: Active) -> bool:
        """Return whether an active memory is in the way."""
        return self.agent == active.agent and (
            self.original_id == active.id or self.key == active.key
        )


def newest(selected: Sequence[Archived]) -> list[Archived]:
    """Return those of which no other has the same key or id and is newer."""
    return [
        one
        for one in selected
        if not any(
            other.age > one.age
            and other.agent == one.agent
            and (other.key == one.key or other.original_id == one.original_id)
            for other in selected
        )
    ]


class Outcome(NamedTuple):
    """What is active and archived after a restore, and its counts; None: it was refused."""

    active: list[tuple[str, ...]]
    archived: list[tuple[str, ...]]
    counts: tuple[int, int, int] | None


def restored(
    active: list[Active],
    archived: list[Archived],
    selected: list[Archived],
    on_conflict: RestoreConflict,
) -> Outcome:
    """Return the outcome that the documentation describes."""
    conflicting = [one for one in selected if any(one.conflicts_with(memory) for memory in active)]
    counts: tuple[int, int, int] | None = None
    if on_conflict != "fail" or not conflicting:
        chosen = newest(selected)
        if on_conflict == "skip":
            chosen = [one for one in chosen if one not in conflicting]
        in_the_way = [
            memory for memory in active if any(one.conflicts_with(memory) for one in chosen)
        ]
        active = [memory for memory in active if memory not in in_the_way]
        active += [Active(one.agent, one.original_id, one.key, one.value) for one in chosen]
        archived = [one for one in archived if one not in chosen]
        archived += [
            Archived(*memory, TIMES[0], "replaced", THIS_RUN, 0)  # the time is not compared
            for memory in in_the_way
        ]
        taken = {(one.agent, one.original_id) for one in chosen}
        archived = [
            replace(one, id=f"{one.id}~{THIS_RUN}") if (one.agent, one.id) in taken else one
            for one in archived
        ]
        counts = (len(chosen), len(selected) - len(chosen), len(in_the_way))
    return Outcome(
        sorted((one.agent, one.id, one.key, one.value) for one in active),
        sorted((one.agent, one.id, one.key, one.value, one.reason) for one in archived),
        counts,
    )


@st.composite
def memories(draw: st.DrawFn) -> tuple[list[Active], list[Archived]]:
    """Memories of two agents with few ids and keys, so that many conflict."""
    agents, numbers = st.sampled_from("ab"), st.integers(0, 3)
    active: list[Active] = []
    for place in range(draw(st.integers(0, 6))):
        agent = draw(agents)
        memory = Active(agent, f"{agent}{draw(numbers)}", f"k{draw(numbers)}", f"active {place}")
        if not any(
            other.id == memory.id or (other.agent, other.key) == (memory.agent, memory.key)
            for other in active
        ):
            active.append(memory)
    archived = []
    for place in range(draw(st.integers(0, 8))):
        agent = draw(agents)
        memory_id, key = f"{agent}{draw(numbers)}", f"k{draw(numbers)}"
        time = draw(st.sampled_from(TIMES))
        run_id = OLD_RUN if time == TIMES[-1] and draw(st.booleans()) else None
        reason = draw(st.sampled_from(["expired", "replaced", "manual"]))
        if reason == "replaced" and run_id is not None and draw(st.booleans()):
            memory_id += f"~{run_id}"
        archived.append(
            Archived(agent, memory_id, key, f"archived {place}", time, reason, run_id, place)
        )
    return active, archived


def fill(engine: Engine, active: list[Active], archived: list[Archived]) -> None:
    engine.empty()
    engine.insert(
        "memory_runs",
        run_id=OLD_RUN,
        job="cleanup",
        started_at=TIMES[-1],
        status="ok",
        complete=True,
        memctl_version="0",
        host="h",
        pid=1,
    )
    engine.fill(
        "agent_memory",
        [memory_row(agent_id=one.agent, id=one.id, key=one.key, value=one.value) for one in active],
    )
    engine.fill(
        "archived_memories",
        [
            {
                "agent_id": one.agent,
                "id": one.id,
                "type": "learning",
                "key": one.key,
                "value": one.value,
                "archived_at": one.archived_at,
                "archived_reason": one.reason,
                "run_id": one.run_id,
            }
            for one in archived
        ],
    )


def outcome_on(engine: Engine, which: ArchiveFilter, on_conflict: RestoreConflict) -> Outcome:
    """Restore, and return the outcome."""

    def shown(table: str, *columns: str) -> list[Any]:
        return sorted(tuple(row[name] for name in columns) for row in engine.rows(table))

    counts = None
    try:
        result = perform(
            "restore",
            lambda run: restore(run, which, on_conflict=on_conflict),
            JobRequest(engine.address, NOW, force=True),
        ).result
        assert result is not None
        counts = (result.restored, result.skipped, result.replaced)
    except RefusedError:
        pass
    columns = ("agent_id", "id", "key", "value")
    return Outcome(
        shown("agent_memory", *columns),
        shown("archived_memories", *columns, "archived_reason"),
        counts,
    )


@given(
    rows=memories(),
    by_run=st.booleans(),
    reason=st.sampled_from(["expired", "replaced", "manual"]),
    on_conflict=st.sampled_from(["fail", "skip", "replace"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_restore_has_the_outcome_of_the_model(
    engine: Engine,
    rows: tuple[list[Active], list[Archived]],
    by_run: bool,
    reason: str,
    on_conflict: RestoreConflict,
) -> None:
    active, archived = rows
    if "a" not in {memory.agent for memory in active} | {memory.agent for memory in archived}:
        by_run = True  # an unknown agent is an error
    fill(engine, active, archived)
    which = ArchiveFilter(run_id=OLD_RUN) if by_run else ArchiveFilter(agent="a", reason=reason)
    selected = [
        one
        for one in archived
        if (one.run_id == OLD_RUN if by_run else (one.agent, one.reason) == ("a", reason))
    ]

    outcome = outcome_on(engine, which, on_conflict)

    assert outcome == restored(active, archived, selected, on_conflict)
