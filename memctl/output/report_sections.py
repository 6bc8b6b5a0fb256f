"""The sections of a health report, for every format.

Nothing here is escaped; each format escapes its text.
"""

from collections.abc import Sequence
from typing import NamedTuple

from memctl.errors import counted
from memctl.insight.advice import advise
from memctl.insight.report import AGE_BEFORE_UNREAD_COUNTS, MOST, HealthReport
from memctl.output.fields import readable_bytes
from memctl.output.metrics import readable_average, sparkline
from memctl.output.tables import Cell, Column
from memctl.storage.sqlite.report import ReportedMemory
from memctl.storage.times import to_text

LONGEST_NAME = 60


class ReportSection(NamedTuple):
    """A heading, sentences and a table; both may be empty."""

    title: str
    sentences: Sequence[str] = ()
    columns: Sequence[Column] = ()
    rows: Sequence[Sequence[Cell]] = ()


def title(report: HealthReport) -> str:
    """Return the title of the report."""
    return f"Memory report, {to_text(report.since)} to {to_text(report.at)}"


def sections(report: HealthReport) -> list[ReportSection]:
    """Return the sections that are not empty."""
    found = [
        ReportSection("Recommended actions", advise(report)),
        ReportSection("Findings", report.findings),
        _summary(report),
        _agents(report),
        _types(report),
        _expiries(report),
        _memories("Important but never read", report.unread, "importance", "written"),
        _values(report),
        _candidates(report),
        _jobs(report),
        _days(report),
    ]
    return [section for section in found if section.sentences or section.rows]


def _summary(report: HealthReport) -> ReportSection:
    figures, changes = report.figures, report.sum_of_changes
    written = sum(agent.written for agent in report.agents)
    unread = sum(agent.unread for agent in report.agents)
    sentences = [
        f"{report.database.path}: {counted(figures.memories, 'memory')} of "
        f"{counted(len(report.agents), 'agent')}, {figures.archived_memories:,} in the archive; "
        f"{readable_bytes(figures.storage_bytes)} of text in a file of "
        f"{readable_bytes(report.database.size_bytes)}.",
        f"Growth: {growth(report)}. Written and still active: {written:,}.",
        f"Archived: {changes.expired:,} expired, {changes.archived:,} for other reasons. Restored:"
        f" {changes.restored:,}. Permanently deleted: {changes.pruned:,}. Importance lowered:"
        f" {counted(changes.decayed, 'time')}. Promoted: {changes.promoted:,}.",
        f"Memories read in the last 30 days: {figures.accessed_memories:,}. Never read and at "
        f"least {AGE_BEFORE_UNREAD_COUNTS.days} days old: {unread:,}.",
    ]
    line = sparkline(report.history)
    if len(line) > 1:
        sentences.append(f"Memories per day since {report.history[0].date}: {line}")
    if report.first_moment > report.since:
        sentences.append(f"Changes are known only since {to_text(report.first_moment)}.")
    return ReportSection("Summary", sentences)


def growth(report: HealthReport) -> str:
    """Return how the number of memories has changed, if a snapshot shows it."""
    before = report.before
    if before is None or before.figures is None:
        return "unknown without a snapshot"
    return f"{_signed(report.figures.memories - before.figures.memories)} since {before.date}"


def _days(report: HealthReport) -> ReportSection:
    names = ("expired", "archived (other)", "restored", "pruned", "promoted", "decayed")
    columns = [Column("day"), *(Column(name, numeric=True) for name in names)]
    rows: list[list[Cell]] = [list(day) for day in report.changes if any(day[1:])]
    return ReportSection("Changes by day", columns=columns, rows=rows)


def _agents(report: HealthReport) -> ReportSection:
    names = ("memories", "change", "archived", "importance", "read", "never read", "storage")
    columns = [Column("agent"), *(Column(name, numeric=True) for name in names)]
    rows: list[list[Cell]] = [
        [
            short(agent.agent),
            f"{agent.figures.memories:,}",
            None if agent.before is None else _signed(agent.figures.memories - agent.before),
            f"{agent.figures.archived_memories:,}",
            readable_average(agent.figures),
            f"{agent.figures.accessed_memories:,}",
            f"{agent.unread:,}",
            readable_bytes(agent.figures.storage_bytes),
        ]
        for agent in report.agents[:MOST]
    ]
    return ReportSection("Largest agents", columns=columns, rows=rows)


def _types(report: HealthReport) -> ReportSection:
    names = ("memories", "archived", "importance", "storage")
    columns = [Column("type"), *(Column(name, numeric=True) for name in names)]
    rows: list[list[Cell]] = [
        [
            short(type_),
            f"{figures.memories:,}",
            f"{figures.archived_memories:,}",
            readable_average(figures),
            readable_bytes(figures.storage_bytes),
        ]
        for type_, figures in report.types[:MOST]
    ]
    return ReportSection("Types", columns=columns, rows=rows)


def _expiries(report: HealthReport) -> ReportSection:
    section = _memories("Expiring next", report.expiring, "expires_at")
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
    columns = [Column(name) for name in ("agent", "type", "key")]
    columns += [Column(name, numeric=name in ("importance", "size")) for name in names]
    rows = [[*(short(str(text)) for text in memory[:3]), *memory.remarkable] for memory in memories]
    return ReportSection(title, columns=columns, rows=rows)


def _candidates(report: HealthReport) -> ReportSection:
    columns = [Column(name) for name in ("agent", "type", "key")]
    columns += [Column(name, numeric=True) for name in ("importance", "reads", "days old")]
    columns.append(Column("meets"))
    rows: list[list[Cell]] = [
        [
            *(short(str(text)) for text in candidate[:3]),
            candidate.importance,
            candidate.access_count,
            candidate.age_days,
            "all" if candidate.is_due else "all but one",
        ]
        for candidate in (*report.candidates, *report.near_candidates)
    ]
    if not rows:
        return ReportSection("Promotion")
    least = report.promotion
    sentence = (
        f"Memories that meet every condition of promotion (importance {least.importance:g}, "
        f"{counted(least.accesses, 'read')}, {counted(least.age.days, 'day')} of age, and a "
        f"pattern or learning): {report.candidate_count:,}; all but one: "
        f"{report.near_candidate_count:,}."
    )
    return ReportSection("Promotion", [sentence], columns, rows)


def _jobs(report: HealthReport) -> ReportSection:
    names = ("runs", "ok", "refused", "failed", "crashed", "median ms", "longest lock ms")
    columns = [Column("job"), *(Column(name, numeric=True) for name in names)]
    return ReportSection("Jobs", columns=columns, rows=[list(job[:8]) for job in report.jobs])


def short(text: str) -> str:
    """Return a text shortened for a table."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _signed(difference: int) -> str:
    return f"{difference:+,}" if difference else "0"
