"""Every command on PostgreSQL: it does what the documentation of the engines says."""

import pytest

from memctl.cli.engines import DIFFERENCES, INSTEAD, OPTIONS_INSTEAD
from memctl.cli.program import NAMES
from tests.support.commands import COMMANDS, NEED_NO_DATABASE
from tests.support.engines import Engine
from tests.support.program import Memctl, Words, complaint

CASES: dict[str, Words] = {
    **COMMANDS,
    **NEED_NO_DATABASE,
    **{f"{command} {option}": (command, option) for command, option in OPTIONS_INSTEAD},
}


def instead(words: Words) -> str | None:
    """Return what the documentation says to use instead; None if the command is available."""
    for (command, option), use in OPTIONS_INSTEAD.items():
        if words[0] == command and option in words:
            return use
    return INSTEAD.get(words[0])


def prepare(engine: Engine) -> Memctl:
    """Insert an active memory and one to archive of each of two agents."""
    memctl = engine.memctl
    memctl.ok("migrate")  # the case before may have rolled a step back
    for agent in ("build_agent", "qa_agent"):
        engine.insert(id="active", agent_id=agent, key="k")
        engine.insert(
            id="archived", agent_id=agent, key="old", expires_at="2026-11-22T08:43:58.000Z"
        )
    memctl.ok("cleanup")
    return memctl


# `demo` works on a file of its own, which other tests check.
@pytest.mark.parametrize("name", [name for name in CASES if name != "demo"])
def test_a_command_is_available_or_names_what_to_use_instead(name: str, on_server: Engine) -> None:
    words, memctl = CASES[name], prepare(on_server)
    use = instead(words)

    answer = memctl(*words)
    memctl.ok("migrate")

    if use is None:
        assert answer.exit_code == 0, answer
    else:
        assert answer.exit_code == 2
        assert complaint(answer).endswith(f" is not available on PostgreSQL; {use}")
        assert len(on_server.rows()) == len(on_server.rows("archived_memories")) == 2


def test_the_table_names_only_commands_and_options_of_the_program() -> None:
    listed = {*INSTEAD, *DIFFERENCES, *(command for command, _ in OPTIONS_INSTEAD)}

    assert listed <= set(NAMES)
    assert {words[0] for words in CASES.values()} == set(NAMES)
    assert not set(INSTEAD) & set(DIFFERENCES)


def test_a_command_of_a_file_is_refused_before_a_connection_is_made(memctl: Memctl) -> None:
    nowhere = Memctl(memctl.database, url="postgresql://127.0.0.1:1/memctl")

    assert nowhere("hold", "a", "id", "--reason", "r", "--until", "30d").exit_code == 2
    assert nowhere("check", "--fix").exit_code == 2
    assert nowhere("cleanup").exit_code == 10
