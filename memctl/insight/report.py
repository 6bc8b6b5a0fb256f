"""The health report: the state of the memories, and their changes in a period.

This module reads the figures, all in one read transaction. `verdict`, `remarks` and `advice` derive
from them what is wrong, what is remarkable, and what to do.
"""

import os
import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

from memctl import __version__
from memctl.config.jobs import JOBS, Every
from memctl.config.policies import AlertPolicy, DecayPolicy, PromotePolicy, PrunePolicy
from memctl.errors import UsageError
from memctl.insight.findings import Finding
from memctl.insight.metrics import (
    DayFigures,
    History,
    read_history,
)
from memctl.insight.periods import PeriodFigures, growth, sum_of_changes
from memctl.jobs.candidates import Considered, foreseen_candidates
from memctl.jobs.prune import OWN_RECORDS_KEPT
from memctl.storage.figures import DAY, Figures, Key, Period, by_agent, total
from memctl.storage.rows import DatabaseSize, Pause
from memctl.storage.sqlite.alerts import raised_conditions
from memctl.storage.sqlite.database import Connection, one_view
from memctl.storage.sqlite.features import counting_since
from memctl.storage.sqlite.figures import first_moment, read_figures
from memctl.storage.sqlite.pause import current_pause
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
    count_runs,
    memories_at_floor,
    memories_by_day,
    next_to_expire,
    unread_memories,
)
from memctl.storage.sqlite.run_summaries import RunSummary, runs_since
from memctl.storage.sqlite.snapshots import SqliteSnapshots
from memctl.storage.sqlite.space import database_size
from memctl.storage.sqlite.store import SqliteStore
from memctl.storage.store import Candidates
from memctl.storage.times import to_day, to_text

MOST = 10  # rows of each list

AGE_BEFORE_UNREAD_COUNTS = timedelta(days=7)
SOON = timedelta(days=7)
LONG_OVERDUE = DAY  # cleanup runs at least once a day, unless it is set to "weekly"

# The length of a period in which a job runs at least once, unless something is wrong.
LONGEST_WAIT: Mapping[Every, timedelta] = {
    "always": timedelta(hours=1),
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
}


class ReportPolicies(NamedTuple):
    """The policies in force."""

    promote: PromotePolicy = PromotePolicy()
    decay: DecayPolicy = DecayPolicy()
    prune: PrunePolicy = PrunePolicy()
    alerts: AlertPolicy = AlertPolicy()


class AgentReport(NamedTuple):
    """The figures of an agent; `before` is its number of memories at the first snapshot."""

    agent: str
    figures: Figures
    before: int | None
    written: int
    written_before: int = 0  # in the period before
    unread: int = 0
    ever_read: int = 0


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
    host: str
    version: str
    database: DatabaseSize
    known_since: datetime  # changes before it are unknown
    counts_accesses: bool
    policies: ReportPolicies
    pause: Pause | None
    alerts: Sequence[str]  # the conditions that are raised
    figures: Figures
    period: PeriodFigures
    period_before: PeriodFigures  # of the same length
    types: Sequence[tuple[str, Figures]]  # the largest first
    agents: Sequence[AgentReport]  # the largest first
    history: Sequence[DayFigures]  # from the first snapshot on
    changes: Sequence[Changes]  # of every day of the period since first_moment
    importances: Sequence[int]  # numbers of memories with 0, 1, … 10 points, rounded down
    at_floor: int  # memories that decay cannot lower any further
    unread: Sequence[ReportedMemory]  # the most important first; remarkable: importance, created_at
    biggest: Sequence[ReportedMemory]  # remarkable: the bytes of the value
    overdue: int
    long_overdue: int  # of these, expired more than a day ago
    expiring_soon: int
    expiring: Sequence[ReportedMemory]  # the next first; remarkable: expires_at
    candidates: Sequence[ReportedCandidate]
    near_candidates: Sequence[ReportedCandidate]
    candidate_count: int
    near_candidate_count: int
    jobs: Sequence[JobFigures]
    scheduled: Collection[str]  # the jobs that should have run in the period
    findings: Sequence[Finding]

    @property
    def before(self) -> DayFigures | None:
        """The first snapshot of the period, unless it is of the present day."""
        first = next((day for day in self.history if day.figures), None)
        return first if first and first.date < to_day(self.at) else None


