"""Metrics in the text format of Prometheus, for the textfile collector of its node exporter.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

from memctl.insight.metrics import Metrics
from memctl.output.terminal import visible
from memctl.storage.figures import Figures
from memctl.storage.sqlite.run_summaries import JobHealth
from memctl.storage.times import parse_moment, to_unix

Labels = Mapping[str, str]
Sample = tuple[Labels, float | None]  # None: unknown, so there is no sample


def prometheus_text(metrics: Metrics) -> str:
    """Return all metrics as gauges; an unknown value has no sample."""
    return "".join(f"{line}\n" for line in _lines(metrics))


def _lines(metrics: Metrics) -> Iterator[str]:
    days = metrics.days
    of_memories: list[tuple[str, str, Callable[[Figures], float | None]]] = [
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
            "expired_daily",
            "Expired memories per day over the last 30 days.",
            lambda found: round(found.expired / days, 6),
        ),
        (
            "archived_daily",
            "Memories archived for any reason per day over the last 30 days.",
            lambda found: round(found.archived / days, 6),
        ),
        (
            "storage_bytes",
            "Bytes of key, value and metadata, active and archived.",
            lambda found: found.storage_bytes,
        ),
    ]
    for name, text, figure in of_memories:
        samples = (
            ({"agent": agent, "type": type_}, figure(found))
            for (agent, type_), found in metrics.figures.items()
        )
        yield from _gauge(name, text, samples)
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
        yield from _gauge(name, text, (({"job": job.job}, health(job)) for job in metrics.jobs))
    of_all: list[tuple[str, str, float | None]] = [
        ("database_size_bytes", "Size of the database file.", metrics.database.size_bytes),
        ("database_wal_bytes", "Size of the write-ahead log.", metrics.database.wal_bytes),
        (
            "accesses_since_timestamp_seconds",
            "Start of the period that memctl_accesses covers.",
            None if metrics.accesses_since is None else to_unix(metrics.accesses_since),
        ),
        ("read_timestamp_seconds", "Time at which these metrics were read.", to_unix(metrics.at)),
    ]
    for name, text, value in of_all:
        yield from _gauge(name, text, [({}, value)])


def _gauge(name: str, text: str, samples: Iterable[Sample]) -> Iterator[str]:
    known = [(labels, value) for labels, value in samples if value is not None]
    if not known:
        return
    yield f"# HELP memctl_{name} {text}"
    yield f"# TYPE memctl_{name} gauge"
    for labels, value in known:
        named = ",".join(f'{label}="{_label(content)}"' for label, content in labels.items())
        yield f"memctl_{name}{{{named}}} {value!r}" if named else f"memctl_{name} {value!r}"


def _label(text: str) -> str:
    """Spell out unprintable characters, keeping names distinct, and escape for the format."""
    spelled = visible(text.replace("\\", "\\\\"))
    return spelled.replace("\\", "\\\\").replace('"', '\\"')


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
