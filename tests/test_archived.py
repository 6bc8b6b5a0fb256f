"""Listing the archive."""

import csv
import io
import json
from datetime import timedelta
from uuid import UUID

import pytest

from tests.support.engines import Engine
from tests.support.program import NOW, Memctl

EXPIRED = "2020-01-01T00:00:00.000Z"


@pytest.fixture
def archive(engine: Engine) -> Memctl:
    """Three memories of one agent, archived a day apart, and one of another agent."""
    for days, key, kind in (
        (3, "alpha", "learning"),
        (2, "beta", "context"),
        (1, "gamma", "learning"),
    ):
        engine.insert(
            key=key, type=kind, value=f"value of {key.upper()}", importance=5, expires_at=EXPIRED
        )
        engine.memctl.at(NOW - timedelta(days=days)).ok("cleanup")
    by_hand = engine.insert(key="delta", importance=5)
    engine.memctl.ok("archive", "build_agent", by_hand)
    engine.insert(key="other", agent_id="qa_agent", expires_at=EXPIRED)
    engine.memctl.ok("cleanup")
    return engine.memctl


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        pytest.param([], ["delta", "gamma", "beta", "alpha"], id="the newest first"),
        pytest.param(["--type", "learning"], ["delta", "gamma", "alpha"], id="by type"),
        pytest.param(["--key", "beta"], ["beta"], id="by key"),
        pytest.param(["--reason", "manual"], ["delta"], id="by reason"),
        pytest.param(["--since", "36h"], ["delta", "gamma"], id="since a duration"),
        pytest.param(["--since", "2026-11-20T09:43:58Z"], ["delta", "gamma", "beta"], id="since"),
        pytest.param(["--until", "2026-11-20T09:43:58Z"], ["beta", "alpha"], id="until"),
        pytest.param(["--search", "of beta"], ["beta"], id="by text, ignoring case"),
        pytest.param(["--search", "%"], [], id="a wildcard is a plain character"),
        pytest.param(["--search", "a", "--limit", "2"], ["delta", "gamma"], id="by text, a page"),
        pytest.param(
            ["--search", "value", "--limit", "1", "--offset", "1"], ["beta"], id="by text, the next"
        ),
        pytest.param(["--limit", "2"], ["delta", "gamma"], id="the first page"),
        pytest.param(["--limit", "2", "--offset", "2"], ["beta", "alpha"], id="the second page"),
    ],
)
def test_the_archive_is_filtered_and_paged(
    archive: Memctl, options: list[str], keys: list[str]
) -> None:
    found = archive.ok("archived", "build_agent", *options).json

    assert [memory["key"] for memory in found] == keys


def test_the_archive_of_all_agents_is_listed_on_request(archive: Memctl) -> None:
    found = archive.ok("archived", "--all").json
    searched = archive.ok("archived", "--all", "--search", "TOOLCHAIN").json

    assert [(memory["agent_id"], memory["key"]) for memory in found] == [
        ("qa_agent", "other"),
        ("build_agent", "delta"),
        ("build_agent", "gamma"),
        ("build_agent", "beta"),
        ("build_agent", "alpha"),
    ]
    assert [memory["key"] for memory in searched] == ["other", "delta"]


@pytest.mark.parametrize("command", ["archived", "list"])
@pytest.mark.parametrize("words", [(), ("build_agent", "--all")], ids=["neither", "both"])
def test_either_an_agent_or_all_is_required(
    archive: Memctl, command: str, words: tuple[str, ...]
) -> None:
    answer = archive(command, *words)

    assert (answer.exit_code, answer.out) == (2, "")
    assert answer.err == (
        "memctl: exactly one of AGENT and --all is required; name an agent, or use --all\n"
    )


@pytest.mark.parametrize(
    ("text", "is_found"), [("ключ", True), ("STRASSE", True), ("tag", True), ("agent", False)]
)
def test_a_text_in_the_archive_matches_as_in_a_search(
    engine: Engine, text: str, is_found: bool
) -> None:
    engine.insert(id="m", key="КЛЮЧ", value="Straße", metadata='{"tag": 1}')
    engine.memctl.ok("archive", "build_agent", "m")

    found = engine.memctl.ok("archived", "build_agent", "--search", text).json

    assert [memory["id"] for memory in found] == (["m"] if is_found else [])


def test_a_memory_is_shown_with_every_column(archive: Memctl, engine: Engine) -> None:
    (memory,) = archive.ok("archived", "build_agent", "--key", "beta").json

    if engine.name == "sqlite":
        assert memory["archive_id"] == 2
    else:
        UUID(memory["archive_id"])
    assert memory == {
        "archive_id": memory["archive_id"],
        "id": memory["id"],
        "agent_id": "build_agent",
        "type": "context",
        "key": "beta",
        "value": "value of BETA",
        "metadata": None,
        "importance": 5,
        "access_count": 0,
        "last_accessed": "2026-11-22 09:43:58",
        "created_at": "2026-11-22 09:43:58",
        "expires_at": EXPIRED,
        "importance_decay_rate": None,
        "last_decay_at": None,
        "promoted_at": None,
        "archived_at": "2026-11-20T09:43:58Z",
        "archived_reason": "expired",
        "run_id": 2,
    }


def test_every_output_format_lists_the_same_memories(archive: Memctl) -> None:
    found = archive.ok("archived", "build_agent").json
    wanted = [memory["key"] for memory in found]

    lines = archive.ok("archived", "build_agent", "--nl").out.splitlines()
    records = list(csv.DictReader(io.StringIO(archive.ok("archived", "build_agent", "--csv").out)))
    table = archive.ok("archived", "build_agent", "--table").out

    assert [json.loads(line)["key"] for line in lines] == wanted
    assert [record["key"] for record in records] == wanted
    first, second, third, fourth = (memory["id"] for memory in found)
    assert table == (
        f"{'id':36}  agent        type      key    archived  reason   importance  run  value\n"
        f"{first}  build_agent  learning  delta  now       manual            5    4"
        "  cache the toolchain\n"
        f"{second}  build_agent  learning  gamma  24 h ago  expired           5    3"
        "  value of GAMMA\n"
        f"{third}  build_agent  context   beta   2 d ago   expired           5    2"
        "  value of BETA\n"
        f"{fourth}  build_agent  learning  alpha  3 d ago   expired           5    1"
        "  value of ALPHA\n"
    )


def test_an_agent_with_nothing_archived_has_an_empty_list(archive: Memctl, engine: Engine) -> None:
    engine.insert(agent_id="human")

    answer = archive.ok("archived", "human")

    assert answer.out == "[]\n"


def test_the_error_for_a_misspelt_agent_suggests_the_right_name(archive: Memctl) -> None:
    answer = archive("archived", "biuld_agent")

    assert answer.exit_code == 1
    assert answer.out == ""
    assert answer.err == (
        "memctl: agent 'biuld_agent' has no memories; did you mean 'build_agent'?\n"
    )
