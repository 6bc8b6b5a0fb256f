"""The crontab lines and the systemd units: the due jobs four times an hour, a backup and a check.

Databases on a server are not backed up by memctl, and their lines contain no password.

All specify the program, the database and the configuration by absolute paths, because a scheduler
sets a minimal PATH and perhaps no home directory. The minutes avoid the full hour, when many other
jobs run; the backup and the check are daily, and do not start when a run does.
"""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from memctl.errors import UsageError
from memctl.storage.addresses import Address, ServerAddress


class ScheduledCommand(NamedTuple):
    """A command with its options, and when cron and systemd start it."""

    unit: str  # the name of its service and timer
    words: tuple[str, ...]
    cron: str
    calendar: str
    service: str  # the description of its service
    timer: str


# Waits until a run has ended, which takes at most a little longer than its --max-seconds.
LOCK_WAIT = ("--lock-wait", "600")

RUN = ScheduledCommand(
    "memctl",
    ("run", "--max-seconds", "600", *LOCK_WAIT),
    cron="7,22,37,52 * * * *",
    calendar="*:7/15",
    service="Run the memctl jobs that are due",
    timer="Run memctl jobs four times an hour",
)

BACKUP = ScheduledCommand(
    "memctl-backup",
    ("backup", "--keep-daily", "7", "--keep-weekly", "4", *LOCK_WAIT),
    cron="30 4 * * *",
    calendar="4:30",
    service="Back up the memctl database",
    timer="Back up the memctl database daily",
)

COMMANDS = (
    RUN,
    BACKUP,
    # Without --quick, which would delay the service's checkpoints; the backup is checked instead.
    ScheduledCommand(
        "memctl-check",
        ("check", "--quiet"),
        cron="45 5 * * *",
        calendar="5:45",
        service="Check the memctl database and jobs for problems",
        timer="Check the memctl database and jobs daily",
    ),
)

CRONTAB = """\
# Run all memctl jobs that are due, and daily a backup and a check. Add these lines with
# `crontab -e` as the user who owns the database. Successes print nothing, so that cron mails only
# failures and findings; the next run catches up on a missed one.
"""

CRONTAB_FOR_SERVERS = """\
# Run all memctl jobs that are due, and daily a check. Add these lines with `crontab -e`; several
# machines may have them. Successes print nothing, so that cron mails only failures and findings;
# the next run catches up on a missed one.
"""

SERVICE = """\
# {unit}.service
[Unit]
Description={description}
Documentation=man:memctl(1)
OnFailure=memctl-failure@%N.service

[Service]
Type=oneshot
User={owner}
ExecStart={command}
TimeoutStartSec=1h

# Yields to the service. Not the idle class: a job could wait for the disk while it holds a lock.
Nice=5
IOSchedulingClass=best-effort
IOSchedulingPriority=7

# Only these directories and /var/lib/memctl are writable.
ReadWritePaths={directories}
StateDirectory=memctl
StateDirectoryMode=0700
ProtectHome={protect_home}
PrivateTmp={private_tmp}
UMask=0077

{sandbox}"""

FAILURE_UNIT = "memctl-failure@.service"

FAILURE = """\
# memctl-failure@.service
[Unit]
Description=Report that %i failed
Documentation=man:memctl(1)

[Service]
Type=oneshot
DynamicUser=yes
# Writes to the system log. To be notified in another way, replace this command in a drop-in.
ExecStart=/usr/bin/logger --priority user.crit --tag memctl "%i failed; see `journalctl --unit=%i`"
ProtectHome=yes
PrivateTmp=yes
UMask=0077

{sandbox}"""

SANDBOX = """\
# {needs}
CapabilityBoundingSet=
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateNetwork={private_network}
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies={families}
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""

TIMER = """\
# {unit}.timer
[Unit]
Description={description}
Documentation=man:memctl(1)

[Timer]
OnCalendar={calendar}
Persistent=yes

