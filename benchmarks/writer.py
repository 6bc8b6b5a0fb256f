"""A program that writes like the service every few milliseconds, and times each write.

It writes one line when it has begun, and its figures as JSON when its standard input is closed.
"""

import json
import random
import sqlite3
import sys
import threading
import time
import uuid


def main(path: str) -> None:
    """Recall and remember until standard input ends."""
    over = threading.Event()
    threading.Thread(target=wait_for_the_end, args=(over,), daemon=True).start()
    db = sqlite3.connect(path, isolation_level=None, timeout=5)
    db.execute("PRAGMA synchronous = NORMAL")
    random.seed(7)
    seconds: list[float] = []
    print("begun", flush=True)
    while not over.wait(random.uniform(0.002, 0.005)):
        begun = time.perf_counter()
        (recall if random.random() < 0.5 else remember)(db, len(seconds))
        seconds.append(time.perf_counter() - begun)
    show_figures(seconds)


def show_figures(seconds: list[float]) -> None:
    """Print the figures of calls as JSON."""
    seconds.sort()
    print(
        json.dumps(
            {
                "writes": len(seconds),
                "p50_ms": round(seconds[len(seconds) // 2] * 1000, 2),
                "p99_ms": round(seconds[int(len(seconds) * 0.99)] * 1000, 1),
                "slowest_ms": round(seconds[-1] * 1000, 1),
            }
        )
    )


def wait_for_the_end(over: threading.Event) -> None:
    """Return whether stdin is closed."""
    sys.stdin.read()
    over.set()


def recall(db: sqlite3.Connection, _number: int) -> None:
    """Read a memory, which counts as an access."""
    key = f"task:{random.randrange(200_000)}"
    row = db.execute(
        "SELECT id FROM agent_memory WHERE agent_id = 'agent-3' AND type = 'context' AND key = ?",
        (key,),
    ).fetchone()
    db.execute(
        "UPDATE agent_memory SET access_count = access_count + 1, last_accessed = datetime('now')"
        " WHERE id = ?",
        row or ("none",),
    )


def remember(db: sqlite3.Connection, number: int) -> None:
    """Write a memory in place of an earlier one."""
    db.execute(
        """
        INSERT OR REPLACE INTO agent_memory
            (id, agent_id, type, key, value, metadata, importance, expires_at)
        VALUES (?, 'writer', 'context', ?, ?, NULL, 5, NULL)
        """,
        (str(uuid.uuid4()), f"key-{number % 5000}", "x" * 200),
    )


if __name__ == "__main__":
    main(sys.argv[1])
