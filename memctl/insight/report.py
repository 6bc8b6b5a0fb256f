"""The health report: the state of the memories, and their changes in a period.

This module reads the figures, all in one read transaction; `advice` derives recommendations from
them.
"""

import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

from memctl.config.jobs import JOBS
from memctl.config.policies import AlertPolicy, DecayPolicy, PromotePolicy
from memctl.errors import UsageError
from memctl.insight.metrics import DatabaseSize, DayFigures, database_size, read_history
from memctl.jobs.candidates import Considered, foreseen_candidates
from memctl.storage.figures import DAY, Figures, Key, Period, by_agent, total
from memctl.storage.sqlite.database import Connection, one_view
from memctl.storage.sqlite.features import counting_since
from memctl.storage.sqlite.figures import first_moment, read_figures
from memctl.storage.sqlite.report import (
    AgentActivity,
    Changes,
    ReportedMemory,
    activity_of_agents,
    biggest_values,
    changes_by_day,
    count_by_importance,
    count_expiring,
    count_overdue,
    next_to_expire,
    unread_memories,
)
from memctl.storage.sqlite.run_summaries import RunSummary, runs_since
from memctl.storage.sqlite.store import SqliteStore
from memctl.storage.store import Candidates
from memctl.storage.times import to_day, to_text

MOST = 10  # rows of each list

AGE_BEFORE_UNREAD_COUNTS = timedelta(days=7)
SOON = timedelta(days=7)


class AgentReport(NamedTuple):
    """The figures of an agent; `before` is its number of memories at the first snapshot."""

    agent: str
    figures: Figures
    before: int | None
    written: int
    unread: int


class ReportedCandidate(NamedTuple):
    """A memory that meets all conditions of promotion, or all but one."""

    agent: str
    type: str
    key: str
    importance: float  # as the conditions see it
    access_count: int
    age_days: int
    is_due: bool


class JobFigures(NamedTuple):
    """The runs of a job in the period; an unfinished run has crashed."""

    job: str
    runs: int
    ok: int
    refused: int
    failed: int
    crashed: int
    median_ms: float | None
    longest_lock_ms: float | None
    last_error: str | None


@dataclass(frozen=True)
class HealthReport:
    """The result of `memctl report`."""

    at: datetime
    since: datetime
    database: DatabaseSize
    first_moment: datetime  # changes before it are unknown
    counts_accesses: bool
    promotion: PromotePolicy  # the policies in force
    alerts: AlertPolicy
    figures: Figures
    types: Sequence[tuple[str, Figures]]  # the largest first
    agents: Sequence[AgentReport]  # the largest first
    history: Sequence[DayFigures]  # from the first snapshot on
    changes: Sequence[Changes]  # of every day of the period since first_moment
    importances: Sequence[int]  # numbers of memories with 0, 1, … 10 points, rounded down
    unread: Sequence[ReportedMemory]  # the most important first; remarkable: importance, created_at
    biggest: Sequence[ReportedMemory]  # remarkable: the bytes of the value
    overdue: int
    expiring_soon: int
    expiring: Sequence[ReportedMemory]  # the next first; remarkable: expires_at
    candidates: Sequence[ReportedCandidate]
    near_candidates: Sequence[ReportedCandidate]
    candidate_count: int
    near_candidate_count: int
    jobs: Sequence[JobFigures]
    scheduled: Collection[str]  # the jobs that are not set to "never"
    findings: Sequence[str]

    @property
    def before(self) -> DayFigures | None:
        """The first snapshot of the period, unless it is of the present day."""
        first = next((day for day in self.history if day.figures), None)
        return first if first and first.date < to_day(self.at) else None

    @property
    def sum_of_changes(self) -> Changes:
        """The changes of the whole period."""
        columns = list(zip(*self.changes, strict=True))[1:]
        return Changes("", *(sum(column) for column in columns))


