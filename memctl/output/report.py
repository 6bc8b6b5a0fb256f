"""A report as text for a terminal or mail, as Markdown, and as a JSON document."""

import re
from collections.abc import Iterator, Sequence

from memctl.insight.advice import advise
from memctl.insight.report import HealthReport, ReportedCandidate
from memctl.output.contract.documents import Storage
from memctl.output.report_sections import ReportSection, sections, title
from memctl.output.tables import Cell, table_text
from memctl.output.terminal import visible
from memctl.storage.figures import Figures
from memctl.storage.sqlite.report import Changes, ReportedMemory
from memctl.storage.times import to_text


def report_text(report: HealthReport) -> str:
    """Return the report as plain text."""
    heading = title(report)
    parts = [f"{heading}\n{'=' * len(heading)}\n"]
    for section in sections(report):
        parts.append(f"\n{section.title}\n{'-' * len(section.title)}\n")
        parts += [f"* {visible(sentence)}\n" for sentence in section.sentences]
        if section.rows:
            parts.append(table_text(section.columns, section.rows))
    return "".join(parts)


def report_markdown(report: HealthReport) -> str:
    """Return the report as GitHub-flavored Markdown."""
    parts = [f"# {markdown(title(report))}\n"]
    for section in sections(report):
        parts.append(f"\n## {section.title}\n\n")
        parts += [f"- {markdown(sentence)}\n" for sentence in section.sentences]
        parts += _markdown_table(section)
    return "".join(parts)


def _markdown_table(section: ReportSection) -> Iterator[str]:
    if not section.rows:
        return
    if section.sentences:
        yield "\n"
    yield _markdown_row([column.heading for column in section.columns])
    yield _markdown_row(["--:" if column.numeric else ":--" for column in section.columns])
    for row in section.rows:
        yield _markdown_row([_cell(cell) for cell in row])


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cell(cell: Cell) -> str:
    return "" if cell is None else markdown(str(cell))


def markdown(text: str) -> str:
    """Return a text that Markdown shows literally, without markup, links or HTML."""
    spelled = re.sub(r"[\\`*_{}\[\]()<>#+!|~$@^]", r"\\\g<0>", visible(text))
    spelled = spelled.replace("&", "&amp;").replace("\\<", "&lt;").replace("\\>", "&gt;")
    return spelled.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def report_document(report: HealthReport) -> dict[str, object]:
    """Return the report as one JSON object, with names and values as they are stored."""
    return {
        "at": to_text(report.at),
        "since": to_text(report.since),
        "changes_known_since": to_text(max(report.since, report.first_moment)),
        "database": report.database.path,
        "storage": Storage(
            size_bytes=report.database.size_bytes, wal_bytes=report.database.wal_bytes
        ),
        "advice": advise(report),
        "findings": list(report.findings),
        "system": {**_figures(report.figures), **_changes(report.sum_of_changes)},
        "agents": [
            {
                "agent_id": agent.agent,
                **_figures(agent.figures),
                "memories_before": agent.before,
                "written": agent.written,
                "never_read": agent.unread,
            }
            for agent in report.agents
        ],
        "types": [{"type": name, **_figures(found)} for name, found in report.types],
        "history": [
            {"date": day.date, "memories": day.figures.memories if day.figures else None}
            for day in report.history
        ],
        "days": [{"date": day.day, **_changes(day)} for day in report.changes],
        "importances": list(report.importances),
        "never_read": [_memory(memory, "importance", "created_at") for memory in report.unread],
        "biggest": [_memory(memory, "value_bytes") for memory in report.biggest],
        "overdue": report.overdue,
        "expiring_in_a_week": report.expiring_soon,
        "expiring": [_memory(memory, "expires_at") for memory in report.expiring],
        "candidates": _candidates(report.candidate_count, report.candidates),
        "near_candidates": _candidates(report.near_candidate_count, report.near_candidates),
        "jobs": [job._asdict() for job in report.jobs],
    }


def _figures(figures: Figures) -> dict[str, object]:
    return {
        "memories": figures.memories,
        "archived": figures.archived_memories,
        "importance_avg": figures.importance_average,
        "accessed_memories": figures.accessed_memories,
        "storage_bytes": figures.storage_bytes,
    }


def _changes(changes: Changes) -> dict[str, object]:
    return {
        "expired": changes.expired,
        "archived_otherwise": changes.archived,
        "restored": changes.restored,
        "pruned": changes.pruned,
        "promoted": changes.promoted,
        "decayed": changes.decayed,
    }


def _memory(memory: ReportedMemory, *names: str) -> dict[str, object]:
    return {
        "agent_id": memory.agent,
        "type": memory.type,
        "key": memory.key,
        **dict(zip(names, memory.remarkable, strict=True)),
    }


def _candidates(count: int, shown: Sequence[ReportedCandidate]) -> dict[str, object]:
    names = ("importance", "access_count", "age_days")
    return {
        "count": count,
        "shown": [_memory(ReportedMemory(*found[:3], found[3:6]), *names) for found in shown],
    }
