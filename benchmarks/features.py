"""The cost of memctl for the service: its calls on an unmigrated database, compared with others.

All databases are open at once and take turns in short rounds, so that a machine whose speed drifts
slows them alike; a figure is the median of the rounds.
"""

import sqlite3
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from random import Random

from benchmarks import PROGRAM
from benchmarks.database import build

MEMORIES = 100_000
ROUNDS = 60
CALLS = 100  # in a round

FIND = "SELECT * FROM agent_memory WHERE id = ?"
COUNT_ACCESS = """
    UPDATE agent_memory
    SET access_count = access_count + 1, last_accessed = datetime('now')
    WHERE id = ?
"""
REMEMBER = """
    INSERT OR REPLACE INTO agent_memory
        (id, agent_id, type, key, value, metadata, importance, expires_at)
    VALUES (?, 'writer', 'context', ?, ?, NULL, 5, NULL)
"""
FORGET = "DELETE FROM agent_memory WHERE agent_id = 'writer' AND type = 'context' AND key = ?"

FEATURES = ("access-boost", "access-counting", "archive-on-delete")


def measure(folder: Path, show: Callable[..., None]) -> None:
    """Show the time of each call of the service, and how memctl changes it."""
    variants: dict[str, tuple[str, ...] | None] = {
        "before memctl": None,
        "migrated, every feature off": (),
        **{feature: (feature,) for feature in FEATURES},
        "every feature on": FEATURES,
    }
    paths = {name: folder / f"{number}.db" for number, name in enumerate(variants)}
    for name, features in variants.items():
        build(paths[name], memories=MEMORIES, expired=0)
        if features is None:
            subprocess.run([PROGRAM, "rollback", "-q", "--yes", "--db", paths[name]], check=True)
        for feature in features or ():
            subprocess.run([PROGRAM, "enable", "-q", feature, "--db", paths[name]], check=True)
    for how, kept in (("prepared afresh at each call", 0), ("prepared once", 128)):
        clients = {name: connect(path, kept) for name, path in paths.items()}
        ids = [row[0] for row in clients["before memctl"].execute("SELECT id FROM agent_memory")]
        for call in (recall, remember, forget):
            seconds: dict[str, list[float]] = {name: [] for name in clients}
            for number in range(ROUNDS):
                for name, db in clients.items():
                    seconds[name].append(call(db, ids, Random(number)))
            before = seconds["before memctl"]
            show(
                f"{call.__name__}, {how}: before memctl",
                µs=statistics.median(before) / CALLS * 1e6,
            )
            for name in list(clients)[1:]:
                ratio = statistics.median(
                    after / alone for after, alone in zip(seconds[name], before, strict=True)
                )
                show(f"  {name}", times=ratio)
        for db in clients.values():
            db.close()


def connect(path: Path, kept: int) -> sqlite3.Connection:
    """Connect as the service does; `kept` is the number of cached prepared statements."""
    db = sqlite3.connect(path, isolation_level=None, timeout=5, cached_statements=kept)
    db.execute("PRAGMA synchronous = NORMAL")
    return db


def recall(db: sqlite3.Connection, ids: list[str], random: Random) -> float:
    """Read memories, each of which counts as an access."""
    chosen = [(random.choice(ids),) for _ in range(CALLS)]
    begun = time.perf_counter()
    for memory_id in chosen:
        db.execute(FIND, memory_id).fetchone()
        db.execute(COUNT_ACCESS, memory_id)
    return time.perf_counter() - begun


def remember(db: sqlite3.Connection, _ids: list[str], random: Random) -> float:
    """Write memories in place of earlier ones."""
    chosen = [(str(uuid.uuid4()), str(random.randrange(5000)), "x" * 200) for _ in range(CALLS)]
    begun = time.perf_counter()
    for memory in chosen:
        db.execute(REMEMBER, memory)
        db.execute(FIND, memory[:1]).fetchone()
    return time.perf_counter() - begun


def forget(db: sqlite3.Connection, _ids: list[str], random: Random) -> float:
    """Delete memories that were written before."""
    chosen = [(str(uuid.uuid4()), f"gone {random.random()}", "x" * 200) for _ in range(CALLS)]
    for memory in chosen:
        db.execute(REMEMBER, memory)
    begun = time.perf_counter()
    for memory in chosen:
        db.execute(FORGET, memory[1:2])
    return time.perf_counter() - begun
