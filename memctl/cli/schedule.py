"""The command schedule."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import memctl
from memctl.cli.options import GlobalOptions
from memctl.errors import UsageError
from memctl.output.messages import Message
from memctl.output.schedule import Installation, crontab, systemd_units
from memctl.output.terminal import show_document, show_message, show_text
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.migrations import require_current


def schedule(
    call: GlobalOptions,
    cron: Annotated[bool, typer.Option("--cron", help="Print lines for `crontab -e`.")] = False,
    systemd: Annotated[bool, typer.Option("--systemd", help="Print services and timers.")] = False,
) -> None:
    """Print crontab lines or systemd units for the jobs, a daily backup and a daily check.

    Installs nothing. With --systemd, each unit starts with the name of its file.
    """
    if cron == systemd:
        raise UsageError("exactly one format is required", "choose --cron or --systemd")
    with open_database(call.settings.database, read_only=True) as db:
        require_current(db)
    installation = _this_installation(call)
    texts = {"crontab": crontab(installation)} if cron else systemd_units(installation)
    if call.json:
        show_document(texts)
    else:
        show_text(["\n".join(texts.values())])
    if installation.owner == "root":
        show_message(
            Message(
                f"schedule: {call.settings.database} belongs to root, as whom the jobs would run;"
                " give it to the user of the service with chown",
                level="warning",
            ),
            quiet=call.quiet,
        )


def _this_installation(call: GlobalOptions) -> Installation:
    """Return this program with its database and configuration."""
    import pwd

    settings = call.settings
    database = settings.database.absolute()
    uid = database.stat().st_uid
    try:
        owner = pwd.getpwuid(uid).pw_name
    except KeyError:
        owner = str(uid)
    program = _program()
    return Installation(
        program=program,
        databases=[database],
        configuration=settings.file and settings.file.absolute(),
        owner=owner,
        reads=[Path(place) for place in (program[0], sys.prefix, sys.base_prefix, memctl.__file__)],
        network=False,  # whether the settings contain something that needs it
        writes=(),  # the directories outside the database's that the settings name
    )


def _program() -> list[str]:
    """Return the command that starts this memctl: its environment's executable, not a shim."""
    beside_python = Path(sys.executable).with_name("memctl")
    if os.access(beside_python, os.X_OK):
        return [str(beside_python)]
    return [sys.executable, "-P", "-m", "memctl"]  # -P: do not import from the current directory
