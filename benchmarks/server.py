"""Measure jobs on a PostgreSQL server: beside a writer, and compared with SQLite."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import MOMENT, PROGRAM
from benchmarks.database import COLUMNS, NOW, build, generated_rows

DATABASE = "memctl_benchmark"
MEMORIES, CHANGED = 200_000, 100_000
ALONE_SECONDS = 10
MACHINES = 4
RUNS = 3

Show = Callable[..., None]


def measure(server: str, folder: Path, show: Show) -> None:
    """Show each job on a new database, which is dropped at the end."""
    figures = Measurement(server, folder, show)
    figures.cleanup_and_prune()
    figures.decay()
    figures.metrics()
    figures.schedules()


class Measurement:
    """Jobs on a server, and the same ones on a SQLite file in a folder."""

    def __init__(self, server: str, folder: Path, show: Show) -> None:
        self._server = server
        self._file = folder / "peer.db"
        self._show = show

    def cleanup_and_prune(self) -> None:
        """Archive half of the memories, then delete these."""
        with self._filled(expired=CHANGED) as url:
            self._beside_writer(url, "cleanup")
            much_later = (NOW + timedelta(days=365)).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._beside_writer(url, "prune", "--force", moment=much_later)

    def decay(self) -> None:
        """Charge half of the memories for idle days."""
        with self._filled(idle=CHANGED) as url:
            self._beside_writer(url, "decay")

    def metrics(self) -> None:
        """Read the figures of all agents."""
        with self._filled(expired=0) as url:
            on_server, on_file = (
                [timed("metrics", database) for _ in range(RUNS)] for database in (url, self._file)
            )
        self._show("metrics", s=statistics.median(on_server))
        self._show("  ratio to SQLite", times=ratio(on_server, on_file))

    def schedules(self) -> None:
        """Clean up from one machine, then from several whose schedules begin at once."""
        alone: list[float] = []
        together: list[float] = []
        for _ in range(RUNS):
            for machines, seconds in ((1, alone), (MACHINES, together)):
                with self._filled(expired=CHANGED, also_file=False) as url:
                    seconds.append(scheduled_cleanup(url, machines))
        self._show("the cleanup of `memctl run`", s=statistics.median(alone))
        self._show(f"  with {MACHINES} at once", s=statistics.median(together))
        self._show("  ratio", times=ratio(together, alone))

    @contextmanager
    def _filled(self, *, expired: int = 0, idle: int = 0, also_file: bool = True) -> Iterator[str]:
        """Create the same memories on the server and in the file; yields the URL."""
        with database_on(self._server) as url:
            with psycopg.connect(url, autocommit=True, options="-c timezone=UTC") as db:
                columns = ", ".join(COLUMNS)
                with db.cursor().copy(f"COPY agent_memory ({columns}) FROM STDIN") as copy:
                    for row in generated_rows(MEMORIES, expired=expired, idle=idle):
                        copy.write_row(row)
                db.execute("VACUUM ANALYZE agent_memory")
                db.execute("CHECKPOINT")
            if also_file:
                for left in self._file.parent.glob(f"{self._file.name}*"):
                    left.unlink()
                build(self._file, memories=MEMORIES, expired=expired, idle=idle)
            yield url

    def _beside_writer(self, url: str, *words: str, moment: str = MOMENT) -> None:
        """Show a job beside a writer, compared with the writer alone and the job on SQLite."""
        alone = beside_writer(url, lambda: time.sleep(ALONE_SECONDS))
        seconds: list[float] = []
        beside = beside_writer(url, lambda: seconds.append(timed(*words, url, moment=moment)))
        on_file = [timed(*words, self._file, moment=moment)]
        self._show(f"{words[0]} beside a writer", s=seconds[0])
        self._show("  ratio to SQLite without a writer", times=ratio(seconds, on_file))
        for name in ("p50", "p99", "slowest"):
            self._show(f"  the writer: {name}", ms=beside[f"{name}_ms"])
            self._show("    alone", ms=alone[f"{name}_ms"])
        self._show("  ratio of p99", times=beside["p99_ms"] / alone["p99_ms"])


@contextmanager
def database_on(server: str) -> Iterator[str]:
    """Create a migrated database on a server; yields its URL."""
    drop = f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"
    with psycopg.connect(server, autocommit=True) as db:
        db.execute(drop)
        db.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'")
        try:
            url = f"{server.rpartition('/')[0]}/{DATABASE}"
            subprocess.run([PROGRAM, "migrate", "-q", "--db", url], check=True)
            yield url
        finally:
            db.execute(drop)


def beside_writer(url: str, work: Callable[[], object]) -> dict[str, float]:
    """Work while another process writes; returns the figures of its calls."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server_writer", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        work()
        figures: dict[str, float] = json.loads(writer.communicate()[0])
    return figures


def timed(*words: str | Path, moment: str = MOMENT) -> float:
    """Run a command on the database that is the last word; returns the seconds of the process."""
    *command, database = words
    begun = time.perf_counter()
    subprocess.run(
        [PROGRAM, *command, "--json", "--db", database, "--now", moment],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - begun


def scheduled_cleanup(url: str, machines: int) -> float:
    """Start `memctl run` on so many machines; returns the seconds of the one cleanup."""
    command = [str(PROGRAM), "run", "--json", "--db", url, "--now", MOMENT]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(machines)]
    documents: list[dict[str, Any]] = [json.loads(one.communicate()[0]) for one in running]
    milliseconds = [
        job["duration_ms"]
        for document in documents
        for job in document["jobs"]
        if job["job"] == "cleanup" and job.get("archived") == CHANGED
    ]
    return float(milliseconds[0]) / 1000


def ratio(own: list[float], other: list[float]) -> float:
    """Return the ratio of the medians."""
    return statistics.median(own) / statistics.median(other)