def read_report(
    db: Connection,
    path: Path,
    promotion: PromotePolicy,
    decay: DecayPolicy,
    alerts: AlertPolicy,
    *,
    since: datetime,
    now: datetime,
    scheduled: Collection[str] = tuple(JOBS),
    findings: Sequence[str] = (),
) -> HealthReport:
    """Read the figures of the period since `since`; `findings` are further sentences.

    `scheduled` are the jobs that should have run.

    Raises UsageError if the period begins in the future.
    """
    if since >= now:
        raise UsageError(
            f"{to_text(since)} is not in the past", "specify an earlier time with --since"
        )
    with one_view(db):
        period = Period(since, now, to_day(since), to_text(since))
        figures = read_figures(db, period)
        history = read_history(db, since - DAY, now=now)
        began = first_moment(db)
        before: dict[str, Figures | None] = {}
        first = min(history.taken, default=None)
        if first and first < to_day(now):
            before = {
                agent: next(day.figures for day in days if day.date == first)
                for agent, days in history.by_agent().items()
            }
        candidates = _read_candidates(
            foreseen_candidates(SqliteStore(db), promotion, decay, now=now)
        )
        due = [candidate for candidate in candidates if candidate.is_due]
        near = [candidate for candidate in candidates if not candidate.is_due]
        return HealthReport(
            at=now,
            since=since,
            database=database_size(path),
            first_moment=began,
            counts_accesses=counting_since(db) is not None,
            promotion=promotion,
            alerts=alerts,
            figures=total(figures.values()),
            types=_by_type(figures),
            agents=_agent_reports(db, figures, before, since=since, now=now),
            history=list(dropwhile(lambda day: day.figures is None, history.of_all())),
            changes=_daily_changes(db, since, began, now),
            importances=count_by_importance(db),
            unread=unread_memories(db, written_before=now - AGE_BEFORE_UNREAD_COUNTS, limit=MOST),
            biggest=biggest_values(db, limit=MOST),
            overdue=count_overdue(db, now=now),
            expiring_soon=count_expiring(db, now=now, until=now + SOON),
            expiring=next_to_expire(db, now=now, limit=MOST),
            candidates=due[:MOST],
            near_candidates=near[:MOST],
            candidate_count=len(due),
            near_candidate_count=len(near),
            jobs=[_job_figures(job, runs) for job, runs in sorted(runs_since(db, since).items())],
            scheduled=scheduled,
            findings=findings,
        )


def _by_type(figures: Mapping[Key, Figures]) -> list[tuple[str, Figures]]:
    types: defaultdict[str, list[Figures]] = defaultdict(list)
    for (_, type_), found in figures.items():
        types[type_].append(found)
    sums = [(type_, total(types[type_])) for type_ in sorted(types)]
    return sorted(sums, key=lambda of_type: -of_type[1].memories)


def _agent_reports(
    db: Connection,
    figures: Mapping[Key, Figures],
    before: Mapping[str, Figures | None],
    *,
    since: datetime,
    now: datetime,
) -> list[AgentReport]:
    activity = activity_of_agents(db, since=since, unread_before=now - AGE_BEFORE_UNREAD_COUNTS)
    agents = []
    for agent, types in by_agent(figures).items():
        first = before.get(agent, Figures() if before else None)
        agents.append(
            AgentReport(
                agent,
                total(types.values()),
                first.memories if first else None,
                *activity.get(agent, AgentActivity()),
            )
        )
    return sorted(agents, key=lambda agent: (-agent.figures.memories, agent.agent))


def _daily_changes(
    db: Connection, since: datetime, began: datetime, now: datetime
) -> list[Changes]:
    """Return the changes of every day of the period since events are recorded."""
    found = changes_by_day(db, since=since, next_day=to_day(now + DAY))
    first = max(since, began)
    days = {to_day(first + number * DAY) for number in range((now - first).days + 1)}
    return [found.get(day, Changes(day)) for day in sorted({*days, to_day(now), *found})]


def _read_candidates(candidates: Candidates) -> list[ReportedCandidate]:
    """Return the memories that meet all conditions of promotion or all but one, best first."""
    found = [
        ReportedCandidate(
            *memory[2:5],
            considered.importance_that_counts,
            considered.access_count,
            considered.age_days or 0,
            considered.is_due,
        )
        for memory, conditions in candidates.judge("lacking one at most")
        if not (considered := Considered(*conditions)).known_since
    ]
    return sorted(found, key=lambda one: (not one.is_due, -one.importance, -one.access_count))


def _job_figures(job: str, runs: Sequence[RunSummary]) -> JobFigures:
    statuses = [run.status for run in runs]
    newest_is_at_work = runs[-1].status == "running" and bool(runs[-1].is_newest)
    durations = [run.duration_ms for run in runs if run.duration_ms is not None]
    locks = [run.longest_lock_ms for run in runs if run.longest_lock_ms is not None]
    errors = [run.error for run in runs if run.status == "failed"]
    return JobFigures(
        job=job,
        runs=len(runs),
        ok=statuses.count("ok"),
        refused=statuses.count("refused"),
        failed=statuses.count("failed"),
        crashed=statuses.count("running") - newest_is_at_work,
        median_ms=statistics.median(durations) if durations else None,
        longest_lock_ms=max(locks, default=None),
        last_error=errors[-1] if errors else None,
    )
