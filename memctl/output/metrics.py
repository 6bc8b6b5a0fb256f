"""Metrics as a JSON document, as records, and as a table for people."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import dropwhile

from memctl.errors import counted
from memctl.insight.metrics import DayFigures, History, Metrics
from memctl.output.contract.documents import storage
from memctl.output.contract.figures import CurrentFigures, FiguresOfDay
from memctl.output.terminal import json_key
from memctl.storage.figures import Figures, by_agent, total
from memctl.storage.times import to_text

BARS = "▁▂▃▄▅▆▇█"

# The fields of records.
FIELDS = ("agent_id", "type", *CurrentFigures.__annotations__)
HISTORY_FIELDS = ("date", "agent_id", "type", *FiguresOfDay.__annotations__)

TABLE = {
    "agent_id": 0,
    "memories": 0,
    "archived": 0,
    "importance_avg": 1,
    "accessed_memories": 0,
    "accesses": 4,
    "accesses_at_least": 4,
    "expired_per_day": 2,
    "archived_per_day": 3,
    "storage_bytes": 1,
    "trend": 5,
}


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
        "database": metrics.database.path,
        "storage": storage(metrics.database),
        "period": {"since": to_text(metrics.since), "days": round(metrics.days, 6)},
        "accesses_since": metrics.accesses_since and to_text(metrics.accesses_since),
        "system": {
            **level(metrics, metrics.system),
            **_history_of(metrics.history.of_all() if metrics.history else None),
        },
        "agents": agents,
        "jobs": [job._asdict() for job in metrics.jobs],
    }


def level(metrics: Metrics, figures: Figures) -> CurrentFigures:
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


def day_figures(day: DayFigures) -> FiguresOfDay:
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


def metrics_records(metrics: Metrics) -> list[Mapping[str, object]]:
    """Return a record for each agent, the largest first, and the sum of all last."""
    histories = metrics.history.by_agent() if metrics.history else {}
    agents = {agent: total(types.values()) for agent, types in by_agent(metrics.figures).items()}
    ordered = sorted(agents, key=lambda agent: (-agents[agent].memories, agent))
    everything = metrics.history.of_all() if metrics.history else []
    rows = [(agent, agents[agent], histories.get(agent, ())) for agent in ordered]
    rows.append((f"all {counted(len(agents), 'agent')}", metrics.system, everything))
    # The lower bound is of use only where accesses are not counted.
    unused = {} if metrics.accesses_since is None else {"accesses_at_least": None}
    return [
        {"agent_id": name, **level(metrics, figures), **unused, "trend": sparkline(days)}
        for name, figures, days in rows
    ]


def metrics_note(metrics: Metrics) -> str:
    """Return the note under the table: which periods its columns cover."""
    return f"'read' covers the last 30 days; rates are since {to_text(metrics.since)}"


def sparkline(days: Sequence[DayFigures]) -> str:
    """Draw the number of memories by day; a day without a snapshot leaves a gap.

    The lowest bar is the minimum of the period and the highest the maximum, so that a change shows
    however small it is beside the number. Without a change, all bars are the lowest.
    """
    numbers = [day.figures.memories if day.figures else None for day in days]
    known = [number for number in numbers if number is not None]
    least, most = min(known, default=0), max(known, default=0)
    return "".join(
        " " if number is None else BARS[(number - least) * 7 // max(most - least, 1)]
        for number in dropwhile(lambda number: number is None, numbers)
    )
