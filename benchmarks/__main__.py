"""Measure the figures in the documentation, each next to a comparable one.

python -m benchmarks              everything, a few minutes
python -m benchmarks NAME         one of those that an unknown name lists
python -m benchmarks --postgres postgresql://user@host/database    jobs on a PostgreSQL server,
                                  in a database of their own beside the one that is named
"""

import json
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks import MOMENT, PROGRAM
from benchmarks import features as feature_costs
from benchmarks import replacing as replacing_costs
from benchmarks import server as server_costs
from benchmarks.calls import pairs, percentile, time_calls
from benchmarks.database import NOW, build, copy, prove, write_texts
from memctl import AgentMemory
from memctl.storage.sqlite.archive import KEPT_COLUMNS
from memctl.storage.sqlite.cleanup import expired_memories
from memctl.storage.sqlite.selection import ALL_ROWS

RUNS = 3

BARE_TYPER = """
import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def main(db: str = "", dry_run: bool = False) -> None:
    pass


app()
"""


OWN_POLICY = """
[agents.agent-{0}.decay]
floor = 1
grace_days = 7
idle_rate = 0.1{0}
"""


def cleanup(folder: Path) -> None:
    """100,000 of 200,000 memories expire: with a writer, and alone against the sqlite3 shell."""
    original = folder / "original.db"
    build(original, memories=200_000, expired=100_000)
    beside_writer(original, "cleanup", count="archived")
    seconds = [(job(copy(original, "job.db"), "cleanup"), shell(original)) for _ in range(RUNS)]
    side_by_side("cleanup, no other writer", seconds, "the sqlite3 shell, one transaction")


def decay(folder: Path) -> None:
    """100,000 of 200,000 memories are idle: with a writer, and alone."""
    original = folder / "original.db"
    build(original, memories=200_000, expired=0, idle=100_000)
    beside_writer(original, "decay", count="decayed")
    show("decay, no other writer", s=job(copy(original, "job.db"), "decay"))
    configuration = folder / "memctl.toml"
    configuration.write_text("".join(map(OWN_POLICY.format, range(20))))
    show(
        "  with three keys of a policy for each of 20 agents",
        s=job(copy(original, "job.db"), "decay", "--config", configuration),
    )
    small = folder / "small.db"
    build(small, memories=20_000, expired=0, idle=10_000)
    show("decay of 10,000, no other writer", s=job(small, "decay"))


def memories(folder: Path) -> None:
    """Calls of AgentMemory on 100,000 memories, compared with the bare statements."""
    database = folder / "memories.db"
    build(database, memories=100_000, expired=0)
    with AgentMemory(database) as api, closing(sqlite3.connect(database)) as db:
        db.isolation_level = None
        db.execute("PRAGMA synchronous = NORMAL")
        names = db.execute(
            "SELECT agent_id, type, key FROM agent_memory WHERE rowid % 10 = 0"
        ).fetchall()
        for what, ours, bare in pairs(api, db):
            own, peer = time_calls([ours, bare], names)
            show(f"{what}: p50", ms=percentile(own, 0.5))
            show("  p99", ms=percentile(own, 0.99))
            show("  the bare statements: p50", ms=percentile(peer, 0.5))
            show("  p99", ms=percentile(peer, 0.99))
            show("  ratio of p50", times=percentile(own, 0.5) / percentile(peer, 0.5))


def promote(folder: Path) -> None:
    """1,000 of 101,000 memories are promoted, with 10,000 entries: with a writer, and alone."""
    original = folder / "original.db"
    build(original, memories=100_000, expired=0, idle=100_000)
    prove(original, memories=1000, entries=10_000)
    beside_writer(original, "promote", count="promoted")
    alone = copy(original, "alone.db")
    show("promote, no other writer", s=job(alone, "promote"))
    show("promote with nothing to do", s=job(alone, "promote"))


def start(folder: Path) -> None:
    """A job with nothing to do and a bare Typer program; --version and bare Python.

    Before pip 25 the script that pip makes imports `re`, which takes half as long as Python.
    """
    database = folder / "start.db"
    build(database, memories=1000, expired=0)
    bare = folder / "bare.py"
    bare.write_text(BARE_TYPER)
    seconds = [(job(database, "cleanup"), timed([sys.executable, bare])) for _ in range(30)]
    side_by_side("cleanup with nothing to do", seconds, "a bare Typer program")
    python: list[str | Path] = [sys.executable, "-I", "-c", "pass"]
    seconds = [(timed([PROGRAM, "--version"]), timed(python)) for _ in range(40)]
    side_by_side("memctl --version", seconds, "bare Python")


def growth(folder: Path) -> None:
    """Peak memory when 1,000,000 memories expire at once."""
    database = folder / "million.db"
    build(database, memories=1_000_000, expired=1_000_000)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    show("cleanup of 1,000,000", s=job(database, "cleanup"))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    show("peak memory" if peak > before else "peak memory, at most", MiB=peak / 1024)


def features(folder: Path) -> None:
    """The cost of the service's own calls with memctl's columns, and with its features enabled."""
    feature_costs.measure(folder, show)