def read_report(
    db: Connection,
    path: Path,
    policies: ReportPolicies,
    *,
    since: datetime,
    now: datetime,
    every: Mapping[str, Every] | None = None,
    findings: Sequence[Finding] = (),
) -> HealthReport:
    """Read the figures of the period since `since`; `findings` are those of a check.

    `every` is how often each job is due. Raises UsageError if the period begins in the future.
    """
    if since >= now:
        raise UsageError(
            f"{to_text(since)} is not in the past", "specify an earlier time with --since"
        )
    earlier = since - (now - since) if now - since < OWN_RECORDS_KEPT else since
    with one_view(db):
        figures = read_figures(db, Period(since, now, to_day(since), to_text(since)))
        history = read_history(SqliteSnapshots(db), since - DAY, now=now)
        known_since = max(first_moment(db), now - OWN_RECORDS_KEPT)
        changes = changes_by_day(db, before=earlier, since=since, next_day=to_day(now + DAY))
        changes_before = changes.pop("", Changes(""))
        agents = _agent_reports(db, figures, history, earlier=earlier, since=since, now=now)
        everything = total(figures.values())
        jobs = [_job_figures(job, runs) for job, runs in sorted(runs_since(db, since).items())]
        candidates = _read_candidates(
            foreseen_candidates(SqliteStore(db), policies.promote, policies.decay, now=now)
        )
        due = [candidate for candidate in candidates if candidate.is_due]
        near = [candidate for candidate in candidates if not candidate.is_due]
        sizes = {
            **memories_by_day(db, to_day(earlier), to_day(now - DAY)),
            to_day(now): everything.memories,
        }
        return HealthReport(
            at=now,
            since=since,
            host=os.uname().nodename,
            version=__version__,
            database=database_size(db, path),
            known_since=known_since,
            counts_accesses=counting_since(db) is not None,
            policies=policies,
            pause=current_pause(db, now=now),
            alerts=sorted(raised_conditions(db)),
            figures=everything,
            period=PeriodFigures(
                since,
                now,
                written=sum(agent.written for agent in agents),
                growth=growth(sizes, since, now),
                changes=sum_of_changes(changes.values()),
                runs=sum(job.runs for job in jobs),
                failed_runs=sum(job.failed + job.crashed for job in jobs),
            ),
            period_before=_period_before(
                db,
                PeriodFigures(
                    earlier,
                    since,
                    written=sum(agent.written_before for agent in agents),
                    growth=growth(sizes, earlier, since),
                    changes=changes_before,
                ),
                known_since,
            ),
            types=_by_type(figures),
            agents=agents,
            history=list(dropwhile(lambda day: day.figures is None, history.of_all())),
            changes=_daily_changes(changes, max(since, known_since), now),
            importances=count_by_importance(db),
            at_floor=memories_at_floor(db, policies.decay),
            unread=unread_memories(db, written_before=now - AGE_BEFORE_UNREAD_COUNTS, limit=MOST),
            biggest=biggest_values(db, limit=MOST),
            overdue=count_overdue(db, before=now, now=now),
            long_overdue=count_overdue(db, before=now - LONG_OVERDUE, now=now),
            expiring_soon=count_expiring(db, now=now, until=now + SOON),
            expiring=next_to_expire(db, now=now, limit=MOST),
            candidates=due[:MOST],
            near_candidates=near[:MOST],
            candidate_count=len(due),
            near_candidate_count=len(near),
            jobs=jobs,
            scheduled=_expected(every, now - since),
            findings=findings,
        )


def _expected(every: Mapping[str, Every] | None, length: timedelta) -> list[str]:
    """Return the jobs that run at least once in any period of this length."""
    often = every or {name: job.every for name, job in JOBS.items()}
    waits = {job: LONGEST_WAIT.get(often[job]) for job in often}
    return [job for job, wait in waits.items() if wait is not None and wait <= length]


def _period_before(db: Connection, found: PeriodFigures, known_since: datetime) -> PeriodFigures:
    """Return a period with its runs; without any figures if records do not go so far back."""
    if found.start < known_since or found.start == found.end:
        return PeriodFigures(found.start, found.end)
    runs, failed = count_runs(db, since=found.start, until=found.end)
    return found._replace(runs=runs, failed_runs=failed)


def _by_type(figures: Mapping[Key, Figures]) -> list[tuple[str, Figures]]:
    types: defaultdict[str, list[Figures]] = defaultdict(list)
    for (_, type_), found in figures.items():
        types[type_].append(found)
    sums = [(type_, total(types[type_])) for type_ in sorted(types)]
    return sorted(sums, key=lambda of_type: -of_type[1].memories)


def _agent_reports(
    db: Connection,
    figures: Mapping[Key, Figures],
    history: History,
    *,
    earlier: datetime,
    since: datetime,
    now: datetime,
) -> list[AgentReport]:
    first = min(history.taken, default=to_day(now))
    is_known = first < to_day(now)
    before = {
        agent: next(day.figures for day in days if day.date == first)
        for agent, days in (history.by_agent().items() if is_known else ())
    }
    activity = activity_of_agents(
        db, before=earlier, since=since, unread_before=now - AGE_BEFORE_UNREAD_COUNTS
    )
    agents = []
    for agent, types in by_agent(figures).items():
        then = before.get(agent) or Figures()
        sums = total(types.values())
        active = activity.get(agent, AgentActivity())
        agents.append(AgentReport(agent, sums, then.memories if is_known else None, *active))
    return sorted(agents, key=lambda agent: (-agent.figures.memories, agent.agent))


def _daily_changes(found: Mapping[str, Changes], first: datetime, now: datetime) -> list[Changes]:
    """Return the changes of every day of the period since events are recorded."""
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
