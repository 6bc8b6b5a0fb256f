"""A report as text for a terminal or mail, as Markdown, and as a JSON document."""

import re
from collections.abc import Iterable, Iterator, Sequence

from memctl.insight.advice import advise
from memctl.insight.periods import PeriodFigures
from memctl.insight.remarks import remarkable
from memctl.insight.report import HealthReport, ReportedCandidate
from memctl.insight.verdict import judge
from memctl.output.contract.documents import storage
from memctl.output.glossary import glossary
from memctl.output.readable import with_readable_times
from memctl.output.report_sections import (
    ReportSection,
    facts,
    notes,
    parts,
    shortened_cell,
    summary,
    tables,
)
from memctl.output.tables import Cell, table_text, wrapped
from memctl.output.terminal import json_key, visible
from memctl.storage.figures import Figures
from memctl.storage.sqlite.report import Changes, ReportedMemory
from memctl.storage.times import to_text

TITLE = "Memory report"
LONGEST_NAME = 60  # in a table of text; the page has room for more


def report_text(report: HealthReport, *, width: int | None = None) -> str:
    """Return the report as plain text, at most `width` cells wide if possible."""
    written = [
        _heading(TITLE, "="),
        *_wrapped(verdict_sentence(report), width),
        "\n",
        *(
            line
            for name, fact in facts(report)
            for line in _wrapped(fact, width, first=f"{name:<10}", rest=" " * 10)
        ),
    ]
    for section in (*notes(report), summary(report), *tables(report)):
        written += ["\n", _heading(section.title, "-")]
        for sentence in section.sentences:
            written += _wrapped(sentence, width, first="* ", rest="  ")
        if section.rows:
            written.append(table_text(section.columns, _short_rows(section), width=width))
    return "".join(written)


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def _wrapped(text: str, width: int | None, *, first: str = "", rest: str = "") -> Iterator[str]:
    """Yield the lines of a text that has at most `width` cells, after the margins given."""
    room = None if width is None else max(width - len(rest), 1)
    for number, line in enumerate(wrapped(visible(text), room)):
        yield f"{rest if number else first}{line}\n"


def _short_rows(section: ReportSection) -> list[list[Cell]]:
    return [
        [shortened_cell(cell, LONGEST_NAME) if isinstance(cell, str) else cell for cell in row]
        for row in section.rows
    ]


def verdict_sentence(report: HealthReport) -> str:
    """Return the verdict for people."""
    return with_readable_times(judge(report).sentence)


def report_markdown(report: HealthReport) -> str:
    """Return the report as GitHub-flavored Markdown."""
    written = [f"# {TITLE}\n\n", f"**{markdown(verdict_sentence(report))}**\n\n"]
    written += [f"- {name}: {markdown(fact)}\n" for name, fact in facts(report)]
    for section in (*notes(report), summary(report), *tables(report)):
        written.append(f"\n## {section.title}\n\n")
        written += [f"- {_sentence(sentence)}\n" for sentence in section.sentences]
        written += _markdown_table(section)
    written.append("\n## Glossary\n\n")
    written += [
        f"- **{term}**: {markdown(meaning)}\n" for term, meaning in glossary(report).items()
    ]
    return "".join(written)


def _sentence(sentence: str) -> str:
    return "".join(
        f"`{visible(part)}`" if is_command else markdown(part)
        for part, is_command in parts(sentence)
    )


def _markdown_table(section: ReportSection) -> Iterator[str]:
    if not section.rows:
        return
    if section.sentences:
        yield "\n"
    yield _markdown_row([column.heading for column in section.columns])
    yield _markdown_row(["--:" if column.numeric else ":--" for column in section.columns])
    for row in section.rows:
        yield _markdown_row([markdown(shortened_cell(cell, LONGEST_NAME)) for cell in row])


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def markdown(text: str) -> str:
    """Return a text that Markdown shows literally, without markup, links or HTML."""
    spelled = re.sub(r"[\\`*_{}\[\]()<>#+!|~$@^]", r"\\\g<0>", visible(text))
    spelled = spelled.replace("&", "&amp;").replace("\\<", "&lt;").replace("\\>", "&gt;")
    return spelled.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")


def report_document(report: HealthReport) -> dict[str, object]:
    """Return the report as one JSON object, with names and values as they are stored."""
    verdict = judge(report)
    return {
        "at": to_text(report.at),
        "since": to_text(report.since),
        "changes_known_since": to_text(max(report.since, report.known_since)),
        "database": report.database.path,
        "storage": storage(report.database),
        "host": report.host,
        "memctl_version": report.version,
        "verdict": {
            "healthy": verdict.is_healthy,
            "sentence": json_key(verdict.sentence),
            "reasons": _sentences(verdict.reasons),
        },
        "advice": _sentences(advise(report)),
        "findings": _sentences(
            f"{finding.severity}: {finding.message}"
            for finding in report.findings
            if finding.severity != "info"
        ),
        "remarks": _sentences(remarkable(report)),
        "period": _period(report.period),
        "period_before": _period(report.period_before),
        "system": {
            **_figures(report.figures),
            "at_floor": report.at_floor,
            **_changes(report.period.changes),
        },
        "agents": [
            {
                "agent_id": agent.agent,
                **_figures(agent.figures),
                "memories_before": agent.before,
                "written": agent.written,
                "written_before": agent.written_before,
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


def _sentences(sentences: Iterable[str]) -> list[str]:
    """Return sentences as JSON strings; bytes that are not UTF-8 are spelled out."""
    return [json_key(sentence) for sentence in sentences]


def _figures(figures: Figures) -> dict[str, object]:
    return {
        "memories": figures.memories,
        "archived": figures.archived_memories,
        "importance_avg": figures.importance_average,
        "accessed_memories": figures.accessed_memories,
        "storage_bytes": figures.storage_bytes,
    }


def _changes(changes: Changes | None) -> dict[str, object]:
    """Return the changes under their names in JSON; None: unknown."""
    return {
        "expired": changes and changes.expired,
        "archived_otherwise": changes and changes.archived,
        "restored": changes and changes.restored,
        "pruned": changes and changes.pruned,
        "promoted": changes and changes.promoted,
        "decayed": changes and changes.decayed,
    }


def _period(period: PeriodFigures) -> dict[str, object]:
    return {
        "since": to_text(period.start),
        "until": to_text(period.end),
        "written": period.written,
        "growth": period.growth,
        **_changes(period.changes),
        "runs": period.runs,
        "unsuccessful_runs": period.failed_runs,
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
