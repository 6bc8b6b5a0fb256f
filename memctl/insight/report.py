"""The health report: what became of the agents' memory in a period, and what to do about it.

Here are the figures; `advice` draws the conclusions, and other modules make pages of both. All
are of one moment, so that they agree with each other.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import dropwhile
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NamedTuple

from memctl.config.policies import AlertPolicy, DecayPolicy, PromotePolicy
from memctl.errors import UsageError
from memctl.insight.metrics import DatabaseSize, DayFigures, database_size, read_history
from memctl.jobs.candidates import Candidates, foreseen_candidates
from memctl.storage.sqlite.database import one_view
from memctl.storage.sqlite.features import counting_since
from memctl.storage.sqlite.figures import (
    CHANGES,
    DAY,
    Figures,
    Key,
    Period,
    by_agent,
    first_moment,
    read_figures,
    total,
)
from memctl.storage.times import is_before, to_day, to_text, to_unix, unix_seconds

MOST = 10  # rows of each list

AGE_BEFORE_UNREAD_COUNTS = timedelta(days=7)
SOON = timedelta(days=7)

WRITTEN_AND_UNREAD = f"""
    SELECT agent_id, count(*), total(created > :start),
        total(ifnull(access_count > 0, 0) = 0 AND created <= :unread_before)
    FROM (
        SELECT CAST(agent_id AS TEXT) AS agent_id, access_count,
            {unix_seconds("created_at")} AS created
        FROM agent_memory NOT INDEXED
        LIMIT -1
    )
    GROUP BY agent_id
"""

IMPORTANCES = """
    SELECT CAST(max(0, min(10, importance)) AS INTEGER) AS points, count(*)
    FROM agent_memory NOT INDEXED
    WHERE importance BETWEEN -1e12 AND 1e12
    GROUP BY points
"""

UNREAD = f"""
    SELECT agent_id, type, key, importance, created_at
    FROM agent_memory NOT INDEXED
    WHERE ifnull(access_count > 0, 0) = 0
        AND importance BETWEEN -1e12 AND 1e12
        AND {unix_seconds("created_at")} <= :unread_before
    ORDER BY importance DESC, rowid
    LIMIT {MOST}
"""

BIGGEST = f"""
    SELECT agent_id, type, key, bytes
    FROM (
        SELECT rowid, agent_id, type, key, length(CAST(value AS BLOB)) AS bytes
        FROM agent_memory NOT INDEXED
        LIMIT -1
    )
    ORDER BY bytes DESC, rowid
    LIMIT {MOST}
"""

EXPIRIES = f"""(
    SELECT rowid, agent_id, type, key, expires_at, {unix_seconds("expires_at")} AS expires
    FROM agent_memory
    WHERE expires_at IS NOT NULL
    LIMIT -1
)"""

EXPIRING = f"""
    SELECT agent_id, type, key, expires_at
    FROM {EXPIRIES}
    WHERE expires >= :now
    ORDER BY expires, rowid
    LIMIT {MOST}
"""

EXPIRING_SOON = f"SELECT count(*) FROM {EXPIRIES} WHERE expires >= :now AND expires < :soon"

OVERDUE = f"SELECT count(*) FROM agent_memory WHERE {is_before('expires_at', ':now')}"

CHANGES_BY_DAY = f"""
    SELECT day, expired, archived - expired, restored, pruned, promoted, decayed
    FROM (
        SELECT substr(at, 1, 10) AS day, {CHANGES},
            total(CASE WHEN event = 'memory:decayed' THEN json_extract(detail, '$.decayed') END)
                AS decayed
        FROM memory_events
        WHERE at >= :since AND at < :next_day
        GROUP BY day
    )
"""

RUNS = """
    SELECT job, status, duration_ms, longest_lock_ms, error, run_id = last
    FROM memory_runs, (SELECT max(run_id) AS last FROM memory_runs)
    WHERE started_at >= :since
    ORDER BY run_id
