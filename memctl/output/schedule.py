"""The text of a crontab line and of systemd units that run what is due, four times an hour.

Both name this installation, its database and its configuration by absolute paths, because a
scheduler has no PATH worth the name and no home directory. The minutes keep clear of the full
hour, when everybody else's jobs run.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memctl.errors import UsageError

CRON_MINUTES = "7,22,37,52"
SYSTEMD_CALENDAR = "*:7/15"

# A run is over before the next but one begins, and waits for whatever else memctl does.
PATIENCE = ("--max-seconds", "600", "--lock-wait", "600")

CRONTAB = """\
# memctl beside a running service: put this line into `crontab -e` of the user who owns the
# database. It runs every job that is due. What succeeds prints nothing, so cron mails only
# failures; a run that was missed is made up for by the next.
{minutes} * * * *  {command}
"""

SERVICE = """\
# memctl.service
[Unit]
Description=Look after the memories of the agents

[Service]
Type=oneshot
User={owner}
ExecStart={command}
TimeoutStartSec=1h

# It writes beside the database, into /var/lib/memctl, and nowhere else.
ReadWritePaths={directory}
StateDirectory=memctl
StateDirectoryMode=0700
ProtectSystem=strict
ProtectHome={protect_home}
PrivateTmp={private_tmp}
UMask=0077

# It needs no network, no devices, and no privileges.
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
Description=Look after the memories of the agents, four times an hour

[Timer]
OnCalendar={SYSTEMD_CALENDAR}
Persistent=yes

[Install]
WantedBy=timers.target
"""


class Installation(NamedTuple):
    """What is to be scheduled, all paths absolute.

    `program` is how this memctl is called, `owner` the user whose database it is, and `reads`
    where the program and its Python are.
    """

    program: Sequence[str]
    database: Path
    configuration: Path | None
    owner: str
    reads: Sequence[Path] = ()

    def command(self, *options: str) -> list[str]:
        """Return the words that run what is due."""
        words = [*self.program, "run", "--db", str(self.database)]
        if self.configuration:
            words += ["--config", str(self.configuration)]
        return [*words, *PATIENCE, *options]


def crontab(installation: Installation) -> str:
    """Return a line for crontab, and what it is for.

    Raises UsageError for a path that no line in crontab can carry.
    """
    command = shlex.join(_printable(installation.command()))
    if "\\" in command:
        raise UsageError(
            f"no crontab can carry the backslash in {command}",
            "different crons read it differently: schedule with --systemd, or by another path",
        )
    return CRONTAB.format(minutes=CRON_MINUTES, command=command.replace("%", "\\%"))


def systemd_units(installation: Installation) -> dict[str, str]:
    """Return the units by the names of their files.

    Raises UsageError for a path that no unit can carry.
    """
    program, *options = _printable(installation.command("--log-format", "journal"))
    if set(program) & set("'\"\\"):
        raise UsageError(
            f"systemd starts no program whose path has a quote or a backslash: {program}",
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
    """Refuse what would end a line, or stand there as something else than it is."""
    for word in words:
        if not word.isprintable():
            raise UsageError(
                f"'{word}' has a character that no schedule can carry", "schedule by another path"
            )
    return words


def _quoted(word: str) -> str:
    """Quote a word for a systemd unit, where it needs to be."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = escaped == word and not set(word) & set(" '")
    return escaped if plain else f'"{escaped}"'


def _any_below(paths: Sequence[Path], *places: str) -> bool:
    """Tell whether one of these paths, or what it links to, lies in one of these places."""
    found = {*paths, *(path.resolve() for path in paths)}
    return any(path.is_relative_to(place) for path in found for place in places)
