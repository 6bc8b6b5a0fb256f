"""The demonstration: four months of a fleet of agents, simulated in about a second.

The agents write as the service does. The jobs run as `memctl run` runs them, on a simulated clock,
and every reported change is one that a job has made.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from memctl.agent_memory import AgentMemory
from memctl.config.settings import Settings
from memctl.demo.fleet import FORGOTTEN, Fleet
from memctl.errors import MemctlError, UsageError
from memctl.jobs.due import run_due_jobs
from memctl.jobs.engine import JobRequest, perform
from memctl.jobs.restore import restore
from memctl.storage.rows import ArchiveFilter
from memctl.storage.sqlite.database import Connection, open_or_create_database, transaction
from memctl.storage.sqlite.features import Feature, enable
from memctl.storage.sqlite.files import Draft, whole_file
from memctl.storage.sqlite.memories import most_read_promoted
from memctl.storage.sqlite.migrate import migrate
from memctl.storage.times import to_day

DAYS = 120
NIGHT = timedelta(days=1, minutes=7)  # from the start of a day to its nightly run

MONTHS_END = (29, 59, 89, DAYS)  # days, counted from 0

POST_MORTEM = 48
FORGETS = 61
NIGHTLY = 90  # from this day on; weekly before

FEATURES: tuple[Feature, ...] = ("access-boost", "access-counting")

# The figure of a month to which the memories changed by a job are added.
COUNTED_AS = {"cleanup": "expired", "promote": "promoted", "prune": "pruned"}

# The scene when a job changes several memories for the first time.
FIRST_TIME = {
    "cleanup": "archived {count} expired contexts of finished tasks",
    "decay": "lowered the importance of {count} memories that are not read",
    "promote": "promoted {key}, read {accesses} times, to the knowledge base",
    "prune": "deleted {count} unimportant memories archived 90 days ago",
}


class Scene(NamedTuple):
    """An event of the story: the day, the command, and what it did."""

    day: str
    command: str
    sentence: str


class Month(NamedTuple):
    """The changes of memories in a month."""

    month: int
    written: int
    reads: int
    expired: int
    promoted: int
    restored: int
    pruned: int


@contextmanager
def demo_database(keep: Path | None) -> Iterator[Path]:
    """Provide a path for a database, which is copied to `keep` after the block, or deleted.

    The block must close the database. Raises UsageError if `keep` exists, and MemctlError if it or
    the directory for temporary files is not writable.
    """
    if keep is not None:
        require_free(keep)
        with _written_at(keep) as draft, _temporary_database() as database:
            yield database
            with (
                database.open("rb") as content,
                os.fdopen(draft.descriptor, "wb", closefd=False) as copy,
            ):
                shutil.copyfileobj(content, copy)
            require_free(keep)  # another program may have created it
        return
    with _temporary_database() as database:
        yield database


def require_free(keep: Path) -> None:
    """Raise UsageError if a database, or a file that belongs to one, exists at the path."""
    for end in ("", "-wal", "-shm", "-journal"):
        path = f"{keep}{end}"
        if os.path.lexists(path):
            raise UsageError(f"{path} already exists", "specify another file")


@contextmanager
def _written_at(keep: Path) -> Iterator[Draft]:
    try:
        with whole_file(keep, owner_of=keep) as draft:
            yield draft
    except OSError as error:
        raise MemctlError(
            f"{keep} cannot be written ({error.strerror})",
            "free some space, or specify another file",
        ) from None


@contextmanager
def _temporary_database() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="memctl-demo-", ignore_cleanup_errors=True)
    except OSError as error:
        raise MemctlError(
            f"temporary files cannot be written ({error.strerror})",
            "free some space, or set TMPDIR to a writable directory",
        ) from None
    with folder as name:
        yield Path(name) / "demo.db"


def live(path: Path, *, now: datetime) -> Iterator[Scene | Month]:
    """Create the database and simulate the four months before now; yield scenes and months.

    Raises MemctlError if the database cannot be written.
    """
    begin = now.replace(hour=0, minute=0, second=0) - timedelta(days=DAYS)
    with open_or_create_database(path) as db:
        migrate(db, path, now=begin)
        for feature in FEATURES:
            enable(db, feature, now=begin)
        yield _scene(begin, "migrate", "an empty database; the jobs run once a week")
        yield from Life(db, path, begin, now).days()


class Life:
    """The simulation: the agents work by day, and the jobs run at night."""

    def __init__(self, db: Connection, path: Path, begin: datetime, now: datetime) -> None:
        self._db = db
        self._path = path
        self._begin = begin
        self._now = now
        self._settings = Settings(path, "demo")
        self._fleet = Fleet(db, begin)
        self._counts: Counter[str] = Counter()  # of this month
        self._introduced: set[str] = set()  # the jobs that have had a scene

    def days(self) -> Iterator[Scene | Month]:
        """Simulate the days until now."""
        for day in range(DAYS + 1):
            today = self._begin + timedelta(days=day)
            night = min(today + NIGHT, self._now)
            with transaction(self._db):
                self._counts += self._fleet.work(today, until=night)
            if day == FORGETS:
                yield self._forget(today + timedelta(hours=23))
            if day == NIGHTLY:
                yield _scene(night, "schedule", "from now on, cron runs the jobs every night")
            if day >= NIGHTLY or day % 7 == 6:
                yield from self._run_jobs(night)
            if day == POST_MORTEM:
                yield self._restore_contexts(night)
            if day == FORGETS + 1:
                yield self._restore_forgotten(night)
            if day in MONTHS_END:
                counts = (self._counts[name] for name in Month._fields[1:])
                yield Month(1 + MONTHS_END.index(day), *counts)
                self._counts.clear()

    def _run_jobs(self, night: datetime) -> Iterator[Scene]:
        """Run the jobs that are due; yield a scene for each that has not had one."""
        for outcome in run_due_jobs(self._settings, JobRequest(self._path, night)):
            if problem := outcome.bug or outcome.failure:
                raise problem
            if not (outcome.report and outcome.report.result):
                continue
            tally = outcome.report.result.tally
            if outcome.job in COUNTED_AS:
                self._counts[COUNTED_AS[outcome.job]] += tally.count
            has_scene = tally.count >= 3 and outcome.job in FIRST_TIME
            if has_scene and outcome.job not in self._introduced:
                self._introduced.add(outcome.job)
                yield self._first_time(outcome.job, night, tally.count)

    def _first_time(self, job: str, night: datetime, count: int) -> Scene:
        facts: dict[str, object] = {"count": count}
        if job == "promote":
            row = most_read_promoted(self._db)
            facts |= zip(("key", "accesses"), row, strict=True)
        return _scene(night, job, FIRST_TIME[job].format(**facts))

    def _forget(self, moment: datetime) -> Scene:
        agent, lesson = FORGOTTEN
        with AgentMemory(self._path, clock=lambda: moment) as memories:
            memories.forget(agent, lesson.type, lesson.key)
        return _scene(moment, "forget", f"{agent} forgets {lesson.key} by mistake")

    def _restore_forgotten(self, night: datetime) -> Scene:
        agent, _ = FORGOTTEN
        lately = night - timedelta(days=3)
        self._restore(ArchiveFilter(agent=agent, reason="forgotten", since=lately), night)
        return _scene(night, "restore", "restored unchanged the next day")

    def _restore_contexts(self, night: datetime) -> Scene:
        lately = night - timedelta(days=3)
        contexts = ArchiveFilter(agent="qa_agent", type="context", since=lately)
        count = self._restore(contexts, night, expires_in=timedelta(days=14))
        sentence = f"restored {count} contexts of qa_agent for two weeks"
        return _scene(night, "restore", sentence)

    def _restore(
        self, which: ArchiveFilter, night: datetime, *, expires_in: timedelta | None = None
    ) -> int:
        report = perform(
            "restore",
            lambda run: restore(run, which, expires_in=expires_in),
            JobRequest(self._path, night),
            by_hand=True,
        )
        count = report.result.restored if report.result else 0
        self._counts["restored"] += count
        return count


def _scene(moment: datetime, command: str, sentence: str) -> Scene:
    return Scene(to_day(moment), command, sentence)
