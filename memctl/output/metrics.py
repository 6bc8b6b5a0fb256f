"""Metrics as a JSON document, as records, and as a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import dropwhile

from memctl.errors import counted
from memctl.insight.metrics import DayFigures, History, Metrics
from memctl.output.tables import Cell, Column
from memctl.output.terminal import json_key
from memctl.storage.figures import Figures, by_agent, total
from memctl.storage.times import to_text

BARS = "▁▂▃▄▅▆▇█"


def metrics_document(metrics: Metrics) -> dict[str, object]:
    """Return the JSON form: system, agents and their types, each with the same figures."""
    history = metrics.history.by_agent() if metrics.history else {}
    agents = {}
    for agent, types in by_agent(metrics.figures).items():
        agents[json_key(agent)] = {
            **level(metrics, total(types.values())),
            **_history_of(history.get(agent)),
            "types": {json_key(type_): level(metrics, types[type_]) for type_ in types},
        }
    return {
        "at": to_text(metrics.at),
        "database": metrics.database._asdict(),
        "period": {"since": to_text(metrics.since), "days": round(metrics.days, 6)},
        "accesses_since": metrics.accesses_since and to_text(metrics.accesses_since),
        "system": {
            **level(metrics, metrics.system),
            **_history_of(metrics.history.of_all() if metrics.history else None),
        },
        "agents": agents,
        "jobs": [job._asdict() for job in metrics.jobs],
    }


def level(metrics: Metrics, figures: Figures) -> dict[str, object]:
    """Return the figures of a type, an agent, or the system."""
    return {
        "memories": figures.memories,
        "archived": figures.archived_memories,
        "importance_avg": figures.importance_average,
        "accessed_memories": figures.accessed_memories,
        "accesses": figures.accesses,
        "accesses_at_least": figures.accesses_at_least,
        "expired_per_day": round(figures.expired / metrics.days, 6),
        "archived_per_day": round(figures.archived / metrics.days, 6),
        "storage_bytes": figures.storage_bytes,
    }


def _history_of(days: Sequence[DayFigures] | None) -> dict[str, object]:
    """Return the history of a level."""
    if days is None:
        return {}
    return {"history": [{"date": day.date, "figures": day_figures(day)} for day in days]}


def day_figures(day: DayFigures) -> dict[str, object]:
    """Return the figures of a day's snapshot, null without one, and the changes of that day."""
    figures, changes = day.figures, day.changes
    return {
        "memories": figures and figures.memories,
        "archived": figures and figures.archived_memories,
        "importance_avg": figures and figures.importance_average,
        "accessed_memories": figures and figures.accessed_memories,
        "storage_bytes": figures and figures.storage_bytes,
        "accesses_that_day": changes.accesses,
        "expired_that_day": changes.expired,
        "archived_that_day": changes.archived,
        "restored_that_day": changes.restored,
        "pruned_that_day": changes.pruned,
        "promoted_that_day": changes.promoted,
    }


def metrics_rows(metrics: Metrics) -> Iterator[Mapping[str, object]]:
    """Yield a record for each agent and type, as they are now."""
    for (agent, type_), figures in metrics.figures.items():
        yield {"agent_id": agent, "type": type_, **level(metrics, figures)}


def history_rows(history: History) -> Iterator[Mapping[str, object]]:
    """Yield a record for each day, agent and type that has figures or changes."""
    for agent, type_, day in history.by_type():
        yield {"date": day.date, "agent_id": agent, "type": type_, **day_figures(day)}


def metrics_table(metrics: Metrics) -> tuple[list[Column], list[list[Cell]]]:
    """Return the columns and rows of the table: the largest agent first, and the sum of all last.

    The columns that a narrow terminal leaves out first have the highest numbers.
    """
    histories = metrics.history.by_agent() if metrics.history else {}
    agents = {agent: total(types.values()) for agent, types in by_agent(metrics.figures).items()}
    ordered = sorted(agents, key=lambda agent: (-agents[agent].memories, agent))
    rows = [
        [agent, *_cells(metrics, agents[agent]), sparkline(histories.get(agent, ()))]
        for agent in ordered
    ]
    everything = metrics.history.of_all() if metrics.history else []
    rows.append(
        [
            f"all {counted(len(agents), 'agent')}",
            *_cells(metrics, metrics.system),
            sparkline(everything),
        ]
    )
    columns = [
        Column("agent"),
        Column("memories", numeric=True),
        Column("archived", numeric=True),
        Column("average\nimportance", numeric=True, rank=1),
        Column("read", numeric=True),
        Column("accesses", numeric=True, rank=3),
        Column("accesses\nat least", numeric=True, rank=3),
        Column("expired\nper day", numeric=True),
        Column("archived\nper day", numeric=True, rank=2),
        Column("storage", numeric=True),
        Column("memories per day", rank=4),
    ]
    present = [
        number
        for number in range(len(columns))
        if any(row[number] not in (None, "") for row in rows)
    ]
    return [columns[number] for number in present], [[row[n] for n in present] for row in rows]


def metrics_note(metrics: Metrics) -> str:
    """Return the note under the table: which periods its columns cover."""
    return f"'read' covers the last 30 days; rates are since {to_text(metrics.since)}"


def _cells(metrics: Metrics, figures: Figures) -> list[Cell]:
    return [
        f"{figures.memories:,}",
        f"{figures.archived_memories:,}",
        readable_average(figures),
        f"{figures.accessed_memories:,}",
        None if figures.accesses is None else f"{figures.accesses:,}",
        f"{figures.accesses_at_least:,}" if metrics.accesses_since is None else None,
        f"{figures.expired / metrics.days:,.1f}",
        f"{figures.archived / metrics.days:,.1f}",
        readable_bytes(figures.storage_bytes),
    ]


def sparkline(days: Sequence[DayFigures]) -> str:
    """Draw the number of memories by day, from 0 to the maximum; no snapshot leaves a gap."""
    most = max((day.figures.memories for day in days if day.figures), default=0)
    return "".join(
        BARS[day.figures.memories * 7 // max(most, 1)] if day.figures else " "
        for day in dropwhile(lambda day: day.figures is None, days)
    )


def readable_average(figures: Figures) -> str | None:
    """Return the average importance for people, or None if there is none."""
    average = figures.importance_average
    return None if average is None else f"{average:.1f}"


def readable_bytes(count: int) -> str:
    """Return a number of bytes for people: `1.2 MB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