def replacing(folder: Path) -> None:
    """The cost of archive-on-replace, and of a hold, for the service's `remember`."""
    replacing_costs.measure(folder, show)


def backups(folder: Path) -> None:
    """Export and import of 100,000 memories: with the sqlite3 shell, a peer, and a writer."""
    original, document, dump = (folder / name for name in ("original.db", "own.json", "dump.sql"))
    build(original, memories=100_000, expired=0)
    tables = "agent_memory archived_memories memory_promotions"
    exports, imports, locks = [], [], []
    for _ in range(RUNS):
        own = job(original, "export", "--all", "-o", document)
        peer = timed([shell_program(), original, f".output {dump}", f".dump {tables}"])
        exports.append((own, peer))
        result: dict[str, Any] = {}
        own = job(new(folder), "import", "--all", document, result=result)
        locks.append(result["longest_lock_ms"])
        (folder / "read.db").unlink(missing_ok=True)
        imports.append((own, timed([shell_program(), folder / "read.db", f".read {dump}"])))
    side_by_side("export", exports, "the sqlite3 shell's .dump")
    side_by_side("import", imports, "the sqlite3 shell's .read")
    show("the longest batch of an import, write lock held", ms=statistics.median(locks))
    job(new(folder), "import", "--all", "--atomic", document, result=result)
    show("an atomic import, write lock held", ms=result["longest_lock_ms"])
    show("a second import, nothing to do", s=job(folder / "new.db", "import", "--all", document))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    show("peak memory of any of these processes, at most", MiB=peak / 1024)
    against_peer(folder, exports, imports)
    beside_writer(original, "export", "--all", "-o", document)
    beside_writer(new(folder), "import", "--all", document)


def new(folder: Path) -> Path:
    """Return a migrated database without memories."""
    for left in folder.glob("new.db*"):
        left.unlink()
    build(folder / "new.db", memories=0, expired=0)
    return folder / "new.db"


def side_by_side(what: str, seconds: list[tuple[float, float]], peer: str) -> None:
    """Show the medians of two programs that ran alternately, and the median of their ratios."""
    for name, times in zip((what, peer), zip(*seconds, strict=True), strict=True):
        median = statistics.median(times)
        show(name, **({"s": median} if median > 1 else {"ms": 1000 * median}))
    show("ratio", times=statistics.median(own / other for own, other in seconds))


def against_peer(
    folder: Path, exports: list[tuple[float, float]], imports: list[tuple[float, float]]
) -> None:
    """Import and export as many memories with mnemosyne-memory, if installable."""
    python = folder / "peer" / "bin" / "python"
    try:
        subprocess.run([sys.executable, "-m", "venv", folder / "peer"], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "mnemosyne-memory>=3.15,<4"],
            check=True,
            capture_output=True,
        )
    except subprocess.CalledProcessError as error:
        print(f"mnemosyne-memory is left out: it cannot be installed ({error})")
        return
    ran = subprocess.run(
        [python, Path(__file__).with_name("peer.py"), folder],
        check=True,
        capture_output=True,
        text=True,
    )
    figures = json.loads(ran.stdout.splitlines()[-1])
    for what, seconds in (("export", exports), ("import", imports)):
        own = statistics.median(own for own, _ in seconds)
        show(f"mnemosyne-memory, {what}", s=figures[what])
        show("ratio", times=own / figures[what])


def search(folder: Path) -> None:
    """A text in 70,000 memories and 30,000 archived ones: with the sqlite3 shell, and a writer."""
    database = folder / "search.db"
    build(database, memories=100_000, expired=30_000)
    write_texts(database)
    job(database, "cleanup")
    for text in ("npm", "tests/unit", "elephant", "ключ"):
        like = " OR ".join(f"{field} LIKE '%{text}%'" for field in ("key", "value", "metadata"))
        script = f"""
            SELECT id FROM agent_memory WHERE {like};
            SELECT id FROM archived_memories WHERE {like};
        """
        seconds = [
            (job(database, "search", text), timed([shell_program(), database], script))
            for _ in range(RUNS)
        ]
        side_by_side(f"search {text}", seconds, "the sqlite3 shell, LIKE, which folds only ASCII")
    show("agents", s=statistics.median(job(database, "agents") for _ in range(RUNS)))
    beside_writer(database, "search", "npm")


