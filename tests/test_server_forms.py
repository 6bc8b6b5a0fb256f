"""Other forms of a server: behind a pool of connections, with partitioned tables, beside the
service's own driver for Node.
"""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.pgbouncer import pgbouncer
from tests.support.processes import eventually
from tests.support.program import NOW, Memctl
from tests.support.server_rows import AGENTS, add_expired, archived_exactly, has_archived
from tests.support.servers import Server, private_server

PARTITIONED = {"agent_memory", "archived_memories"}


LIFECYCLE = [
    ("decay",),
    ("promote",),
    ("snapshot",),
    ("prune",),
    ("run",),
    ("remember", "qa_agent", "learning", "k", "v"),
    ("recall", "qa_agent", "learning", "k"),
    ("forget", "qa_agent", "learning", "k"),
    ("restore", "qa_agent", "--type", "learning", "--key", "k"),
    ("list", "qa_agent"),
    ("search", "v"),
    ("events",),
    ("metrics",),
    ("status",),
    ("export", "--all"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server whose log contains the plan of each statement in the database `partitioned`."""
    with private_server("fsync=off") as started:
        yield started


@pytest.fixture
def pooled(server: Server, tmp_path: Path) -> Iterator[Memctl]:
    """The program, pointed at an empty database behind pgbouncer."""
    server.sql("CREATE DATABASE pooled")
    with pgbouncer(server) as url:
        yield Memctl(tmp_path / "unused.db", url=f"{url}/pooled")
    server.sql("DROP DATABASE pooled WITH (FORCE)")


def test_lifecycle_through_a_pool_of_connections(pooled: Memctl, server: Server) -> None:
    url = server.url("pooled")
    pooled.ok("migrate")
    add_expired(url, 8_000)

    first = pooled.start("cleanup", "--json")
    eventually(has_archived(url))
    second = pooled.start("cleanup", "--json", "--lock-wait", "60")
    results = [json.loads(process.communicate()[0]) for process in (first, second)]

    assert [result["archived"] for result in results] == [8_000, 0]
    assert archived_exactly(url, of=8_000) == 8_000
    for words in LIFECYCLE:
        pooled.ok(*words)


@pytest.fixture
def partitioned(server: Server, tmp_path: Path) -> Iterator[Memctl]:
    """The program, pointed at a database whose memories are in eight partitions by agent."""
    server.sql("CREATE DATABASE partitioned")
    url = server.url("partitioned")
    memctl = Memctl(tmp_path / "unused.db", url=url)
    memctl.ok("migrate")
    with psycopg.connect(url, autocommit=True) as db:
        for table in PARTITIONED:
            db.execute(f"ALTER TABLE {table} RENAME TO whole")
            db.execute(
                f"CREATE TABLE {table} (LIKE whole INCLUDING ALL) PARTITION BY HASH (agent_id)"
            )
            db.execute("DROP TABLE whole")
            for part in range(8):
                db.execute(
                    f"CREATE TABLE {table}_{part} PARTITION OF {table}"
                    f" FOR VALUES WITH (MODULUS 8, REMAINDER {part})"
                )
        db.execute(
            "ALTER DATABASE partitioned SET session_preload_libraries = auto_explain;"
            "ALTER DATABASE partitioned SET auto_explain.log_min_duration = 0;"
            "ALTER DATABASE partitioned SET auto_explain.log_format = json"
        )
    yield memctl
    server.sql("DROP DATABASE partitioned WITH (FORCE)")


Plan = dict[str, Any]


def plans(log: str) -> list[Plan]:
    """Return the plans in a log of the server."""
    return [json.loads(found[1]) for found in re.finditer(r"plan:\n((?:\t.*\n)+)", log)]


def nodes(plan: Plan) -> Iterator[Plan]:
    """Yield a node of a plan, and all below it."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def changed_tables(plan: Plan) -> set[str]:
    """Return the tables that a plan changes, without the numbers of partitions."""
    return {
        re.sub(r"_\d$", "", node["Relation Name"])
        for node in nodes(plan["Plan"])
        if node["Node Type"] == "ModifyTable"
    }


def partitions(plan: Plan) -> set[str]:
    """Return the numbers of the partitions that a plan reads or changes."""
    names = {node.get("Relation Name", "") for node in nodes(plan["Plan"])}
    return {found[1] for name in names if (found := re.search(r"_(\d)$", name))}


def test_each_batch_touches_one_partition(partitioned: Memctl, server: Server) -> None:
    url = server.url("partitioned")
    add_expired(url, 200)
    log = server.place / "log"
    begin = log.stat().st_size

    assert partitioned.ok("decay", "--json").json["decayed"] == 200
    assert partitioned.ok("cleanup", "--json").json["archived"] == 200
    much_later = partitioned.at(NOW + timedelta(days=365))
    assert much_later.ok("prune", "--force", "--json").json["pruned"] == 200

    changes = [
        plan for plan in plans(log.read_text()[begin:]) if changed_tables(plan) & PARTITIONED
    ]
    assert len(changes) >= 3 * AGENTS
    for plan in changes:
        assert len(partitions(plan)) == 1, plan["Query Text"]
