"""Memories with secrets as findings of a check, with the command for each that removes them."""

from typing import Any

from memctl.insight.check_secrets import MemoryWithSecrets, SecretCount
from memctl.insight.findings import Finding
from memctl.output.shell import shell_line

NOT_SHOWN = "(not shown)"


def finding_of(memory: MemoryWithSecrets) -> Finding:
    """Return the finding about one memory."""
    type_ = NOT_SHOWN if memory.type is None else memory.type
    name = f"{_quoted(memory.agent_id)} {type_} {_quoted(memory.key)}"
    listed = ", ".join(map(_place, memory.secrets))
    command = removal_command(memory)
    advice = f"run `{command}`" if command else "delete it with the program that wrote it"
    return Finding(
        "warning",
        "secret",
        f"{name}, id {_quoted(memory.id)}, looks like it contains secrets: {listed}",
        f"replace the secret where it is used, then {advice}",
    )


def removal_command(memory: MemoryWithSecrets) -> str | None:
    """Return the command that removes the secrets; None if no command can name the memory.

    A key is a part of the name, and cannot be redacted.
    """
    agent = memory.agent_id
    if memory.is_in_key:
        if not (_can_be_passed(agent) and _can_be_passed(memory.id)):
            return None
        dash = ("--",) if agent.startswith("-") or memory.id.startswith("-") else ()
        return shell_line("memctl", "erase", *dash, agent, memory.id)
    if not all(map(_can_be_passed, (agent, memory.type, memory.key))):
        return None
    dash = ("--",) if agent.startswith("-") else ()
    named = (f"--type={memory.type}", f"--key={memory.key}")
    return shell_line("memctl", "redact", "--secrets", *named, *dash, agent)


def _can_be_passed(text: Any) -> bool:
    """Return whether a text can be an argument of a program."""
    return isinstance(text, str) and bool(text) and "\0" not in text


def _quoted(text: Any) -> str:
    return NOT_SHOWN if text is None else f"'{text}'"


def _place(secret: SecretCount) -> str:
    where = "knowledge entry" if secret.place == "knowledge" else secret.found_in
    archived = "archived " if secret.place == "archived" else ""
    times = f" ({secret.count} times)" if secret.count > 1 else ""
    return f"{secret.kind} in {archived}{where}{times}"
