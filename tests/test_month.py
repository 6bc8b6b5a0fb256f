"""A month of the service and the jobs; every figure is recomputed from a log of the operations."""

import random
import sqlite3
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl.config.policies import DecayPolicy, PromotePolicy, PrunePolicy
from memctl.jobs.archive import archive
from memctl.jobs.cleanup import cleanup
from memctl.jobs.decay import decay
from memctl.jobs.engine import JobRequest, perform
from memctl.jobs.prune import prune
from memctl.jobs.restore import restore
from memctl.jobs.snapshot import snapshot
from memctl.storage.rows import ArchiveFilter
from tests.support.database import connect, text_of
from tests.support.program import NOW, Memctl
from tests.support.service import COUNT_ACCESS, FIND, REMEMBER, Service

Key = tuple[str, str]

AGENTS = ["build_agent", "qa_agent", "агент 🤖", "[red]a[/]"]
TYPES = ["learning", "context"]
FLOWS = ("expired", "archived", "restored", "pruned", "promoted")
RETENTION = timedelta(days=8)
MONTH = timedelta(days=30)


@dataclass
class Memory:
    """A memory in the log, active or archived."""

    id: str
    of: Key
    key: str
    value: str
    expires: datetime | None
    accessed: datetime
    accesses: int = 0
    archived_at: datetime | None = None

    @property
    def bytes(self) -> int:
        return len((self.key + self.value).encode())


@dataclass(frozen=True)
class Mark:
    """A day's last snapshot: its time, the length of the logs at that time, and the memories."""

    changes: int
    reads: int
    at: datetime
    last_event: int
    stocks: dict[Key, dict[str, Any]]


