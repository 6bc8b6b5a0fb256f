"""The command schedule."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

import memctl
from memctl.cli.databases import options_of_files, settings_of_file
from memctl.cli.options import ConfigDirOption, GlobalOptions
from memctl.config.directory import require_private
from memctl.config.settings import Settings
from memctl.errors import UsageError
from memctl.output.messages import Message
from memctl.output.schedule import Installation, crontab, systemd_units
from memctl.output.terminal import show_document, show_message, show_text
from memctl.storage.addresses import Address
from memctl.storage.engines import open_store


def schedule(
    call: GlobalOptions,
    cron: Annotated[bool, typer.Option("--cron", help="Print lines for `crontab -e`.")] = False,
    systemd: Annotated[bool, typer.Option("--systemd", help="Print services and timers.")] = False,
    config_dir: ConfigDirOption = None,
) -> None:
    """Print crontab lines or systemd units for the jobs, a daily backup and a daily check.

    Installs nothing. With --systemd, each unit starts with the name of its file.
    """
    if cron == systemd:
        raise UsageError("exactly one format is required", "choose --cron or --systemd")
    if config_dir is None:
        settings = [call.settings]
    else:
        files = options_of_files(call, config_dir)
        settings = [settings_of_file(file, options) for file, options in files]
    for one in settings:
        with open_store(one.database, read_only=True) as store:
            store.require_current()
    installation = _this_installation(settings, config_dir and config_dir.absolute())
    texts = {"crontab": crontab(installation)} if cron else systemd_units(installation)
    if call.json:
        show_document({"files": texts})
    else:
        show_text(["\n".join(texts.values())])
    for warning in _warnings(installation):
        show_message(Message(f"schedule: {warning}", level="warning"), quiet=call.quiet)


def _warnings(installation: Installation) -> Iterator[str]:
    """Yield what the user should know about the lines."""
    if installation.owner == "root" and installation.servers:
        yield "the jobs would run as root; print this as the user who is to run them"
    elif installation.owner == "root":
        databases = ", ".join(map(str, installation.databases))
        belong = "belongs" if len(installation.databases) == 1 else "belong"
        yield (
            f"{databases} {belong} to root, and the jobs would run as root;"
            " change the owner with chown to the user of the service"
        )
    if not installation.several and any(server.has_password for server in installation.servers):
        yield (
            "the password is left out; put it in ~/.pgpass of the user who runs the jobs, or in a"
            " file that PGPASSFILE names"
        )


def _this_installation(settings: Sequence[Settings], config_dir: Path | None) -> Installation:
    """Return this program with its databases and their configurations."""
    databases = [
        one.database.absolute() if isinstance(one.database, Path) else one.database
        for one in settings
    ]
    uid, owner = _owner(databases)
    if config_dir:
        for path in (config_dir, *(one.file for one in settings if one.file)):
            require_private(path, users=[uid])
    program = _program()
    file = settings[0].file
    return Installation(
        program=program,
        databases=databases,
        configuration=config_dir or (file and file.absolute()),
        several=config_dir is not None,
        owner=owner,
        reads=[Path(place) for place in (program[0], sys.prefix, sys.base_prefix, memctl.__file__)],
        network=any(one.heartbeat_url for one in settings),
        writes=[
            one.report.directory.absolute()
            for one in settings
            if one.report.directory and one.report.every != "never"
        ],
    )


def _owner(databases: Sequence[Address]) -> tuple[int, str]:
    """Return the number and the name of the user who owns the files, or else of this user.

    Raises UsageError if there are several, or if only some of the databases are files.
    """
    import pwd

    files = [database for database in databases if isinstance(database, Path)]
    if files and len(files) < len(databases):
        raise UsageError(
            "some of the databases are files, and some are on servers",
            "use a directory of configuration files for each kind",
        )
    names: dict[int, str] = {}
    for uid in [file.stat().st_uid for file in files] or [os.geteuid()]:
        try:
            names[uid] = pwd.getpwuid(uid).pw_name
        except KeyError:
            names[uid] = str(uid)
    if len(names) > 1:
        raise UsageError(
            f"the databases belong to different users: {', '.join(sorted(names.values()))}",
            "schedule those of each user separately, with a directory for their configurations",
        )
    return next(iter(names.items()))


def _program() -> list[str]:
    """Return the command that starts this memctl: its environment's executable, not a shim."""
    beside_python = Path(sys.executable).with_name("memctl")
    if os.access(beside_python, os.X_OK):
        return [str(beside_python)]
    return [sys.executable, "-P", "-m", "memctl"]  # -P: do not import from the current directory
