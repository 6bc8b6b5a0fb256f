"""The parts of a health report, for every format.

Nothing here is escaped or shortened; each format does that.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from memctl.errors import counted
from memctl.insight.advice import advise
from memctl.insight.periods import PeriodFigures
from memctl.insight.remarks import remarkable
from memctl.insight.report import AGE_BEFORE_UNREAD_COUNTS, MOST, HealthReport
from memctl.output.metrics import sparkline
from memctl.output.readable import (
    readable_average,
    readable_bytes,
    readable_day,
    readable_moment,
    readable_stored_time,
    signed,
    with_readable_times,
)
from memctl.output.tables import Cell, Column
from memctl.storage.sqlite.report import ReportedMemory

COMMAND = re.compile(r"`((?:memctl|sqlite3|PRAGMA|--)[^`]*)`")

# A memory can be found only by its whole name; the type is the first to be left out.
NAME_OF_MEMORY = (Column("agent", whole=True), Column("type", rank=2), Column("key", least=24))


class ReportSection(NamedTuple):
    """A heading, sentences and a table; both may be empty.

    A small table has one name and few numbers; a detail is collapsed on the page.
    """

    title: str
    sentences: Sequence[str] = ()
    columns: Sequence[Column] = ()
    rows: Sequence[Sequence[Cell]] = ()
    is_small: bool = False
    is_detail: bool = False


def facts(report: HealthReport) -> list[tuple[str, str]]:
    """Return what the report is about: period, database, host, version and time."""
    period = f"{readable_moment(report.since)} to {readable_moment(report.at)}"
    return [
        ("Period", period),
        ("Database", report.database.path),
        ("Host", report.host),
        ("Created", f"{readable_moment(report.at)}, by memctl {report.version}"),
    ]


def notes(report: HealthReport) -> list[ReportSection]:
    """Return the sections that consist of sentences only, and are not empty."""
    found = [
        ReportSection("Recommended actions", advise(report)),
        ReportSection(
            "Findings",
            [
                f"{finding.severity.capitalize()}: {finding.sentence}"
                for finding in report.findings
                if finding.severity != "info"
            ],
        ),
        ReportSection("Remarks", remarkable(report)),
    ]
    return [_readable(section) for section in found if section.sentences]


def _readable(section: ReportSection) -> ReportSection:
    return section._replace(sentences=[*map(with_readable_times, section.sentences)])


def tables(report: HealthReport) -> list[ReportSection]:
    """Return the sections with a table that are not empty."""
    found = [
        compared(report),
        _types(report),
        _agents(report),
        _expiries(report),
        _memories("Important but never read", report.unread, "importance", "written"),
        _values(report),
        _candidates(report),
        _jobs(report),
        _days(report),
    ]
    return [section for section in found if section.sentences or section.rows]


def summary(report: HealthReport) -> ReportSection:
    """Return the most important figures as sentences, for formats without pictures."""
    figures = report.figures
    unread = sum(agent.unread for agent in report.agents)
    sentences = [
        f"{counted(figures.memories, 'memory')} of {counted(len(report.agents), 'agent')}, "
        f"{figures.archived_memories:,} in the archive; "
        f"{readable_bytes(figures.storage_bytes)} of text in a file of "
        f"{size_of_file(report)}.",
        f"Growth: {growth(report)}.",
        f"Memories read in the last 30 days: {figures.accessed_memories:,}. Never read and at "
        f"least {AGE_BEFORE_UNREAD_COUNTS.days} days old: {unread:,}. At the floor of decay: "
        f"{report.at_floor:,}.",
    ]
    line = sparkline(report.history)
    if len(line) > 1:
        sentences.append(f"Memories per day since {readable_day(report.history[0].date)}: {line}")
    return ReportSection("Summary", sentences)


def size_of_file(report: HealthReport) -> str:
    """Return the size of the file, and of the free pages in it."""
    size = readable_bytes(report.database.size_bytes)
    free = report.database.free_bytes
    return f"{size}, of which {readable_bytes(free)} are free" if free else size


def growth(report: HealthReport) -> str:
    """Return how the number of memories has changed, if a snapshot shows it."""
    before = report.before
    if before is None or before.figures is None:
        return "unknown without a snapshot"
    grown = report.figures.memories - before.figures.memories
    return f"{signed(grown)} since {readable_day(before.date)}"


def compared(report: HealthReport) -> ReportSection:
    """Return what happened in the period, beside the period before."""
    now, before = report.period, report.period_before
    sentences = []
    if report.known_since > report.since:
        sentences.append(f"Changes are known only since {readable_moment(report.known_since)}.")
    if before.is_known:
        sentences.append(f"The period before is that {_from_to(before)}.")
    else:
        sentences.append(
            f"The period before, {_from_to(before)}, is unknown: changes are recorded since "
            f"{readable_moment(report.known_since)}."
        )
    rows = [
        [name, *(_number(one) for one in (of_now, of_before)), _difference(of_now, of_before)]
        for (name, of_now), (_, of_before) in zip(_happened(now), _happened(before), strict=True)
    ]
    columns = [
        Column("figure", whole=True),
        Column("this period", numeric=True),
        Column("period before", numeric=True),
        Column("change", numeric=True, rank=1),
    ]
    if not before.is_known:
        columns, rows = columns[:2], [row[:2] for row in rows]
    return ReportSection("Compared with the period before", sentences, columns, rows, is_small=True)


def _from_to(period: PeriodFigures) -> str:
    return f"from {readable_moment(period.start)} to {readable_moment(period.end)}"


def _happened(period: PeriodFigures) -> list[tuple[str, int | None]]:
    changes = period.changes
    return [
        ("memories written", period.written),
        ("memories expired", changes and changes.expired),
        ("memories archived otherwise", changes and changes.archived),
        ("memories restored", changes and changes.restored),
        ("memories pruned", changes and changes.pruned),
        ("memories promoted", changes and changes.promoted),
        ("reductions of importance", changes and changes.decayed),
        ("growth of active memories", period.growth),
        ("runs of jobs", period.runs),
        ("runs that failed or crashed", period.failed_runs),
    ]


def _number(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"


def _difference(now: int | None, before: int | None) -> str | None:
    return None if now is None or before is None else signed(now - before)


def _days(report: HealthReport) -> ReportSection:
    ranks = {
        "expired": 0,
        "archived otherwise": 2,
        "restored": 2,
        "pruned": 0,
        "promoted": 1,
        "decayed": 1,
    }
    columns = [Column("day", whole=True), *_numbers(ranks)]
    rows: list[list[Cell]] = [
        [readable_day(day.day), *(f"{count:,}" for count in day[1:])]
        for day in report.changes
        if any(day[1:])
    ]
    return ReportSection("Changes by day", columns=columns, rows=rows, is_detail=True)


def _agents(report: HealthReport) -> ReportSection:
    ranks = {"memories": 0, "change": 1, "archived": 2, "importance": 3, "read": 3}
    ranks |= {"never read": 4, "storage": 5}
    columns = [Column("agent", whole=True), *_numbers(ranks)]
    rows: list[Sequence[Cell]] = [
        [
            agent.agent,
            f"{agent.figures.memories:,}",
            None if agent.before is None else signed(agent.figures.memories - agent.before),
            f"{agent.figures.archived_memories:,}",
            readable_average(agent.figures.importance_average),
            f"{agent.figures.accessed_memories:,}",
            f"{agent.unread:,}",
            readable_bytes(agent.figures.storage_bytes),
        ]
        for agent in report.agents[:MOST]
    ]
    if all(agent.before is None for agent in report.agents):
        change = [column.heading for column in columns].index("change")
        columns.pop(change)
        rows = [[*row[:change], *row[change + 1 :]] for row in rows]
    return ReportSection("Largest agents", columns=columns, rows=rows)


def _types(report: HealthReport) -> ReportSection:
    ranks = {"memories": 0, "archived": 1, "importance": 2, "storage": 3}
    columns = [Column("type"), *_numbers(ranks)]
    rows: list[list[Cell]] = [
        [
            type_,
            f"{figures.memories:,}",
            f"{figures.archived_memories:,}",
            readable_average(figures.importance_average),
            readable_bytes(figures.storage_bytes),
        ]
        for type_, figures in report.types[:MOST]
    ]
    return ReportSection("Types", columns=columns, rows=rows, is_small=True)


def _expiries(report: HealthReport) -> ReportSection:
    section = _memories("Expiring next", report.expiring, "expires")
    if not section.rows and not report.overdue:
        return section
    sentence = (
        f"Expiring within a week: {report.expiring_soon:,}. Expired and not yet archived:"
        f" {report.overdue:,}."
    )
    return section._replace(sentences=[sentence])


def _values(report: HealthReport) -> ReportSection:
    sized = [
        memory._replace(remarkable=(readable_bytes(memory.remarkable[0]),))
        for memory in report.biggest
    ]
    return _memories("Largest values", sized, "size")


def _memories(title: str, memories: Sequence[ReportedMemory], *names: str) -> ReportSection:
    columns = [*NAME_OF_MEMORY, *_numbers(dict.fromkeys(names, 1))]
    rows: list[list[Cell]] = [
        [
            *map(str, memory[:3]),
            *(
                readable_stored_time(value) if name in ("expires", "written") else value
                for name, value in zip(names, memory.remarkable, strict=True)
            ),
        ]
        for memory in memories
    ]
    return ReportSection(title, columns=columns, rows=rows)


def _candidates(report: HealthReport) -> ReportSection:
    columns = [*NAME_OF_MEMORY, *_numbers({"importance": 1, "reads": 1, "days old": 3})]
    columns.append(Column("meets", rank=1, whole=True))
    rows: list[list[Cell]] = [
        [
            *map(str, candidate[:3]),
            f"{candidate.importance:g}",
            f"{candidate.access_count:,}",
            f"{candidate.age_days:,}",
            "all" if candidate.is_due else "all but one",
        ]
        for candidate in (*report.candidates, *report.near_candidates)
    ]
    if not rows:
        return ReportSection("Promotion")
    least = report.policies.promote
    sentence = (
        f"Memories that meet every condition of promotion (importance {least.importance:g}, "
        f"{counted(least.accesses, 'read')}, {counted(least.age.days, 'day')} of age, and a "
        f"pattern or learning): {report.candidate_count:,}; all but one: "
        f"{report.near_candidate_count:,}."
    )
    return ReportSection("Promotion", [sentence], columns, rows)


def _jobs(report: HealthReport) -> ReportSection:
    ranks = {"runs": 0, "ok": 1, "refused": 1, "failed": 0, "crashed": 0}
    ranks |= {"median ms": 2, "longest lock ms": 3}
    columns = [Column("job", whole=True), *_numbers(ranks)]
    rows: list[list[Cell]] = [
        [
            job.job,
            *(f"{count:,}" for count in job[1:6]),
            *(None if time is None else f"{time:,.1f}" for time in job[6:8]),
        ]
        for job in report.jobs
    ]
    return ReportSection("Jobs", columns=columns, rows=rows)


def _numbers(ranks: Mapping[str, int]) -> list[Column]:
    """Return columns of numbers with their ranks."""
    return [Column(name, numeric=True, rank=rank) for name, rank in ranks.items()]


def parts(sentence: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a sentence, and whether each one is a command."""
    for number, part in enumerate(COMMAND.split(sentence)):
        if part:
            yield part, bool(number % 2)


def shortened_cell(cell: Cell, longest: int) -> str:
    """Return a cell with at most this number of characters."""
    text = "" if cell is None else str(cell)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
