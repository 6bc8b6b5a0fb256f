"""Metrics on each engine: the same figures for the same rows."""

import random
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl.storage.addresses import ServerAddress
from memctl.storage.engines import open_store
from tests.support.database import Row, memory_row, text_of
from tests.support.engines import Engine, PostgresEngine, emptied
from tests.support.program import NOW, Memctl

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
AGENTS = ("build_agent", "агент 🤖", "", "[red]a[/]")
TYPES = ("learning", "context")
SOON = "2026-11-23T12:00:00.500Z"


def memories(chance: random.Random, count: int) -> list[Row]:
    """Return memories of which some have expired, some were read, and some are odd."""

    def moment() -> str:
        return text_of(NOW - timedelta(seconds=chance.randrange(-DAY.days, 60 * 86400)))

    return [
        memory_row(
            id=f"m-{number}",
            agent_id=chance.choice(AGENTS),
            type=chance.choice(TYPES),
            key=f"ключ {number}",
            value="ü" * chance.randrange(300),
            metadata=chance.choice([None, "", "{}", '{"a":"é"}']),
            # Sums of larger numbers depend on the order of rows, which a server may change.
            importance=chance.choice([None, 1, 2.2, 4.7000001, 10, -3, 1e13, 1000]),
            access_count=chance.choice([None, 0, 1, 7, -2, 2**40]),
            created_at=chance.choice([None, moment(), text_of(NOW - 30 * DAY)]),
            last_accessed=chance.choice([None, moment(), text_of(NOW), text_of(NOW - 30 * DAY)]),
            expires_at=chance.choice([None, "2026-11-22T09:43:57.000Z", SOON]),
        )
        for number in range(count)
    ]


def without_place(document: dict[str, Any]) -> dict[str, Any]:
    """Return metrics without what differs between the engines, and between any two runs."""
    for job in document["jobs"]:
        del job["duration_ms"], job["longest_lock_ms"], job["last_ok_at"]
    return {name: document[name] for name in document if name not in ("database", "storage")}


@pytest.mark.parametrize("seed", range(2))
def test_both_engines_have_the_same_metrics_for_the_same_rows(
    engines: tuple[Engine, Engine], seed: int
) -> None:
    rows = memories(random.Random(seed), 200)
    for engine in engines:
        engine.fill("agent_memory", rows)
        for number, job in enumerate(("snapshot", "cleanup", "snapshot", "prune", "cleanup")):
            engine.memctl.at(NOW + 9 * number * HOUR).ok(job)
        engine.memctl.at(NOW + 100 * DAY).ok("prune", "--older-than", "90d", "--force")
        engine.memctl.at(NOW + 100 * DAY).ok("snapshot", "--force")
    ask = [engine.memctl.at(NOW + 101 * DAY) for engine in engines]

    for words in (["--history", "200d"], ["--agent", "агент 🤖"], []):
        first, second = (without_place(asked.ok("metrics", *words).json) for asked in ask)
        assert first == second
    for form in (["--table"], ["--csv"], ["--nl", "--history", "40d"]):
        one, other = (asked.ok("metrics", *form).out for asked in ask)
        assert one == other
    before = [engine.memctl.ok("metrics").json for engine in engines]
    assert without_place(before[0]) == without_place(before[1])


def test_both_engines_have_the_same_metrics_for_prometheus(
    engines: tuple[Engine, Engine],
) -> None:
    rows = memories(random.Random(9), 60)
    texts = []
    for engine in engines:
        engine.fill("agent_memory", rows)
        engine.memctl.ok("cleanup")
        engine.memctl.ok("snapshot")
        text = engine.memctl.ok("metrics", "--prometheus").out
        texts.append([line for line in without_labels(text, engine) if not is_own(line)])

    assert texts[0] == texts[1]


def without_labels(text: str, engine: Engine) -> list[str]:
    """Return lines without the label that names the database."""
    name = f'database="{engine.address}"'
    return text.replace(f"{name},", "").replace(f"{{{name}}}", "").splitlines()


def is_own(line: str) -> bool:
    """Return whether a line is about what differs between the engines, or any two runs."""
    own = "database_|findings|schema_step|build_info|job_last_(success|duration|longest)"
    return re.search(f"memctl_({own})", line) is not None


def test_the_database_on_a_server_has_a_url_and_a_size_but_no_pages(
    migrated_url: str, tmp_path: Path
) -> None:
    server = emptied(migrated_url, tmp_path)
    secret = server.url.replace("memctl@", "memctl:hunter2@")
    memctl = Memctl(tmp_path / "unused.db", url=secret)

    answer = memctl.ok("metrics").json
    text = memctl.ok("metrics", "--prometheus").out

    size = answer["storage"].pop("size_bytes")
    assert answer["database"] == server.url
    assert answer["storage"] == {"wal_bytes": None, "free_pages": None, "free_bytes": None}
    assert size > 5_000_000
    assert f'memctl_schema_step{{database="{server.url}"}} 2\n' in text
    assert f'memctl_findings{{database="{server.url}",severity="warning"}} 0\n' in text
    assert re.search(r"^memctl_database_size_bytes\{.*\} \d+$", text, re.MULTILINE)
    for absent in ("hunter2", "wal_bytes", "free_bytes", "sqlite"):
        assert absent not in text


def test_metrics_include_what_a_client_has_just_archived(migrated_url: str, tmp_path: Path) -> None:
    server: PostgresEngine = emptied(migrated_url, tmp_path)
    server.insert(agent_id="a", id="x")
    with open_store(ServerAddress(server.url)) as store:
        change = store.forgotten("a", None, now=NOW)
        store.batches(max_seconds=None).apply(change.find(), change.apply, doing="archiving")

    early = server.memctl.at(NOW + HOUR).ok("metrics").json["system"]
    listed = server.memctl.ok("events", "--json").json
    server.memctl.at(NOW + HOUR).ok("snapshot")
    late = server.memctl.at(NOW + HOUR).ok("metrics").json["system"]

    assert (early["archived"], early["archived_per_day"], listed) == (1, 1.0, [])
    assert late == early
    ((snapshot),) = server.rows("memory_analytics")
    assert (snapshot["archived"], snapshot["archived_memories"]) == (1, 1)