@dataclass
class World:
    """The database, and the log of what it must contain."""

    path: Path
    db: sqlite3.Connection
    began: datetime
    active: dict[str, Memory] = field(default_factory=dict)
    archive: dict[str, Memory] = field(default_factory=dict)
    changes: list[tuple[datetime, Key, str]] = field(default_factory=list)
    reads: list[tuple[str, Key]] = field(default_factory=list)
    counting_since: datetime | None = None
    marks: dict[str, Mark] = field(default_factory=dict)

    def remember(self, chance: random.Random, at: datetime) -> None:
        """Write a memory as the service does; it sometimes replaces another."""
        of = (chance.choice(AGENTS), chance.choice(TYPES))
        key = f"ключ {chance.randrange(60)}"
        lasts = chance.choice([None, timedelta(hours=20), timedelta(days=4), timedelta(days=90)])
        memory = Memory(
            id=str(uuid.UUID(int=chance.getrandbits(128))),
            of=of,
            key=key,
            value="v" * chance.randrange(200),
            expires=None if lasts is None else at + lasts,
            accessed=at,
        )
        expires = memory.expires and memory.expires.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        given = (memory.id, *of, key, memory.value, None, chance.randrange(1, 11), expires)
        self.db.execute(REMEMBER, given)
        stamp = "UPDATE agent_memory SET created_at = ?, last_accessed = ? WHERE id = ?"
        self.db.execute(stamp, (text_of(at), text_of(at), memory.id))
        for other in [old for old in self.active.values() if (old.of, old.key) == (of, key)]:
            del self.active[other.id]
        self.active[memory.id] = memory

    def recall(self, chance: random.Random, at: datetime) -> None:
        """Read a memory as the service does, at a given time."""
        memory = self.active[chance.choice(sorted(self.active))]
        assert self.db.execute(FIND, (*memory.of, memory.key)).fetchone()
        self.db.execute(COUNT_ACCESS.replace("datetime('now')", f"'{text_of(at)}'"), (memory.id,))
        memory.accesses += 1
        memory.accessed = at
        if self.counting_since is not None:
            self.reads.append((f"{at:%Y-%m-%d}", memory.of))

    def forget(self, chance: random.Random) -> None:
        """Delete a memory as the service does, without a trace."""
        memory = self.active.pop(chance.choice(sorted(self.active)))
        self.db.execute("DELETE FROM agent_memory WHERE id = ?", (memory.id,))

    def put_away(self, memory: Memory, at: datetime, *changes: str) -> None:
        """Move a memory to the archive, in the log."""
        self.archive[memory.id] = self.active.pop(memory.id)
        memory.archived_at = at
        self.changes += [(at, memory.of, change) for change in changes]

    def cleanup(self, at: datetime) -> None:
        """Run the job, and apply it to the log."""
        perform("cleanup", cleanup, self.request(at))
        for memory in list(self.active.values()):
            if memory.expires is not None and memory.expires < at:
                self.put_away(memory, at, "expired", "archived")

    def archive_one(self, chance: random.Random, at: datetime) -> None:
        """Archive a memory by hand."""
        memory = self.active[chance.choice(sorted(self.active))]
        perform(
            "archive",
            lambda run: archive(run, agent=memory.of[0], ids=[memory.id]),
            self.request(at),
        )
        self.put_away(memory, at, "archived")

    def restore_one(self, chance: random.Random, at: datetime) -> None:
        """Restore a memory, unless it has been written again."""
        names = {(memory.of, memory.key) for memory in self.active.values()}
        free = [one for one in self.archive.values() if (one.of, one.key) not in names]
        if not free:
            return
        memory = chance.choice(free)
        which = ArchiveFilter(agent=memory.of[0], ids=[memory.id])
        perform("restore", lambda run: restore(run, which), self.request(at))
        self.active[memory.id] = self.archive.pop(memory.id)
        if memory.expires is not None and memory.expires < at:
            memory.expires = None
        self.changes.append((at, memory.of, "restored"))

    def prune(self, at: datetime) -> None:
        """Run the job, and apply it to the log."""
        importance = dict(self.db.execute("SELECT id, importance FROM archived_memories"))
        policy = PrunePolicy(retention=RETENTION)
        perform("prune", lambda run: prune(run, policy), self.request(at))
        for memory in list(self.archive.values()):
            assert memory.archived_at is not None
            if memory.archived_at < at - RETENTION and importance[memory.id] < 8:
                del self.archive[memory.id]
                self.changes.append((at, memory.of, "pruned"))

    def snapshot(self, at: datetime) -> None:
        """Run the job, and record what it must have written."""
        perform("snapshot", snapshot, self.request(at))
        (last_event,) = self.db.execute("SELECT max(event_id) FROM memory_events").fetchone()
        self.marks[f"{at:%Y-%m-%d}"] = Mark(
            changes=len(self.changes),
            reads=len(self.reads),
            at=at,
            last_event=last_event or 0,
            stocks={
                (agent, type_): self.stock((agent, type_), since=at - MONTH, until=at)
                for agent in sorted(AGENTS)
                for type_ in sorted(TYPES)
            },
        )

    def kept_rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return the rows that the snapshots must have: whole days, except for the last one."""
        kept = {}
        for day, mark in self.marks.items():
            complete = day < max(self.marks)
            changes = self.changes if complete else self.changes[: mark.changes]
            reads = self.reads if complete else self.reads[: mark.reads]
            flows = Counter((of, change) for at, of, change in changes if f"{at:%Y-%m-%d}" == day)
            counted = Counter(of for read_on, of in reads if read_on == day)
            begin = max(datetime.fromisoformat(f"{day}T00:00:00+00:00"), self.began)
            period = (text_of(begin), text_of(mark.at), mark.last_event)
            kept[day] = [
                (
                    *period,
                    *of,
                    *stock.values(),
                    counted[of],
                    counted[of] if self.counts_on(day) else None,
                    *(flows[of, flow] for flow in FLOWS),
                )
                for of, stock in mark.stocks.items()
                if any((*stock.values(), counted[of], *(flows[of, flow] for flow in FLOWS)))
            ]
        return kept

    def counts_on(self, day: str) -> bool:
        """Return whether every access of a day was counted."""
        return self.counting_since is not None and day > f"{self.counting_since:%Y-%m-%d}"

    def stock(self, of: Key, *, since: datetime, until: datetime) -> dict[str, Any]:
        """Return the figures of an agent and type; only importance is read from the database."""
        active = [memory for memory in self.active.values() if memory.of == of]
        archived = [memory for memory in self.archive.values() if memory.of == of]
        importance = self.db.execute(
            "SELECT importance FROM agent_memory WHERE agent_id = ? AND type = ?", of
        )
        read = [one for one in active if one.accesses and since <= one.accessed <= until]
        return {
            "memories": len(active),
            "archived_memories": len(archived),
            "importance_count": len(active),
            "importance_sum": round(sum(points for (points,) in importance), 6),
            "active_bytes": sum(memory.bytes for memory in active),
            "archived_bytes": sum(memory.bytes for memory in archived),
            "accessed_memories": len(read),
        }

    def request(self, at: datetime) -> JobRequest:
        """Return the request of a job; prune may delete more than half."""
        return JobRequest(database=self.path, now=at, force=True)


@pytest.fixture
def world(path: Path, memctl: Memctl, service: Service) -> Iterator[World]:
    """A database of the service that was migrated a month ago."""
    began = NOW - timedelta(days=30)
    memctl.at(began).ok("migrate", "--no-backup")
    with closing(connect(path)) as db:
        yield World(path, db, began)


def live(world: World, memctl: Memctl, seed: int) -> None:
    """Let a month pass: jobs on most days, snapshots on some, on others twice."""
    chance = random.Random(seed)
    for day in range(30):
        morning = world.began + timedelta(days=day)
        if day == 4:
            memctl.at(morning).ok("enable", "access-counting")
            world.counting_since = morning
        for _ in range(chance.randrange(5, 20)):
            world.remember(chance, morning + timedelta(minutes=chance.randrange(60)))
        hour = morning + timedelta(hours=1)
        chores: list[Callable[[], None]] = [
            lambda at=hour: world.recall(chance, at),  # type: ignore[misc]
            lambda: world.forget(chance),
            lambda at=hour: world.archive_one(chance, at),  # type: ignore[misc]
            lambda at=hour: world.restore_one(chance, at),  # type: ignore[misc]
        ]
        for chore in chance.choices(chores, weights=[8, 1, 1, 2], k=chance.randrange(10)):
            chore()
        hour += timedelta(hours=1)
        if chance.random() < 0.8:
            world.cleanup(hour)
        perform(
            "decay", lambda run: decay(run, DecayPolicy(), PromotePolicy()), world.request(hour)
        )
        for _ in range(chance.choice([0, 1, 1, 2])):
            world.snapshot(hour)
            for _ in range(3):
                world.recall(chance, hour)  # in the same second as the snapshot, but after it
            hour += timedelta(hours=1)
        if day % 7 == 6:
            world.prune(hour)


@pytest.mark.parametrize("seed", range(2))
def test_every_figure_of_a_month_agrees_with_the_log(
    world: World, memctl: Memctl, seed: int
) -> None:
    live(world, memctl, seed)

    metrics = memctl.ok("metrics", "--history", "40d").json
    report = memctl.ok("report", "--since", "30d", "--json").json

    kept = defaultdict(list)
    for day, *row in world.db.execute(
        """
        SELECT snapshot_date, replace(rtrim(period_start, 'Z'), 'T', ' '),
            replace(rtrim(period_end, 'Z'), 'T', ' '), last_event_id, agent_id, type,
            memories, archived_memories, importance_count, importance_sum, active_bytes,
            archived_bytes, accessed_memories, accesses_that_day, accesses,
            expired, archived, restored, pruned, promoted
        FROM memory_analytics
        """
    ):
        kept[day].append(tuple(row))
    assert kept == world.kept_rows()
    assert {
        (agent, type_): figures
        for agent, types in metrics["agents"].items()
        for type_, figures in types["types"].items()
    } == {of: expected_metrics(world, [of]) for of in known(world)}
    assert {
        agent: {name: figures[name] for name in figures if name not in ("types", "history")}
        for agent, figures in metrics["agents"].items()
    } == {
        agent: expected_metrics(world, [of for of in known(world) if of[0] == agent])
        for agent in {of[0] for of in known(world)}
    }
    history = metrics["system"]["history"]
    days = expected_days(world)
    assert [(day["date"], day["figures"]["memories"]) for day in history] == expected_history(world)
    assert [
        {
            "date": day["date"],
            "expired": day["figures"]["expired_that_day"],
            "archived_otherwise": (
                day["figures"]["archived_that_day"] - day["figures"]["expired_that_day"]
            ),
            "restored": day["figures"]["restored_that_day"],
            "pruned": day["figures"]["pruned_that_day"],
            "promoted": day["figures"]["promoted_that_day"],
        }
        for day in history
    ] == [
        {name: day[name] for name in day if name != "decayed"}
        for day in days
        if day["date"] >= history[0]["date"]
    ]
    assert [day["figures"]["accesses_that_day"] for day in history] == [
        sum(read_on == day["date"] for read_on, _ in world.reads)
        if world.counts_on(day["date"])
        else None
        for day in history
    ]
    assert report["days"] == days
    assert {agent["agent_id"]: agent["never_read"] for agent in report["agents"]} == {
        agent: sum(
            not one.accesses and one.accessed <= NOW - timedelta(days=7)
            for one in world.active.values()
            if one.of[0] == agent
        )
        for agent in {of[0] for of in known(world)}
    }


def known(world: World) -> list[Key]:
    """Return the agents and types that have any figures, in order."""
    memories = [*world.active.values(), *world.archive.values()]
    return sorted({memory.of for memory in memories} | {of for _, of, _ in world.changes})


def expected_metrics(world: World, keys: list[Key]) -> dict[str, Any]:
    """Return the figures of `metrics` expected for these agents and types together."""
    stocks = [world.stock(of, since=world.began, until=NOW) for of in keys]
    stock = {name: sum(one[name] for one in stocks) for name in stocks[0]}
    flows = Counter(change for _, of, change in world.changes if of in keys)
    counted_from = f"{world.counting_since:%Y-%m-%d}"  # an incomplete day does not count
    average = stock["importance_sum"] / stock["memories"] if stock["memories"] else None
    return {
        "memories": stock["memories"],
        "archived": stock["archived_memories"],
        "importance_avg": None if average is None else pytest.approx(average, abs=1e-6),
        "accessed_memories": stock["accessed_memories"],
        "accesses": sum(day > counted_from and of in keys for day, of in world.reads),
        "accesses_at_least": sum(one.accesses for one in world.active.values() if one.of in keys),
        "expired_per_day": round(flows["expired"] / 30, 6),
        "archived_per_day": round(flows["archived"] / 30, 6),
        "storage_bytes": stock["active_bytes"] + stock["archived_bytes"],
    }


def expected_history(world: World) -> list[tuple[str, int | None]]:
    """Return each day since the first with figures; None where there was no snapshot."""
    days = [f"{world.began + timedelta(days=number):%Y-%m-%d}" for number in range(31)]
    known = {*world.marks, *(f"{at:%Y-%m-%d}" for at, _, _ in world.changes)}
    known |= {day for day, _ in world.reads}
    return [
        (
            day,
            sum(stock["memories"] for stock in world.marks[day].stocks.values())
            if day in world.marks
            else None,
        )
        for day in days
        if day >= min(known)
    ]


def expected_days(world: World) -> list[dict[str, Any]]:
    """Return the events of each day, as `report` shows them."""
    days: list[dict[str, Any]] = []
    for number in range(31):
        day = f"{world.began + timedelta(days=number):%Y-%m-%d}"
        flows = Counter(change for at, _, change in world.changes if f"{at:%Y-%m-%d}" == day)
        (decayed,) = world.db.execute(
            "SELECT total(json_extract(counts, '$.decayed')) FROM memory_runs"
            " WHERE job = 'decay' AND started_at LIKE ?",
            (f"{day}%",),
        ).fetchone()
        days.append(
            {
                "date": day,
                "expired": flows["expired"],
                "archived_otherwise": flows["archived"] - flows["expired"],
                "restored": flows["restored"],
                "pruned": flows["pruned"],
                "promoted": 0,
                "decayed": decayed,
            }
        )
    return days