"""


class Changes(NamedTuple):
    """What happened on a day, in memories."""

    day: str
    expired: int = 0
    archived: int = 0  # for other reasons
    restored: int = 0
    pruned: int = 0
    promoted: int = 0
    decayed: int = 0


class AgentReport(NamedTuple):
    """How an agent is doing; `before` are its memories at the first snapshot, if there is one."""

    agent: str
    figures: Figures
    before: int | None
    written: int
    unread: int


class ReportedMemory(NamedTuple):
    """A memory, and what is remarkable about it."""

    agent: str
    type: str
    key: str
    remarkable: tuple[Any, ...]


class ReportedCandidate(NamedTuple):
    """A memory that meets the conditions of promotion, all or all but one."""

    agent: str
    type: str
    key: str
    importance: float  # that counts for it
    access_count: int
    age_days: int
    is_due: bool


class JobFigures(NamedTuple):
    """How a job went in the period; a run that was begun and never finished has crashed."""

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
    """The answer to `memctl report`."""

    at: datetime
    since: datetime
    database: DatabaseSize
    first_moment: datetime  # nothing is known of what happened before
    counts_accesses: bool
    promotion: PromotePolicy  # this and the next: the policies in force
    alerts: AlertPolicy
    figures: Figures
    types: Sequence[tuple[str, Figures]]  # the largest first
    agents: Sequence[AgentReport]  # the largest first
    history: Sequence[DayFigures]  # from the first snapshot on
    changes: Sequence[Changes]  # every day of the period of which anything is known
    importances: Sequence[int]  # how many memories have 0, 1, … 10 points, rounded down
    unread: Sequence[ReportedMemory]  # the most important first; remarkable: importance, created_at
    biggest: Sequence[ReportedMemory]  # remarkable: the bytes of the value
    overdue: int
    expiring_soon: int
    expiring: Sequence[ReportedMemory]  # the nearest first; remarkable: expires_at
    candidates: Sequence[ReportedCandidate]
    near_candidates: Sequence[ReportedCandidate]
    candidate_count: int
    near_candidate_count: int
    jobs: Sequence[JobFigures]
    findings: Sequence[str]

    @property
    def before(self) -> DayFigures | None:
        """The first snapshot of the period, if it is not also the newest figures."""
        first = next((day for day in self.history if day.figures), None)
        return first if first and first.date < to_day(self.at) else None

    @property
    def sum_of_changes(self) -> Changes:
        """What happened in the whole period."""
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
    findings: Sequence[str] = (),
) -> HealthReport:
    """Read what the report is made of; `findings` are sentences of others.

    Raises UsageError when the period has not begun.
    """
    if since >= now:
        raise UsageError(f"{to_text(since)} is not in the past", "let --since name an earlier time")
    parameters: dict[str, Any] = {
        "start": to_unix(since),
        "now": to_unix(now),
        "soon": to_unix(now + SOON),
        "unread_before": to_unix(now - AGE_BEFORE_UNREAD_COUNTS),
        "since": to_text(since),
        "next_day": to_day(now + DAY),
        "agent": None,
    }
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
            db, foreseen_candidates(db, promotion, decay, agent=None, now=now)
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
            agents=_read_agents(db, figures, before, parameters),
            history=list(dropwhile(lambda day: day.figures is None, history.of_all())),
            changes=_read_changes(db, max(since, began), now, parameters),
            importances=_read_importances(db),
            unread=_memories(db.execute(UNREAD, parameters).fetchall()),
            biggest=_memories(db.execute(BIGGEST).fetchall()),
            overdue=_count(db, OVERDUE, parameters),
            expiring_soon=_count(db, EXPIRING_SOON, parameters),
            expiring=_memories(db.execute(EXPIRING, parameters).fetchall()),
            candidates=due[:MOST],
            near_candidates=near[:MOST],
            candidate_count=len(due),
            near_candidate_count=len(near),
            jobs=_read_jobs(db, parameters),
            findings=findings,
        )


def _count(db: Connection, query: str, parameters: Mapping[str, Any]) -> int:
    return int(db.execute(query, parameters).fetchone()[0])


def _memories(rows: Sequence[tuple[Any, ...]]) -> list[ReportedMemory]:
    return [ReportedMemory._make((*row[:3], row[3:])) for row in rows]


def _by_type(figures: Mapping[Key, Figures]) -> list[tuple[str, Figures]]:
    types: defaultdict[str, list[Figures]] = defaultdict(list)
    for (_, type_), found in figures.items():
        types[type_].append(found)
    sums = [(type_, total(types[type_])) for type_ in sorted(types)]
    return sorted(sums, key=lambda of_type: -of_type[1].memories)


def _read_agents(
    db: Connection,
    figures: Mapping[Key, Figures],
    before: Mapping[str, Figures | None],
    parameters: Mapping[str, Any],
) -> list[AgentReport]:
    active = {
        agent: (int(written), int(unread))
        for agent, _, written, unread in db.execute(WRITTEN_AND_UNREAD, parameters)
    }
    agents = []
    for agent, types in by_agent(figures).items():
        first = before.get(agent, Figures() if before else None)
        agents.append(
            AgentReport(
                agent,
                total(types.values()),
                first.memories if first else None,
                *active.get(agent, (0, 0)),
            )
        )
    return sorted(agents, key=lambda agent: (-agent.figures.memories, agent.agent))


def _read_changes(
    db: Connection, since: datetime, now: datetime, parameters: Mapping[str, Any]
) -> list[Changes]:
    found = {
        row[0]: Changes(row[0], *(int(count) for count in row[1:]))
        for row in db.execute(CHANGES_BY_DAY, parameters)
    }
    days = {to_day(since + number * DAY) for number in range((now - since).days + 1)}
    return [found.get(day, Changes(day)) for day in sorted({*days, to_day(now), *found})]


def _read_importances(db: Connection) -> list[int]:
    found = dict(db.execute(IMPORTANCES).fetchall())
    return [found.get(points, 0) for points in range(11)]


def _read_candidates(db: Connection, candidates: Candidates) -> list[ReportedCandidate]:
    """Return what meets the conditions of promotion, all or all but one; the nearest first."""
    found = [
        ReportedCandidate(
            *memory[2:5],
            considered.importance_that_counts,
            considered.access_count,
            considered.age_days or 0,
            considered.is_due,
        )
        for memory, considered in candidates.judge(db, "lacking one at most")
        if not considered.known_since
    ]
    return sorted(found, key=lambda one: (not one.is_due, -one.importance, -one.access_count))


def _read_jobs(db: Connection, parameters: Mapping[str, Any]) -> list[JobFigures]:
    runs: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for job, *run in db.execute(RUNS, parameters):
        runs[job].append(tuple(run))
    return [_job(job, runs[job]) for job in sorted(runs)]


def _job(job: str, runs: Sequence[tuple[Any, ...]]) -> JobFigures:
    statuses = [status for status, *_ in runs]
    newest_is_at_work = bool(runs[-1][0] == "running" and runs[-1][4])
    durations = [run[1] for run in runs if run[1] is not None]
    locks = [run[2] for run in runs if run[2] is not None]
    errors = [run[3] for run in runs if run[0] == "failed"]
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
