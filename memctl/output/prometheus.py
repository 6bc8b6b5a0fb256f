"""Metrics in the text format of Prometheus, for the textfile collector of its node exporter.

https://prometheus.io/docs/instrumenting/exposition_formats/

Every sample has the path of the database as a label, because one collector reads the files of all
databases of a machine.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from memctl import __version__
from memctl.config.jobs import JOBS
from memctl.insight.metrics import Metrics
from memctl.insight.monitoring import Condition
from memctl.output.terminal import visible
from memctl.storage.addresses import is_url
from memctl.storage.counters import Counters
from memctl.storage.figures import Figures
from memctl.storage.rows import REASONS, EndStatus, JobHealth
from memctl.storage.sqlite.database import SQLITE_VERSION
from memctl.storage.times import parse_moment, to_unix

Labels = Mapping[str, str]
Sample = tuple[Labels, float | None]  # None: unknown, so there is no sample


class Metric(NamedTuple):
    """A metric, without the prefix of its name, and its samples."""

    name: str
    help: str
    samples: Iterable[Sample]
    type: Literal["gauge", "counter"] = "gauge"


def prometheus_text(databases: Sequence[tuple[Metrics, Condition]]) -> str:
    """Return all metrics of one or more databases; an unknown value has no sample."""
    together: dict[str, Metric] = {}
    for metrics, condition in databases:
        database = {"database": _name(metrics.database.path)}
        for metric in _metrics(metrics, condition):
            samples = [({**database, **labels}, value) for labels, value in metric.samples]
            earlier = together.get(metric.name, metric._replace(samples=()))
            together[metric.name] = earlier._replace(samples=[*earlier.samples, *samples])
    return "".join(f"{line}\n" for metric in together.values() for line in _lines(metric))


def _name(database: str) -> str:
    """Return how a database, a path or a URL, is named to other programs."""
    return database if is_url(database) else str(Path(database).resolve())


def _metrics(metrics: Metrics, condition: Condition) -> Iterator[Metric]:
    yield from _of_memories(metrics.figures)
    yield from _of_changes(condition.counters)
    yield from _of_jobs(metrics.jobs, condition.counters)
    yield from _of_database(metrics, condition)


def _of_memories(figures: Mapping[tuple[str, str], Figures]) -> Iterator[Metric]:
    of_types: list[tuple[str, str, Callable[[Figures], float | None]]] = [
        ("memories", "Active memories.", lambda found: found.memories),
        ("archived_memories", "Archived memories.", lambda found: found.archived_memories),
        (
            "importance_average",
            "Average importance of active memories, where it is a number.",
            lambda found: found.importance_average,
        ),
        (
            "accessed_memories",
            "Active memories read in the last 30 days.",
            lambda found: found.accessed_memories,
        ),
        (
            "accesses",
            "Reads since memctl_accesses_since_timestamp_seconds.",
            lambda found: found.accesses,
        ),
        (
            "accesses_at_least",
            "Lower bound of the reads of active memories in the last 30 days, known without access"
            " counting.",
            lambda found: found.accesses_at_least,
        ),
        (
            "storage_bytes",
            "Bytes of key, value and metadata, active and archived.",
            lambda found: found.storage_bytes,
        ),
    ]
    for name, text, figure in of_types:
        samples: list[Sample] = [
            ({"agent": agent, "type": type_}, figure(found))
            for (agent, type_), found in figures.items()
        ]
        yield Metric(name, text, samples)


def _of_changes(counters: Counters) -> Iterator[Metric]:
    reasons = dict.fromkeys((*REASONS, *sorted(counters.archived)))
    yield Metric(
        "memories_archived_total",
        "Memories archived, by reason.",
        [({"reason": reason}, counters.archived[reason]) for reason in reasons],
        type="counter",
    )
    for name, text in (
        ("restored", "Memories restored from the archive."),
        ("pruned", "Memories deleted from the archive by retention."),
        ("decayed", "Reductions of the importance of a memory by decay."),
        ("promoted", "Memories promoted to the knowledge base."),
        ("imported", "Memories imported from documents."),
    ):
        count = counters.events[f"memory:{name}"]
        yield Metric(f"memories_{name}_total", text, [({}, count)], type="counter")
    alerts = counters.events["memory:alert"]
    yield Metric("alerts_total", "Alerts raised.", [({}, alerts)], type="counter")


def _of_jobs(jobs: Iterable[JobHealth], counters: Counters) -> Iterator[Metric]:
    names = dict.fromkeys((*JOBS, *sorted(job for job, _ in counters.runs)))
    yield Metric(
        "runs_total",
        "Finished runs, by job and status.",
        [
            ({"job": job, "status": status}, counters.runs[job, status])
            for job in names
            for status in get_args(EndStatus)
        ],
        type="counter",
    )
    of_jobs: list[tuple[str, str, Callable[[JobHealth], float | None]]] = [
        (
            "job_last_start_timestamp_seconds",
            "Start of the last run of the job.",
            lambda job: to_unix(parse_moment(job.started_at)),
        ),
        (
            "job_last_success_timestamp_seconds",
            "End of the last successful run of the job.",
            lambda job: None if job.last_ok_at is None else to_unix(parse_moment(job.last_ok_at)),
        ),
        (
            "job_last_duration_seconds",
            "Duration of the last run of the job.",
            lambda job: _seconds(job.duration_ms),
        ),
        (
            "job_last_longest_lock_seconds",
            "Longest time that the last run of the job held the write lock.",
            lambda job: _seconds(job.longest_lock_ms),
        ),
        (
            "job_consecutive_failures",
            "Failed and crashed runs of the job since its last success.",
            lambda job: job.consecutive_failures,
        ),
    ]
    for name, text, health in of_jobs:
        yield Metric(name, text, [({"job": job.job}, health(job)) for job in jobs])


def _of_database(metrics: Metrics, condition: Condition) -> Iterator[Metric]:
    since = metrics.accesses_since
    for name, text, value in (
        ("paused", "1 if the jobs are paused, else 0.", int(condition.paused)),
        ("schema_step", "Number of the newest step of the schema.", condition.schema_step),
        ("database_size_bytes", "Size of the database.", metrics.database.size_bytes),
        ("database_wal_bytes", "Size of the write-ahead log.", metrics.database.wal_bytes),
        (
            "database_free_bytes",
            "Size of the free pages in the file.",
            metrics.database.free_bytes,
        ),
        (
            "accesses_since_timestamp_seconds",
            "Start of the period that memctl_accesses covers.",
            None if since is None else to_unix(since),
        ),
        ("read_timestamp_seconds", "Time at which these metrics were read.", to_unix(metrics.at)),
    ):
        yield Metric(name, text, [({}, value)])
    yield Metric(
        "findings",
        "Findings of the checks that do not read all memories, by severity.",
        [({"severity": severity}, count) for severity, count in condition.findings.items()],
    )
    engine = {} if is_url(metrics.database.path) else {"sqlite": SQLITE_VERSION}
    versions = {"version": __version__, **engine, "python": platform.python_version()}
    yield Metric("build_info", "Versions of memctl, SQLite and Python; always 1.", [(versions, 1)])


def _lines(metric: Metric) -> Iterator[str]:
    known = [(labels, value) for labels, value in metric.samples if value is not None]
    if not known:
        return
    yield f"# HELP memctl_{metric.name} {metric.help}"
    yield f"# TYPE memctl_{metric.name} {metric.type}"
    for labels, value in known:
        texts = ",".join(f'{label}="{_label(content)}"' for label, content in labels.items())
        yield f"memctl_{metric.name}{{{texts}}} {value!r}"


def _label(text: str) -> str:
    """Spell out unprintable characters, keeping names distinct, and escape for the format."""
    spelled = visible(text.replace("\\", "\\\\"))
    return spelled.replace("\\", "\\\\").replace('"', '\\"')


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
