"""A month of clients and jobs on both engines, side by side: every row is the same in the end."""

import random
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

from memctl.config.policies import DecayPolicy, PromotePolicy, PrunePolicy
from memctl.jobs.archive import archive
from memctl.jobs.cleanup import cleanup
from memctl.jobs.decay import decay
from memctl.jobs.engine import JobContext, JobRequest, JobResult, perform
from memctl.jobs.prune import prune
from memctl.jobs.restore import restore
from memctl.jobs.snapshot import snapshot
from memctl.storage.rows import ArchiveFilter
from tests.support.database import Row, memory_row, text_of
from tests.support.engines import Engine
from tests.support.program import NOW

AGENTS = ("build_agent", "qa_agent", "агент 🤖")
TYPES = ("learning", "context")
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
RETENTION = PrunePolicy(retention=8 * DAY)

# What each engine makes itself, or what depends on the machine's speed.
OWN_COLUMNS = {
    "archived_memories": {"archive_id"},
    "memory_events": {"event_id", "event_key"},
    "memory_analytics": {"last_event_id"},
    "memory_runs": {"finished_at", "duration_ms", "longest_lock_ms"},
}


class Month:
    """The same events on each engine, chosen at random."""

    def __init__(self, engines: tuple[Engine, Engine], seed: int) -> None:
        self.engines = engines
        self.chance = random.Random(seed)

    def remember(self, at: datetime) -> None:
        """Write a memory; it sometimes replaces another."""
        name = (self.chance.choice(AGENTS), self.chance.choice(TYPES), self.chance.randrange(40))
        lasts = self.chance.choice([None, 20 * HOUR, 4 * DAY, 90 * DAY])
        expires_at = None if lasts is None else f"{at + lasts:%Y-%m-%dT%H:%M:%S}.000Z"
        memory = memory_row(
            id=str(uuid.UUID(int=self.chance.getrandbits(128))),
            agent_id=name[0],
            type=name[1],
            key=f"ключ {name[2]}",
            value="v" * self.chance.randrange(200),
            importance=self.chance.randrange(1, 11),
            created_at=text_of(at),
            last_accessed=text_of(at),
            expires_at=expires_at,
        )
        for engine in self.engines:
            engine.execute(
                "DELETE FROM agent_memory WHERE agent_id = ? AND type = ? AND key = ?",
                *(memory[column] for column in ("agent_id", "type", "key")),
            )
            engine.fill("agent_memory", [memory])

    def recall(self, at: datetime) -> None:
        """Read a memory."""
        memory = self._any("agent_memory")
        for engine in self.engines:
            engine.execute(
                "UPDATE agent_memory SET access_count = access_count + 1, last_accessed = ?"
                " WHERE agent_id = ? AND id = ?",
                text_of(at),
                memory["agent_id"],
                memory["id"],
            )

    def archive(self, at: datetime) -> None:
        """Archive a memory by hand."""
        memory = self._any("agent_memory")
        agent, ids = memory["agent_id"], [memory["id"]]
        self.perform("archive", lambda run: archive(run, agent=agent, ids=ids), at)

    def restore(self, at: datetime) -> None:
        """Restore a memory, which replaces one with the same name."""
        if not self.engines[0].rows("archived_memories"):
            return
        memory = self._any("archived_memories")
        which = ArchiveFilter(agent=memory["agent_id"], ids=[memory["id"]])
        self.perform("restore", lambda run: restore(run, which, on_conflict="replace"), at)

    def perform(self, name: str, work: Callable[[JobContext], JobResult], at: datetime) -> None:
        """Run a job on each engine; both have the same result."""
        reports = [
            perform(name, work, JobRequest(engine.address, at, force=True))
            for engine in self.engines
        ]
        first, second = (report.result and report.result.counts for report in reports)
        assert first == second

    def live(self) -> None:
        """Let a month pass: jobs on most days, snapshots on some, on others twice."""
        for day in range(30):
            hour = NOW + day * DAY
            for _ in range(self.chance.randrange(3, 10)):
                self.remember(hour + timedelta(minutes=self.chance.randrange(60)))
            hour += HOUR
            for chore in self.chance.choices(
                [self.recall, self.archive, self.restore], [8, 1, 1], k=self.chance.randrange(8)
            ):
                chore(hour)
            hour += HOUR
            if self.chance.random() < 0.8:
                self.perform("cleanup", cleanup, hour)
            self.perform("decay", lambda run: decay(run, DecayPolicy(), PromotePolicy()), hour)
            for _ in range(self.chance.choice([0, 1, 1, 2])):
                self.perform("snapshot", snapshot, hour)
                self.recall(hour)
                hour += HOUR
            if day % 7 == 6:
                self.perform("prune", lambda run: prune(run, RETENTION), hour)

    def _any(self, table: str) -> Row:
        return self.chance.choice(self.engines[0].rows(table))


def comparable(engine: Engine, table: str) -> list[Row]:
    """Return the rows of a table without what each engine makes itself, in an order of content.

    On PostgreSQL, an event without an agent has an empty one.
    """
    rows = [
        {name: row[name] or None for name in sorted(row) if name not in OWN_COLUMNS.get(table, ())}
        for row in engine.rows(table)
    ]
    return sorted(
        rows,
        key=lambda row: [
            f"{value:.9f}" if isinstance(value, int | float) else str(value)
            for value in row.values()
        ],
    )


def test_every_row_is_the_same_on_both_engines_after_a_month(
    engines: tuple[Engine, Engine],
) -> None:
    month = Month(engines, seed=20261122)

    month.live()

    for table in ("agent_memory", "archived_memories", *OWN_COLUMNS):
        first, second = (comparable(engine, table) for engine in engines)
        assert first == second
        assert first
    metrics = [
        engine.memctl.at(NOW + 31 * DAY).ok("metrics", "--history", "40d").json
        for engine in engines
    ]
    for name in ("period", "system", "agents"):
        assert metrics[0][name] == metrics[1][name]
