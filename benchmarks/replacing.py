"""The cost of archive-on-replace and of holds for the service's `remember`, compared with others.

As in `benchmarks.features`, all databases take turns in short rounds, and a figure is the median.
"""

import shutil
import sqlite3
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import PROGRAM
from benchmarks.database import build
from benchmarks.features import connect

MEMORIES = 100_000
ROUNDS = 60
CALLS = 50  # in a round
KEYS = 200

REMEMBER = """
    INSERT OR REPLACE INTO agent_memory
        (id, agent_id, type, key, value, metadata, importance, expires_at)
    VALUES (?, 'writer', 'context', ?, ?, NULL, 5, NULL)
"""
FIND = "SELECT * FROM agent_memory WHERE agent_id = 'writer' AND type = 'context' AND key = ?"

HOLD = ("hold", "writer", "--type", "context", "--key", "held")
VARIANTS: dict[str, Sequence[Sequence[str]]] = {
    "every feature off": (),
    "archive-on-replace": (("enable", "archive-on-replace"),),
    "archive-on-replace and archive-on-delete": (
        ("enable", "archive-on-replace"),
        ("enable", "archive-on-delete"),
    ),
    "a hold on another memory": (HOLD,),
    "archive-on-replace and the hold": (("enable", "archive-on-replace"), HOLD),
}


def measure(folder: Path, show: Callable[..., None], original: Path | None = None) -> None:
    """Show the time of a `remember`, and what the feature and a hold add to it."""
    if original is None:
        original = folder / "original.db"
        build(original, memories=MEMORIES, expired=0)
    paths = {name: folder / f"{number}.db" for number, name in enumerate(VARIANTS)}
    for name, commands in VARIANTS.items():
        shutil.copy(original, paths[name])
        run(paths[name], "migrate", "--no-backup")
        with_memory_to_hold(paths[name])
        for words in commands:
            run(paths[name], *words)
    for how, kept in (("prepared afresh at each call", 0), ("prepared once", 128)):
        clients = {name: connect(path, kept) for name, path in paths.items()}
        for what, value in (("the same value", same), ("another value", other)):
            for db in clients.values():
                remember(db, range(KEYS), same)
            seconds: dict[str, list[float]] = {name: [] for name in clients}
            for number in range(ROUNDS):
                chosen = [(number * 31 + call * 7) % KEYS for call in range(CALLS)]
                for name, db in clients.items():
                    seconds[name].append(remember(db, chosen, value))
            off, *others = seconds.values()
            show(f"{what}, {how}: every feature off", µs=statistics.median(off) / CALLS * 1e6)
            for name, times in zip(list(clients)[1:], others, strict=True):
                ratio = statistics.median(
                    own / before for own, before in zip(times, off, strict=True)
                )
                show(f"  {name}", times=ratio)
        for db in clients.values():
            db.close()


def run(path: Path, *words: str) -> None:
    """Run a command on a database."""
    subprocess.run([PROGRAM, *words, "-q", "--db", path], check=True)


def with_memory_to_hold(path: Path) -> None:
    """Store the memory that some of the databases hold."""
    db = connect(path, 0)
    db.execute(REMEMBER, (str(uuid.uuid4()), "held", "x"))
    db.close()


def same() -> str:
    """Return the value that every key has at the beginning of a measurement."""
    return "x" * 200


def other() -> str:
    """Return a value that no key has had."""
    return f"{uuid.uuid4()}{'x' * 164}"


def remember(db: sqlite3.Connection, keys: Sequence[int], value: Callable[[], str]) -> float:
    """Write memories and read them again, as the service does; returns the seconds."""
    memories = [(str(uuid.uuid4()), f"k{key}", value()) for key in keys]
    begun = time.perf_counter()
    for memory in memories:
        db.execute(REMEMBER, memory)
        db.execute(FIND, memory[1:2]).fetchone()
    return time.perf_counter() - begun
