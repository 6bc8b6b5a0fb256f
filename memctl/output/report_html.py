"""A report as a page: one file without scripts, links or images, in a light and a dark scheme.

The template escapes all text and spells out unprintable characters. The browser enforces it, too:
a policy in the page allows only the page's own style, which is named by its hash.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from memctl.insight.remarks import percentage
from memctl.insight.report import HealthReport
from memctl.insight.verdict import judge
from memctl.output.charts import Chart, Series, horizontal_bars, line_chart, stacked_bars
from memctl.output.glossary import glossary
from memctl.output.readable import readable_bytes, readable_day, readable_moment, short_day
from memctl.output.report import verdict_sentence
from memctl.output.report_sections import (
    facts,
    growth,
    notes,
    parts,
    shortened_cell,
    size_of_file,
    tables,
)
from memctl.output.tables import Cell
from memctl.output.terminal import visible

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

LONGEST_CELL = 1000  # characters; a key may have millions
LARGEST_AGENTS = 8  # in the chart


class Tile(NamedTuple):
    """A figure with its name, and a second figure to compare it with."""

    name: str
    figure: str
    more: str


class Picture(NamedTuple):
    """A chart and its legend, or a sentence if there is nothing to draw."""

    chart: Chart
    drawing: "Markup | None"
    if_empty: str = ""
    legend: Sequence[Series] = ()


def report_html(report: HealthReport) -> str:
    """Return the whole page."""
    from base64 import b64encode
    from hashlib import sha256

    from markupsafe import Markup

    environment = _environment()
    style = Markup(environment.get_template("report.css").render())  # noqa: S704  our own file
    page = environment.get_template("report.html").render(
        style=style,
        style_hash=b64encode(sha256(style.encode()).digest()).decode(),
        made=readable_moment(report.at),
        is_healthy=judge(report).is_healthy,
        verdict=verdict_sentence(report),
        facts=facts(report),
        tiles=_tiles(report),
        notes=notes(report),
        pictures=_pictures(report),
        sections=tables(report),
        glossary=glossary(report),
    )
    return page + "\n"


def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def safe(value: object) -> object:
        return value if isinstance(value, Markup) else visible(str(value))

    environment = Environment(
        loader=PackageLoader("memctl.output"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["parts"] = parts
    environment.filters["cell"] = _cell
    environment.globals["zip"] = zip
    return environment


def _cell(cell: Cell) -> str:
    return shortened_cell(cell, LONGEST_CELL)


def _tiles(report: HealthReport) -> list[Tile]:
    figures, now, before = report.figures, report.period, report.period_before
    changes = now.changes
    pruned = changes.pruned if changes else 0
    bad = now.failed_runs or 0
    unread = sum(agent.unread for agent in report.agents)
    share = percentage(report.at_floor, figures.memories) if figures.memories else "none"
    return [
        Tile("Memories", f"{figures.memories:,}", f"growth: {growth(report)}"),
        Tile("Written", f"{now.written or 0:,}", _earlier(before.written)),
        Tile(
            "Expired",
            f"{changes.expired if changes else 0:,}",
            f"{report.overdue:,} wait for cleanup"
            if report.overdue
            else _earlier(before.changes and before.changes.expired),
        ),
        Tile("Archive", f"{figures.archived_memories:,}", f"{pruned:,} pruned in this period"),
        Tile("Never read", f"{unread:,}", f"{figures.accessed_memories:,} read in 30 days"),
        Tile("At the floor", f"{report.at_floor:,}", f"{share} of all memories"),
        Tile(
            "Storage",
            readable_bytes(figures.storage_bytes),
            f"in a file of {size_of_file(report)}",
        ),
        Tile(
            "Runs of jobs",
            f"{now.runs or 0:,}",
            f"{bad:,} failed" if bad else "none failed" if now.runs else "none in this period",
        ),
    ]


def _earlier(count: int | None) -> str:
    return "the period before is unknown" if count is None else f"{count:,} in the period before"


def _pictures(report: HealthReport) -> list[Picture]:
    return [_history(report), _changes(report), _agents(report), _importances(report)]


def _history(report: HealthReport) -> Picture:
    days = [day.date for day in report.history]
    counts = [day.figures.memories if day.figures else None for day in report.history]
    known = [(day, count) for day, count in zip(days, counts, strict=True) if count is not None]
    if not known:
        return Picture(Chart("history", "Memories by day"), None, "There is no snapshot yet.")
    (first, before), (last, after) = known[0], known[-1]
    chart = Chart(
        "history",
        "Memories by day",
        f"From {before:,} on {readable_day(first)} to {after:,} on {readable_day(last)}.",
    )
    drawing = line_chart(chart, [short_day(day) for day in days], counts)
    return Picture(chart, _drawn(drawing))


def _changes(report: HealthReport) -> Picture:
    series = [
        Series("expired", "one", [day.expired for day in report.changes]),
        Series("archived otherwise", "two", [day.archived for day in report.changes]),
        Series("restored", "three", [day.restored for day in report.changes]),
        Series("pruned", "four", [day.pruned for day in report.changes]),
        Series("promoted", "five", [day.promoted for day in report.changes]),
    ]
    used = [one for one in series if any(one.values)]
    sums = ", ".join(f"{sum(one.values):,} {one.name}" for one in used)
    chart = Chart("changes", "Changes by day", f"Together: {sums}.")
    if not used:
        return Picture(chart, None, "Nothing was archived, restored, pruned or promoted.")
    drawing = stacked_bars(chart, [short_day(day.day) for day in report.changes], used)
    return Picture(chart, _drawn(drawing), legend=used)


def _agents(report: HealthReport) -> Picture:
    agents = report.agents[:LARGEST_AGENTS]
    chart = Chart(
        "agents",
        "Memories of the largest agents",
        f"The largest {len(agents)} of {len(report.agents)} agents; the table below has them.",
    )
    if not agents:
        return Picture(chart, None, "There are no memories.")
    names = [visible(agent.agent) for agent in agents]
    drawing = horizontal_bars(chart, names, [agent.figures.memories for agent in agents])
    return Picture(chart, _drawn(drawing))


def _importances(report: HealthReport) -> Picture:
    counts = report.importances
    most = max(range(len(counts)), key=lambda points: counts[points])
    chart = Chart(
        "importances",
        "Memories by importance",
        f"From 0 to 10, rounded down; most memories, {counts[most]:,}, have {most}.",
    )
    if not any(counts):
        return Picture(chart, None, "There are no memories.")
    labels = [str(points) for points in range(len(counts))]
    return Picture(chart, _drawn(stacked_bars(chart, labels, [Series("memories", "one", counts)])))


def _drawn(svg: str) -> "Markup":
    """Return a drawing that is not escaped again."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704  its text is escaped by the charts
