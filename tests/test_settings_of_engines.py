"""Keys of the configuration that only one engine supports."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.engines import Engine, PostgresEngine

UNAVAILABLE = {
    "alerts.command": '[alerts]\ncommand = ["/bin/true"]\n',
    "observability.events": "[observability]\nevents = true\n",
    "quota": "[agents.build_agent.quota]\nmemories = 5\n",
    "report.every": '[report]\nevery = "daily"\n',
}


@pytest.fixture
def configured(tmp_path: Path) -> Callable[[str], str]:
    """Write a configuration file; returns its path."""

    def write(content: str) -> str:
        file = tmp_path / "memctl.toml"
        file.write_text(content)
        return str(file)

    return write


@pytest.mark.parametrize("key", UNAVAILABLE)
@pytest.mark.parametrize("command", ["run", "cleanup"])
def test_a_job_on_postgresql_refuses_a_key_that_has_no_effect(
    on_server: PostgresEngine, configured: Callable[[str], str], key: str, command: str
) -> None:
    on_server.insert(expires_at="2026-01-01")
    file = configured(UNAVAILABLE[key])

    refused = on_server.memctl(command, "--config", file)
    checked = on_server.memctl("config", "validate", "--config", file, "--json")

    assert refused.exit_code == 2
    assert refused.err.startswith(
        f"memctl: {file}: {key} is not available on PostgreSQL; remove it; use "
    )
    assert (len(on_server.rows()), on_server.rows("memory_runs")) == (1, [])
    assert checked.exit_code == 2
    assert [problem["setting"] for problem in checked.json["problems"]] == [key]


def test_replaced_versions_beyond_a_number_are_deleted(
    engine: Engine, configured: Callable[[str], str]
) -> None:
    for agent in ("build_agent", "qa_agent"):
        for day in range(1, 6):
            engine.insert(
                "archived_memories",
                id=f"{agent} {day}",
                agent_id=agent,
                type="learning",
                key="k",
                value=str(day),
                archived_at=f"2026-11-0{day}T00:00:00Z",
                archived_reason="expired" if day == 1 else "replaced",
            )
    file = configured(
        "[archive]\nkeep_versions = 3\n"
        "[agents.qa_agent.archive.types.learning]\nkeep_versions = 1\n"
    )

    previewed = engine.memctl.ok("cleanup", "--config", file, "--dry-run", "--list", "--json").json
    of_one = engine.memctl.ok("cleanup", "--config", file, "--agent", "build_agent", "--json").json
    of_all = engine.memctl.ok("cleanup", "--config", file, "--json").json

    assert [(one["agent_id"], one["id"]) for one in previewed["listed"]] == [
        ("build_agent", "build_agent 2"),
        *(("qa_agent", f"qa_agent {day}") for day in (2, 3, 4)),
    ]
    assert (of_one["versions_pruned"], of_all["versions_pruned"]) == (1, 3)
    assert {row["id"] for row in engine.rows("archived_memories")} == {
        *(f"build_agent {day}" for day in (1, 3, 4, 5)),
        *(f"qa_agent {day}" for day in (1, 5)),
    }
    assert [row["event"] for row in engine.rows("memory_events")] == ["memory:pruned"] * 4
