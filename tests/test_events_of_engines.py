"""Events on each engine; on a server, a reader misses none, however many programs write."""

import random
import threading
import time
from typing import Any

import psycopg

from memctl.jobs.cleanup import cleanup
from memctl.jobs.engine import JobRequest, perform
from memctl.storage.addresses import ServerAddress
from memctl.storage.engines import open_store
from memctl.storage.postgresql.times import new_key
from memctl.storage.rows import EventFilter
from tests.support.database import text_of
from tests.support.engines import Engine, PostgresEngine
from tests.support.program import NOW

EXPIRED = "2026-11-22T09:43:57.000Z"


def events(engine: Engine, *words: str) -> list[tuple[Any, ...]]:
    """Return event, agent, key, run and detail of the events that a command lists."""
    listed = engine.memctl.ok("events", "--json", *words).json
    names = ("event", "agent_id", "key", "run_id", "detail")
    return [tuple(event[name] for name in names) for event in listed]


def test_events_are_listed_in_order_and_by_each_filter(engine: Engine) -> None:
    first = engine.insert(agent_id="a", id="1", key="one", expires_at=EXPIRED)
    engine.insert(agent_id="b", id="2", key="two", type="context", expires_at=EXPIRED)
    engine.memctl.ok("cleanup")
    expired = ("memory:expired", "a", "one", 1, None)
    archived = ("memory:archived", "a", "one", 1, {"reason": "expired"})
    others = [(name, "b", "two", run, detail) for name, _, _, run, detail in (expired, archived)]

    (event, *_) = engine.memctl.ok("events", "--json").json
    last = engine.memctl.ok("events", "--json").json[-1]["event_id"]

    assert (event["at"], event["memory_id"]) == (NOW.strftime("%Y-%m-%dT%H:%M:%SZ"), first)
    assert events(engine) == [expired, archived, *others]
    assert events(engine, "--limit", "1", "--offset", "1") == [others[0]]
    assert events(engine, "--since", str(event["event_id"])) == [archived, *others]
    assert events(engine, "--since", "0", "--limit", "1", "--offset", "1") == [archived]
    assert events(engine, "--since", str(last)) == []
    assert events(engine, "--agent", "b", "--event", "expired") == [others[0]]
    assert events(engine, "--type", "context") == others
    assert events(engine, "--key", "one") == [expired, archived]
    assert events(engine, "--run", "2") == []
    assert len(events(engine, "--since", "2026-11-22T09:43:58Z", "--until", text_of(NOW))) == 4
    assert events(engine, "--until", "1s") == []
    assert engine.memctl("events", "--since", str(last + 1)).exit_code == 1
    assert engine.memctl("events", "--event", "eaten").exit_code == 2
    assert engine.memctl.ok("events", "--csv").out.count("\n") == 5


def test_following_the_events_is_refused_on_a_server(on_server: PostgresEngine) -> None:
    answer = on_server.memctl("events", "--follow")

    assert (answer.exit_code, answer.out) == (2, "")
    assert answer.err == (
        "memctl: `memctl events --follow` is not available on PostgreSQL; run `memctl events"
        " --since CURSOR` repeatedly\n"
    )


def test_an_event_that_is_committed_late_comes_after_those_that_were_read(
    on_server: PostgresEngine,
) -> None:
    with psycopg.connect(on_server.url) as slow:
        add_event(slow, "slow")
        with psycopg.connect(on_server.url) as quick:
            add_event(quick, "quick")
        on_server.memctl.ok("cleanup")
        (seen,) = on_server.memctl.ok("events", "--json").json
        slow.commit()

        unnumbered = on_server.memctl.ok("events", "--json").json
        on_server.memctl.ok("cleanup")
        (late,) = on_server.memctl.ok("events", "--since", str(seen["event_id"]), "--json").json

    assert [seen] == unnumbered
    assert (seen["key"], late["key"]) == ("quick", "slow")


def test_many_events_are_numbered_in_the_order_of_their_keys(on_server: PostgresEngine) -> None:
    keys = [new_key() for _ in range(1100)]
    shuffled = random.Random(7).sample(keys, len(keys))
    with psycopg.connect(on_server.url) as db:
        for number, key in enumerate(shuffled):
            add_event(db, key, event_key=key, agent=f"agent-{number % 7}")

    on_server.memctl.ok("cleanup")

    listed = on_server.memctl.ok("events", "--limit", "2000", "--json").json
    assert [event["key"] for event in listed] == keys


def add_event(
    db: "psycopg.Connection[Any]", key: str, *, event_key: str | None = None, agent: str = "a"
) -> None:
    """Add an event as a client does, without a number."""
    db.execute(
        "INSERT INTO memory_events (event_key, at, event, memory_id, agent_id, type, key)"
        " VALUES (%s, %s, 'memory:forgotten', %s, %s, 'learning', %s)",
        (event_key or new_key(), NOW, key, agent, key),
    )


def test_a_reader_beside_two_clients_and_a_job_misses_no_event(on_server: PostgresEngine) -> None:
    address = ServerAddress(on_server.url)
    done = threading.Event()
    seen: list[tuple[int, str | None]] = []

    def write(seed: int) -> None:
        chance = random.Random(seed)
        with psycopg.connect(on_server.url) as db:
            for number in range(60):
                add_event(db, f"{seed}-{number}")
                time.sleep(chance.choice([0, 0, 0.001, 0.02]))
                db.commit()

    def read() -> None:
        last = False
        while not last:
            last = done.is_set()
            cursor = seen[-1][0] if seen else 0
            with open_store(address, read_only=True) as store:
                page = store.read_events(EventFilter(), after=cursor, limit=10**6, offset=0)
            seen.extend((event.event_id, event.key) for event in page.events)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(seed,)) for seed in (1, 2)]
    for thread in (reader, *writers):
        thread.start()
    number = 0
    while any(thread.is_alive() for thread in writers):
        number += 1
        on_server.insert(key=f"job-{number}", expires_at=EXPIRED)
        perform("cleanup", cleanup, JobRequest(address, NOW))
    perform("cleanup", cleanup, JobRequest(address, NOW))
    done.set()
    reader.join()

    clients = [f"{seed}-{number}" for seed in (1, 2) for number in range(60)]
    jobs = [f"job-{one}" for one in range(1, number + 1)] * 2
    assert sorted(str(key) for _, key in seen) == sorted([*clients, *jobs])
    assert [event_id for event_id, _ in seen] == sorted({event_id for event_id, _ in seen})