[Install]
WantedBy=timers.target
"""


class Installation(NamedTuple):
    """What to schedule; all paths are absolute.

    `databases` are files, or all are on servers. `program` is the command that starts memctl,
    `owner` the user who owns the files, and `reads` the places of the program and its Python.
    `configuration` is a file, or a directory of files that name the databases. Runs use the network
    if `network` is set, and write to the directories `writes` besides those of the databases.
    """

    program: Sequence[str]
    databases: Sequence[Address]
    configuration: Path | None
    owner: str
    reads: Sequence[Path] = ()
    network: bool = False
    writes: Sequence[Path] = ()
    several: bool = False  # the configuration is a directory

    @property
    def files(self) -> list[Path]:
        """The databases that are files."""
        return [database for database in self.databases if isinstance(database, Path)]

    @property
    def servers(self) -> list[ServerAddress]:
        """The databases that are on servers."""
        return [one for one in self.databases if isinstance(one, ServerAddress)]

    @property
    def commands(self) -> Sequence[ScheduledCommand]:
        """What is scheduled."""
        return [one for one in COMMANDS if one is not BACKUP or not self.servers]

    def command(self, scheduled: ScheduledCommand, *options: str) -> list[str]:
        """Return the words of a scheduled command."""
        name, *own = scheduled.words
        if self.several:
            where = ["--config-dir", str(self.configuration)]
        else:
            where = ["--db", str(self.databases[0])]
            if self.configuration:
                where += ["--config", str(self.configuration)]
        return [*self.program, name, *where, *own, *options]


def crontab(installation: Installation) -> str:
    """Return the crontab lines with a comment.

    Raises UsageError for a path that a crontab line cannot contain.
    """
    return (CRONTAB_FOR_SERVERS if installation.servers else CRONTAB) + "".join(
        f"{scheduled.cron}  {_cron_command(installation.command(scheduled))}\n"
        for scheduled in installation.commands
    )


def _cron_command(words: list[str]) -> str:
    command = shlex.join(_printable(words))
    if "\\" in command:
        raise UsageError(
            f"a crontab line cannot contain the backslash in {command}",
            "use --systemd, or a path without a backslash",
        )
    return command.replace("%", "\\%")


def systemd_units(installation: Installation) -> dict[str, str]:
    """Return the units by their file names.

    Raises UsageError for a path that a unit cannot contain.
    """
    units = {}
    for scheduled in installation.commands:
        units[f"{scheduled.unit}.service"] = _service(installation, scheduled)
        units[f"{scheduled.unit}.timer"] = TIMER.format(
            unit=scheduled.unit, description=scheduled.timer, calendar=scheduled.calendar
        )
    units[FAILURE_UNIT] = FAILURE.format(sandbox=_sandbox(network=False))
    return units


def _service(installation: Installation, scheduled: ScheduledCommand) -> str:
    program, *options = _printable(installation.command(scheduled, "--log-format", "journal"))
    if set(program) & set("'\"\\"):
        raise UsageError(
            f"systemd cannot start a program whose path contains a quote or a backslash: {program}",
            "install memctl elsewhere",
        )
    writes = installation.writes if scheduled is RUN else ()
    servers = installation.servers
    sockets = [directory for server in servers for directory in server.socket_directories]
    paths = [*installation.files, *installation.reads, *writes, *sockets]
    if installation.configuration:
        paths.append(installation.configuration)
    # libpq reads the password from ~/.pgpass.
    reads_home = bool(servers) or _any_below(paths, "/home", "/root", "/run/user")
    return SERVICE.format(
        unit=scheduled.unit,
        description=scheduled.service,
        owner=installation.owner,
        command=" ".join(map(_quoted, [program, *(word.replace("$", "$$") for word in options)])),
        directories=" ".join(map(_quoted, _writable(installation.files, writes))),
        protect_home="read-only" if reads_home else "yes",
        private_tmp="no" if _any_below(paths, "/tmp", "/var/tmp") else "yes",  # noqa: S108
        sandbox=_sandbox(network=bool(servers) or (installation.network and scheduled is RUN)),
    )


def _writable(files: Sequence[Path], writes: Sequence[Path]) -> Iterator[str]:
    """Yield the values of ReadWritePaths: each directory once."""
    yield from dict.fromkeys(str(file.resolve().parent) for file in files)
    # The minus sign: a directory that does not exist yet must not prevent the jobs.
    yield from dict.fromkeys(_printable([f"-{directory.resolve()}" for directory in writes]))


def _sandbox(*, network: bool) -> str:
    return SANDBOX.format(
        needs=f"No {'' if network else 'network, '}devices or privileges are needed.",
        private_network="no" if network else "yes",
        families="AF_UNIX AF_INET AF_INET6" if network else "AF_UNIX",
    )


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
