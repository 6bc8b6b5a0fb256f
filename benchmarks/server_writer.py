"""A program that writes to a PostgreSQL server like the service, and times each call.

It makes the service's four calls on some keys every few milliseconds. It writes one line when it
has begun, and its figures as JSON when its standard input is closed.
"""

import random
import sys
import threading
import time
import uuid
from typing import Any

import psycopg

from benchmarks.writer import show_figures, wait_for_the_end

Connection = psycopg.Connection[Any]

NAMED = "agent_id = 'writer' AND type = 'context' AND key = %s"


def main(url: str) -> None:
    """Make calls until standard input ends."""
    over = threading.Event()
    threading.Thread(target=wait_for_the_end, args=(over,), daemon=True).start()
    random.seed(7)
    seconds: list[float] = []
    with psycopg.connect(url, autocommit=True) as db:
        print("begun", flush=True)
        while not over.wait(random.uniform(0.002, 0.005)):
            call = random.choices((remember, recall, list_memories, forget), (4, 4, 1, 1))[0]
            begun = time.perf_counter()
            call(db, f"key-{random.randrange(200)}")
            seconds.append(time.perf_counter() - begun)
    show_figures(seconds)


def remember(db: Connection, key: str) -> None:
    """Write a memory, or replace it."""
    db.execute(
        """
        INSERT INTO agent_memory (id, agent_id, type, key, value, importance)
        VALUES (%s, 'writer', 'context', %s, %s, 5)
        ON CONFLICT (agent_id, type, key) DO UPDATE
        SET id = excluded.id, value = excluded.value, importance = excluded.importance,
            access_count = 0, created_at = now(), last_accessed = now()
        """,
        (str(uuid.uuid4()), key, "x" * 200),
    )


def recall(db: Connection, key: str) -> None:
    """Read a memory, which counts as an access."""
    for (memory_id,) in db.execute(f"SELECT id FROM agent_memory WHERE {NAMED}", (key,)).fetchall():
        db.execute(
            "UPDATE agent_memory SET access_count = access_count + 1, last_accessed = now()"
            " WHERE agent_id = 'writer' AND id = %s",
            (memory_id,),
        )


def list_memories(db: Connection, _key: str) -> None:
    """Read the most important memories."""
    db.execute(
        "SELECT * FROM agent_memory WHERE agent_id = 'writer'"
        " ORDER BY importance DESC, access_count DESC LIMIT 20"
    ).fetchall()


def forget(db: Connection, key: str) -> None:
    """Delete a memory."""
    db.execute(f"DELETE FROM agent_memory WHERE {NAMED}", (key,))


if __name__ == "__main__":
    main(sys.argv[1])
