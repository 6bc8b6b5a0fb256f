"""A report as a self-contained HTML page: no script, no network, light and dark."""

from collections.abc import Sequence
from html import escape

from memctl.insight.advice import advise
from memctl.insight.report import HealthReport
from memctl.output.charts import Series, horizontal_bars, line_chart, stacked_bars
from memctl.output.fields import readable_bytes
from memctl.output.report_sections import ReportSection, growth, sections
from memctl.output.tables import Cell
from memctl.output.terminal import visible
from memctl.storage.times import to_text

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --ink: #1d2433; --soft: #5c6675; --rule: #e3e6ea;
  --one: #3366cc; --two: #e08a1e; --three: #2a9d6f; --four: #b2456e; --five: #7a5cc4;
  --note: #fff7e6; --note-edge: #e0a32e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151b; --card: #1b2029; --ink: #e6e9ef; --soft: #9aa5b5; --rule: #303744;
    --one: #6f9cf0; --two: #f0a94f; --three: #54c795; --four: #e07a9f; --five: #a98ff0;
    --note: #2b2516; --note-edge: #c08a28;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; padding: 28px 16px 48px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
main { max-width: 1080px; margin: 0 auto; }
h1 { font-size: 26px; line-height: 1.25; margin: 0; letter-spacing: -0.01em; }
h2 { font-size: 16px; margin: 0 0 10px; }
p, ul { margin: 0 0 10px; }
ul { padding-left: 20px; }
li { margin: 4px 0; overflow-wrap: anywhere; }
.about { color: var(--soft); margin: 4px 0 20px; overflow-wrap: anywhere; }
.tiles, .charts { display: grid; gap: 14px; margin-bottom: 14px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
.card, .tile, .note {
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 16px 18px;
}
.tile { padding: 14px; }
.card, .note { margin-bottom: 14px; }
.charts .card { margin: 0; }
.note { background: var(--note); border-left: 4px solid var(--note-edge); }
.note ul { margin-bottom: 0; }
.tile .name { color: var(--soft); font-size: 13px; }
.tile .figure { font-size: 25px; font-weight: 650; line-height: 1.3; white-space: nowrap; }
.tile .more { color: var(--soft); font-size: 12px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 10px; border-bottom: 1px solid var(--rule); text-align: left; }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-size: 13px; font-weight: 600; white-space: nowrap; }
td { overflow-wrap: anywhere; min-width: 10.5em; }
th.number, td.number { text-align: right; white-space: nowrap; min-width: 0; }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 11.5px; fill: var(--ink); }
svg .tick { fill: var(--soft); font-size: 11px; }
svg .grid { stroke: var(--rule); fill: none; }
svg .line { stroke: var(--one); stroke-width: 2; fill: none; stroke-linejoin: round; }
svg .area { fill: var(--one); opacity: 0.12; }
svg .dot { fill: var(--one); }
.one { fill: var(--one); } .two { fill: var(--two); } .three { fill: var(--three); }
.four { fill: var(--four); } .five { fill: var(--five); }
.legend { color: var(--soft); font-size: 13px; margin: 8px 0 0; }
.legend span { white-space: nowrap; margin-right: 14px; }
.legend svg { display: inline-block; width: 10px; height: 10px; margin-right: 5px; }
.none { color: var(--soft); }
@media print { body { background: none; } .card, .tile, .note { break-inside: avoid; } }
"""

IN_CARDS = ("Summary", "Recommended actions", "Findings")  # shown by tiles and notes


def report_html(report: HealthReport) -> str:
    """Return the whole page; control characters are spelled out, and all text is escaped."""
    shown = sections(report)
    since, until = (to_text(moment)[:16].replace("T", " ") for moment in (report.since, report.at))
    body = [
        "<h1>Agent memory report</h1>",
        f'<p class="about">{_text(report.database.path)} &middot; {since} to {until} UTC</p>',
        _tiles(report),
        _note("Recommended actions", advise(report)),
        _note("Findings", report.findings),
        _charts(report),
        *(_section(section) for section in shown if section.title not in IN_CARDS),
    ]
    content = "\n".join(part for part in body if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Agent memory report, {until[:10]}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{content}\n</main>\n</body>\n</html>\n"
    )


def _text(text: object) -> str:
    return escape(visible(str(text)))


def _tiles(report: HealthReport) -> str:
    figures, changes = report.figures, report.sum_of_changes
    runs = sum(job.runs for job in report.jobs)
    bad = sum(job.failed + job.crashed for job in report.jobs)
    unread = sum(agent.unread for agent in report.agents)
    tiles = [
        ("Memories", f"{figures.memories:,}", growth(report)),
        ("Archive", f"{figures.archived_memories:,}", f"{changes.pruned:,} pruned"),
        ("Expired", f"{changes.expired:,}", f"{report.overdue:,} waiting for cleanup"),
        ("Never read", f"{unread:,}", f"{figures.accessed_memories:,} read recently"),
        (
            "Storage",
            readable_bytes(figures.storage_bytes),
            f"in a file of {readable_bytes(report.database.size_bytes)}",
        ),
        ("Job runs", f"{runs:,}", f"{bad:,} failed" if bad else "none failed"),
    ]
    return f'<div class="tiles">{"".join(_tile(*tile) for tile in tiles)}</div>'


def _tile(name: str, figure: str, more: str) -> str:
    return (
        f'<div class="tile"><div class="name">{_text(name)}</div>'
        f'<div class="figure">{_text(figure)}</div><div class="more">{_text(more)}</div></div>'
    )


def _note(title: str, sentences: Sequence[str]) -> str:
    if not sentences:
        return ""
    return f'<div class="note"><h2>{title}</h2>{_list(sentences)}</div>'


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{_text(sentence)}</li>' for sentence in sentences)}</ul>"


def _charts(report: HealthReport) -> str:
    days = [day.day for day in report.changes]
    series = [
        Series("expired", "one", [day.expired for day in report.changes]),
        Series("archived (other)", "two", [day.archived for day in report.changes]),
        Series("restored", "three", [day.restored for day in report.changes]),
        Series("pruned", "four", [day.pruned for day in report.changes]),
        Series("promoted", "five", [day.promoted for day in report.changes]),
    ]
    used = [one for one in series if any(one.values)]
    history = line_chart(
        "Memories by day",
        [day.date for day in report.history],
        [day.figures.memories if day.figures else None for day in report.history],
    )
    changes = stacked_bars("Changes by day", days, used)
    agents = report.agents[:8]
    sizes = horizontal_bars(
        "Memories of the largest agents",
        [visible(agent.agent) for agent in agents],
        [agent.figures.memories for agent in agents],
    )
    importances = stacked_bars(
        "Memories by importance",
        [str(points) for points in range(11)],
        [Series("memories", "one", report.importances)],
    )
    cards = [
        _chart("Memories, by snapshot", history if report.history else "", "no snapshot yet"),
        _chart("Changes, by day", changes + _legend(used) if used else "", "no changes"),
        _chart("Largest agents by memories", sizes if agents else "", "no memories"),
        _chart("Memories by importance, 0 to 10", importances, ""),
    ]
    return f'<div class="charts">{"".join(cards)}</div>'


def _chart(title: str, drawing: str, otherwise: str) -> str:
    content = drawing or f'<p class="none">{otherwise}</p>'
    return f'<div class="card"><h2>{title}</h2>{content}</div>'


def _legend(series: Sequence[Series]) -> str:
    named = "".join(
        f'<span><svg viewBox="0 0 10 10" aria-hidden="true"><rect class="{one.colour}" width="10"'
        f' height="10" rx="2"/></svg>{_text(one.name)}</span>'
        for one in series
    )
    return f'<p class="legend">{named}</p>'


def _section(section: ReportSection) -> str:
    sentences = _list(section.sentences) if section.sentences else ""
    return f'<div class="card"><h2>{section.title}</h2>{sentences}{_table(section)}</div>'


def _table(section: ReportSection) -> str:
    if not section.rows:
        return ""
    kinds = [' class="number"' if column.numeric else "" for column in section.columns]
    head = "".join(
        f"<th{kind}>{_text(column.heading)}</th>"
        for kind, column in zip(kinds, section.columns, strict=True)
    )
    rows = "".join(_row(kinds, row) for row in section.rows)
    return f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _row(kinds: Sequence[str], row: Sequence[Cell]) -> str:
    cells = zip(kinds, row, strict=True)
    written = (f"<td{kind}>{'' if cell is None else _text(cell)}</td>" for kind, cell in cells)
    return f"<tr>{''.join(written)}</tr>"
