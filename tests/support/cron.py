"""The lines of a crontab, as cron reads them."""

import re


def crontab_lines(text: str) -> list[str]:
    """Return the lines that are not comments."""
    return [line for line in text.splitlines() if not line.startswith("#")]


def cron_commands(text: str) -> list[str]:
    """Return what cron gives to the shell: `\\%` is a percent sign, a bare one ends the command."""
    commands = (line.split(maxsplit=5)[5] for line in crontab_lines(text))
    return [re.split(r"(?<!\\)%", command)[0].replace("\\%", "%") for command in commands]
