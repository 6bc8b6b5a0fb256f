"""The crontab line and the systemd units that run the due jobs four times an hour.

Both specify the program, the database and the configuration by absolute paths, because a scheduler
sets a minimal PATH and perhaps no home directory. The minutes avoid the full hour, when many other
jobs run.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memctl.errors import UsageError

CRON_MINUTES = "7,22,37,52"
SYSTEMD_CALENDAR = "*:7/15"

# A run ends before the next but one starts, and waits for other memctl processes.
PATIENCE = ("--max-seconds", "600", "--lock-wait", "600")

CRONTAB = """\
# Run all memctl jobs that are due. Add this line with `crontab -e` as the user who owns the
# database. Successful runs print nothing, so that cron mails only failures; the next run catches
# up on a missed one.
{minutes} * * * *  {command}
"""

SERVICE = """\
# memctl.service
[Unit]
Description=Run the memctl jobs that are due

[Service]
Type=oneshot
User={owner}
ExecStart={command}
TimeoutStartSec=1h

# Only the directory of the database and /var/lib/memctl are writable.
ReadWritePaths={directory}
StateDirectory=memctl
StateDirectoryMode=0700
ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp={private_tmp}
UMask=0077

# No network, devices or privileges are needed.
CapabilityBoundingSet=
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateNetwork=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""

TIMER = f"""\
# memctl.timer
[Unit]
Description=Run memctl jobs four times an hour

[Timer]
OnCalendar={SYSTEMD_CALENDAR}
Persistent=yes

[Install]
WantedBy=timers.target
"""


class Installation(NamedTuple):
    """What to schedule; all paths are absolute.

    `program` is the command that starts memctl, `owner` the user who owns the database, and
    `reads` the places of the program and its Python.
    """

    program: Sequence[str]
    database: Path
    configuration: Path | None
    owner: str
    reads: Sequence[Path] = ()

    def command(self, *options: str) -> list[str]:
        """Return the words of the command that runs the due jobs."""
        words = [*self.program, "run", "--db", str(self.database)]
        if self.configuration:
            words += ["--config", str(self.configuration)]
        return [*words, *PATIENCE, *options]


def crontab(installation: Installation) -> str:
    """Return a crontab line with a comment.

    Raises UsageError for a path that a crontab line cannot contain.
    """
    command = shlex.join(_printable(installation.command()))
    if "\\" in command:
        raise UsageError(
            f"a crontab line cannot contain the backslash in {command}",
            "use --systemd, or a path without a backslash",
        )
    return CRONTAB.format(minutes=CRON_MINUTES, command=command.replace("%", "\\%"))


def systemd_units(installation: Installation) -> dict[str, str]:
    """Return the units by their file names.

    Raises UsageError for a path that a unit cannot contain.
    """
    program, *options = _printable(installation.command("--log-format", "journal"))
    if set(program) & set("'\"\\"):
        raise UsageError(
            f"systemd cannot start a program whose path contains a quote or a backslash: {program}",
            "install memctl elsewhere",
        )
    paths = [installation.database, *installation.reads]
    if installation.configuration:
        paths.append(installation.configuration)
    service = SERVICE.format(
        owner=installation.owner,
        command=" ".join(map(_quoted, [program, *(word.replace("$", "$$") for word in options)])),
        directory=_quoted(str(installation.database.resolve().parent)),
        protect_home="read-only" if _any_below(paths, "/home", "/root", "/run/user") else "yes",
        private_tmp="no" if _any_below(paths, "/tmp", "/var/tmp") else "yes",  # noqa: S108
    )
    return {"memctl.service": service, "memctl.timer": TIMER}


def _printable(words: list[str]) -> list[str]:
    """Raise UsageError for a word with control characters, which would end or change the line."""
    for word in words:
        if not word.isprintable():
            raise UsageError(
                f"'{word}' contains a character that is not allowed in a schedule",
                "use another path",
            )
    return words


def _quoted(word: str) -> str:
    """Quote a word for a systemd unit, where it needs to be."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = escaped == word and not set(word) & set(" '")
    return escaped if plain else f'"{escaped}"'


def _any_below(paths: Sequence[Path], *places: str) -> bool:
    """Return whether one of the paths, or the target of a link, is below one of the places."""
    found = {*paths, *(path.resolve() for path in paths)}
    return any(path.is_relative_to(place) for path in found for place in places)
