"""What a report says, section by section, for every form it is shown in.

Nothing here is escaped: whoever makes a page of it spells out and escapes each text.
"""

from collections.abc import Sequence
from typing import NamedTuple

from memctl.insight.advice import advise
from memctl.insight.report import AGE_BEFORE_UNREAD_COUNTS, MOST, HealthReport
from memctl.output.metrics import readable_average, readable_bytes, sparkline
from memctl.output.tables import Cell, Column
from memctl.storage.sqlite.report import ReportedMemory
from memctl.storage.times import to_text

LONGEST_NAME = 60


class ReportSection(NamedTuple):
    """A heading and what is under it: sentences, and then a table, if they are not empty."""

    title: str
    sentences: Sequence[str] = ()
    columns: Sequence[Column] = ()
    rows: Sequence[Sequence[Cell]] = ()


def title(report: HealthReport) -> str:
    """Return what the report is about."""
    return f"Memory report, {to_text(report.since)} to {to_text(report.at)}"


def sections(report: HealthReport) -> list[ReportSection]:
    """Return all that there is to say; sections that would be empty are left out."""
    found = [
        ReportSection("What to do", advise(report)),
        ReportSection("Findings", report.findings),
        _summary(report),
        _agents(report),
        _types(report),
        _expiries(report),
        _memories("Never read, though important", report.unread, "importance", "written"),
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
        f"{report.database.path}: {figures.memories:,} memories of {len(report.agents)} agents, "
        f"{figures.archived_memories:,} in the archive, "
        f"{readable_bytes(figures.storage_bytes)} of text in a file of "
        f"{readable_bytes(report.database.size_bytes)}.",
        f"Growth: {growth(report)}. Written and still there: {written:,}.",
        f"Left: {changes.expired:,} expired, {changes.archived:,} archived otherwise. "
        f"Came back: {changes.restored:,}. Gone for good: {changes.pruned:,}. "
        f"Lost importance: {changes.decayed:,} times. Promoted: {changes.promoted:,}.",
        f"Read: {figures.accessed_memories:,} memories. Never read, and "
        f"{AGE_BEFORE_UNREAD_COUNTS.days} days old or more: {unread:,}.",
    ]
    line = sparkline(report.history)
    if len(line) > 1:
        sentences.append(f"Memories day by day since {report.history[0].date}: {line}")
    if report.first_moment > report.since:
        sentences.append(f"Changes are known since {to_text(report.first_moment)}.")
    return ReportSection("Summary", sentences)


def growth(report: HealthReport) -> str:
    """Return how the number of memories changed, as far as it is known."""
    before = report.before
    if before is None or before.figures is None:
        return "not known without a snapshot"
    return f"{_signed(report.figures.memories - before.figures.memories)} since {before.date}"


def _days(report: HealthReport) -> ReportSection:
    names = ("expired", "archived otherwise", "restored", "pruned", "promoted", "lost importance")
    columns = [Column("day"), *(Column(name, numeric=True) for name in names)]
    rows: list[list[Cell]] = [list(day) for day in report.changes if any(day[1:])]
    return ReportSection("Day by day", columns=columns, rows=rows)


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
    return ReportSection("Biggest agents", columns=columns, rows=rows)


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
    section = _memories("Next to expire", report.expiring, "expires_at")
    if not section.rows and not report.overdue:
        return section
    sentence = (
        f"{report.expiring_soon:,} expire within a week; {report.overdue:,} have expired already."
    )
    return section._replace(sentences=[sentence])


def _values(report: HealthReport) -> ReportSection:
    sized = [
        memory._replace(remarkable=(readable_bytes(memory.remarkable[0]),))
        for memory in report.biggest
    ]
    return _memories("Biggest values", sized, "size")


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
        f"{report.candidate_count:,} memories meet every condition of promotion: importance "
        f"{least.importance:g}, {least.accesses:,} reads, {least.age.days:,} days of age, and a "
        f"pattern or a learning; {report.near_candidate_count:,} meet all but one."
    )
    return ReportSection("Promotion", [sentence], columns, rows)


def _jobs(report: HealthReport) -> ReportSection:
    names = ("runs", "ok", "refused", "failed", "crashed", "median ms", "longest lock ms")
    columns = [Column("job"), *(Column(name, numeric=True) for name in names)]
    return ReportSection("Jobs", columns=columns, rows=[list(job[:8]) for job in report.jobs])


def short(text: str) -> str:
    """Return a text that is short enough for a table."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def _signed(difference: int) -> str:
    return f"{difference:+,}" if difference else "0"
