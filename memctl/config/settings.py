"""The settings: the database and the policies, from options, environment, file and defaults."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from memctl.config.jobs import JOBS, Every
from memctl.config.policies import (
    AlertPolicy,
    ArchivePolicy,
    CheckPolicy,
    DecayPolicy,
    Hooks,
    PromotePolicy,
    PrunePolicy,
    QuotaPolicy,
    ReportPolicy,
)
from memctl.errors import MemctlError, UsageError
from memctl.storage.addresses import Address, parse_address
from memctl.storage.spool import spool_path
from memctl.storage.sqlite.database import reachable

if TYPE_CHECKING:  # it imports pydantic, which doubles the time of a start
    from memctl.config.file import Configuration

SYSTEM_CONFIGURATION = Path("/etc/memctl/config.toml")
EVERY = {name: job.every for name, job in JOBS.items()}  # how often each job is due by default


class Settings(NamedTuple):
    """The database and its source, the configuration file if there is one, and what is in force."""

    database: Address
    database_source: str  # such as `option --db`, or `default`
    file: Path | None = None
    configuration: "Configuration | None" = None
    state: Path | None = None  # the directory for what cannot be kept in the database
    decay: DecayPolicy = DecayPolicy()
    prune: PrunePolicy = PrunePolicy()
    archive: ArchivePolicy = ArchivePolicy()
    quota: QuotaPolicy = QuotaPolicy()
    promote: PromotePolicy = PromotePolicy()
    alerts: AlertPolicy = AlertPolicy()
    check: CheckPolicy = CheckPolicy()
    every: Mapping[str, Every] = EVERY
    alert_command: Sequence[str] = ()  # the program that receives alerts, and its arguments
    hooks: Hooks = Hooks()
    heartbeat_url: str | None = None  # requested after each `memctl run`; may contain a secret
    report: ReportPolicy = ReportPolicy()
    service_events: bool = False  # record each run in the service's `observability_events`

    @property
    def database_is_default(self) -> bool:
        """Whether the database is the default one."""
        return self.database_source == "default"

    @property
    def spool(self) -> Path | None:
        """The file for failures that the database cannot record; None if no directory is known."""
        if self.state is None or not isinstance(self.database, Path):
            return None
        return spool_path(self.state, self.database)


def load_settings(
    *, database: Address | None, configuration: Path | None, environ: Mapping[str, str]
) -> Settings:
    """Return the settings; `database` and `configuration` are the values of the options.

    Raises UsageError when the configuration file is missing, unreadable or wrong.
    """
    file = find_configuration(configuration, environ)
    configured = None
    if file is not None:
        # pydantic doubles the start-up time, so it is imported only for a configuration file.
        from memctl.config.file import read_configuration

        configured = read_configuration(file)
    source, path = _database(database, environ, file, configured)
    settings = Settings(path, source, file, configured, state_directory(environ))
    if file is None or configured is None:
        return settings
    return settings._replace(
        decay=configured.decay_policy(),
        prune=configured.prune_policy(),
        archive=configured.archive_policy(),
        quota=configured.quota_policy(),
        promote=configured.promote.policy(),
        alerts=configured.alerts.policy(),
        check=configured.check.policy(),
        every=configured.every,
        alert_command=configured.alerts.command,
        hooks=configured.hooks.hooks(),
        heartbeat_url=configured.heartbeat.url,
        report=configured.report.policy(beside=file),
        service_events=configured.observability.events,
    )


def _database(
    option: Address | None,
    environ: Mapping[str, str],
    file: Path | None,
    configured: "Configuration | None",
) -> tuple[str, Address]:
    """Return the source of the database's address, and the address."""
    if option:
        return "option --db", option
    for name in ("MEMCTL_DB", "HARNESS_DB_PATH"):
        if environ.get(name):
            return f"environment {name}", parse_address(environ[name])
    if file and configured and configured.database:
        address = parse_address(configured.database)
        if not isinstance(address, Path):
            return f"file {file}", address
        with reachable(address):
            return f"file {file}", file.parent / address.expanduser()
    return "default", default_database(environ)


def find_configuration(named: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file in force, or None.

    Raises UsageError if the specified file does not exist.
    """
    named = named or _path(environ, "MEMCTL_CONFIG")
    if named is not None:
        with reachable(named):
            exists = named.is_file()
        if not exists:
            raise UsageError(f"there is no configuration file {named}", "check --config")
        return named
    for path in (users_configuration(environ), SYSTEM_CONFIGURATION):
        if path is None:
            continue
        try:
            with reachable(path):
                if path.is_file():
                    return path
        except MemctlError as error:
            raise MemctlError(
                error.message,
                "set HOME to this user's home directory, or specify a file with --config",
            ) from None
    return None


def new_configuration(named: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the path at which a configuration file would be found, whether it exists or not.

    Raises MemctlError if the home directory is unknown.
    """
    path = named or _path(environ, "MEMCTL_CONFIG") or users_configuration(environ)
    if path is None:
        raise MemctlError(
            "no configuration file is specified, and there is no home directory",
            "specify one with --config",
        )
    return path


def users_configuration(environ: Mapping[str, str]) -> Path | None:
    """Return the path of the user's configuration file; None if there is no home directory."""
    home = _directory(environ, "XDG_CONFIG_HOME", ".config")
    return home / "memctl" / "config.toml" if home else None


def default_database(environ: Mapping[str, str]) -> Path:
    """Return the path of the default database.

    Raises MemctlError if the home directory is unknown.
    """
    if states := environ.get("STATE_DIRECTORY"):  # set by systemd; may list several
        return Path(states.split(":")[0]) / "memory.db"
    data = _directory(environ, "XDG_DATA_HOME", ".local/share")
    if data is None:
        raise MemctlError(
            "no database is specified, and there is no home directory", "specify one with --db"
        )
    return data / "memctl" / "memory.db"


def state_directory(environ: Mapping[str, str]) -> Path | None:
    """Return the directory for failures that the database cannot record; None if unknown."""
    state = Path(environ.get("STATE_DIRECTORY", "").split(":")[0])  # by systemd; may list several
    if state.is_absolute():
        return state
    home = _directory(environ, "XDG_STATE_HOME", ".local/state")
    return home / "memctl" if home else None


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(environ[name]) if environ.get(name) else None


def _directory(environ: Mapping[str, str], name: str, below_home: str) -> Path | None:
    """Return an XDG directory: absolute when set, else its place in the home directory."""
    if os.path.isabs(environ.get(name, "")):  # noqa: PTH117  the specification ignores relative ones
        return Path(environ[name])
    home = environ.get("HOME")
    return Path(home) / below_home if home else None