def insight(folder: Path) -> None:
    """Metrics of 100,000 memories and 30,000 archived ones, then of ten times as many."""
    for memories in (100_000, 1_000_000):
        database = folder / f"{memories}.db"
        build(database, memories=memories * 13 // 10, expired=memories * 3 // 10)
        job(database, "cleanup")
        if memories == 100_000:
            beside_writer(database, "snapshot", count="rows")
        for words in (["snapshot"], ["metrics"], ["metrics", "--prometheus"], ["report"]):
            command: list[str | Path] = [PROGRAM, *words, "--db", database, "--now", MOMENT]
            seconds = statistics.median(timed(command) for _ in range(RUNS))
            show(f"{' '.join(words)} over {memories}", s=seconds)


def space(folder: Path) -> None:
    """A file of 70 MB, half of it free: by VACUUM and in steps, with a writer and alone."""
    for mode, words in (("NONE", ["--force"]), ("INCREMENTAL", [])):
        original = folder / f"{mode}.db"
        build(original, memories=100_000, expired=0)
        with closing(sqlite3.connect(original, isolation_level=None)) as db:
            db.execute("UPDATE agent_memory SET value = hex(randomblob(210))")
            db.execute(f"PRAGMA auto_vacuum = {mode}")
            db.execute("VACUUM")
            db.execute("DELETE FROM agent_memory WHERE rowid <= 50000")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        show(f"auto_vacuum = {mode}, the file", MB=original.stat().st_size / 1e6)
        beside_writer(original, "compact", *words, count="freed_bytes")
        alone = copy(original, "alone.db")
        show("compact, no other writer", s=job(alone, "compact", *words))


def beside_writer(original: Path, name: str, *words: str | Path, count: str = "") -> None:
    """Run a job while another process writes, and show the effects on both."""
    database = copy(original, "beside.db")
    writer = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.writer", database],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    result: dict[str, Any] = {}
    seconds = job(database, name, *words, result=result)
    figures = json.loads(writer.communicate()[0])
    counted = f", {count} {result[count]}" if count else ""
    show(f"{name} beside a writer{counted}", s=seconds)
    if result:
        show("  longest lock", ms=result["longest_lock_ms"])
    show(f"  the writer's {figures['writes']} writes: p50", ms=figures["p50_ms"])
    show("  p99", ms=figures["p99_ms"])
    show("  slowest", ms=figures["slowest_ms"])


def job(database: Path, *words: str | Path, result: dict[str, Any] | None = None) -> float:
    """Run a command and return the duration of the process in seconds."""
    begun = time.perf_counter()
    ran = subprocess.run(
        [PROGRAM, *words, "--json", "--db", database, "--now", MOMENT],
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - begun
    document = json.loads(ran.stdout or "null")
    if result is not None and isinstance(document, dict):
        result.update(document)
    return seconds


def shell(original: Path) -> float:
    """Do the work of a cleanup in one transaction of the sqlite3 shell; return the seconds."""
    database = copy(original, "shell.db")
    due = f"SELECT rowid FROM ({expired_memories(ALL_ROWS)}) ORDER BY rowid"
    script = f"""
        PRAGMA synchronous = NORMAL;
        PRAGMA cache_size = -16000;
        CREATE TEMP TABLE due AS {due.replace(":now", str(int(NOW.timestamp())))};
        BEGIN IMMEDIATE;
        INSERT INTO archived_memories ({KEPT_COLUMNS}, archived_at, archived_reason, run_id)
            SELECT {KEPT_COLUMNS}, '{MOMENT}', 'expired', 1 FROM agent_memory
            WHERE rowid IN due ORDER BY rowid;
        INSERT INTO memory_events (at, event, memory_id, agent_id, type, key, run_id)
            SELECT '{MOMENT}', 'memory:expired', id, agent_id, type, key, 1 FROM agent_memory
            WHERE rowid IN due ORDER BY rowid;
        DELETE FROM agent_memory WHERE rowid IN due;
        COMMIT;
    """.replace(":agent", "NULL")
    return timed([shell_program(), database], script)


def shell_program() -> str:
    """Return the path of the sqlite3 shell."""
    program = shutil.which("sqlite3")
    if program is None:
        raise SystemExit("the comparison needs the sqlite3 shell (Debian: apt-get install sqlite3)")
    return program


def timed(command: list[str | Path], script: str = "") -> float:
    """Run a command and return the duration of the process in seconds."""
    begun = time.perf_counter()
    subprocess.run(command, input=script, text=True, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def show(what: str, **figure: float) -> None:
    """Print one figure with its unit."""
    for unit, value in figure.items():
        print(f"{what:<60}{value:>10.2f} {unit}", flush=True)


MEASUREMENTS: dict[str, Callable[[Path], None]] = {
    "cleanup": cleanup,
    "decay": decay,
    "memories": memories,
    "promote": promote,
    "start": start,
    "growth": growth,
    "features": features,
    "replacing": replacing,
    "backups": backups,
    "insight": insight,
    "search": search,
    "space": space,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--postgres"]:
        with tempfile.TemporaryDirectory(prefix="memctl-benchmark-") as place:
            server_costs.measure(sys.argv[2], Path(place), show)
        raise SystemExit
    unknown = set(sys.argv[1:]) - set(MEASUREMENTS)
    if unknown:
        raise SystemExit(f"choose from {', '.join(MEASUREMENTS)}")
    for chosen in sys.argv[1:] or MEASUREMENTS:
        with tempfile.TemporaryDirectory(prefix="memctl-benchmark-") as place:
            print(f"\n{chosen}: {MEASUREMENTS[chosen].__doc__}")
            MEASUREMENTS[chosen](Path(place))
