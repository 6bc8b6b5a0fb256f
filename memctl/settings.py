"""Where the database is and which policies hold: options, environment, configuration file, defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memctl.decay import DecayPolicy
from memctl.errors import MemctlError, UsageError
from memctl.prune import PrunePolicy

SYSTEM_CONFIGURATION = Path("/etc/memctl/config.toml")


@dataclass(frozen=True)
class Settings:
    """Everything a command needs to know before it opens the database."""

    database: Path
    database_is_default: bool
    decay: DecayPolicy
    prune: PrunePolicy


def load_settings(
    *, database: Path | None, configuration: Path | None, environ: Mapping[str, str]
) -> Settings:
    """Put the settings together; `database` and `configuration` are what the options say.

    Raises UsageError when the configuration file is missing, unreadable or wrong.
    """
    file = find_configuration(configuration, environ)
    if file is None:
        configured, decay, prune = None, DecayPolicy(), PrunePolicy()
    else:
        # pydantic costs a start more than everything else together: only who configures pays.
        from memctl.configuration import read_configuration

        configured, decay, prune = read_configuration(file)
    named = database or _path(environ, "MEMCTL_DB") or _path(environ, "HARNESS_DB_PATH")
    path = named or configured
    return Settings(
        database=path or default_database(environ),
        database_is_default=path is None,
        decay=decay,
        prune=prune,
    )


def find_configuration(named: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file in force, or None when there is none.

    Raises UsageError when one is named and does not exist.
    """
    named = named or _path(environ, "MEMCTL_CONFIG")
    if named is not None:
        if not named.is_file():
            raise UsageError(f"there is no configuration file {named}", "check --config")
        return named
    candidates = [SYSTEM_CONFIGURATION]
    if home := _directory(environ, "XDG_CONFIG_HOME", ".config"):
        candidates.insert(0, home / "memctl" / "config.toml")
    return next((path for path in candidates if path.is_file()), None)


def default_database(environ: Mapping[str, str]) -> Path:
    """Return where the database is when nothing names one.

    Raises MemctlError when the environment does not even tell the home directory.
    """
    if states := environ.get("STATE_DIRECTORY"):  # set by systemd; may list several
        return Path(states.split(":")[0]) / "memory.db"
    data = _directory(environ, "XDG_DATA_HOME", ".local/share")
    if data is None:
        raise MemctlError(
            "nothing names a database, and there is no home directory", "name one with --db"
        )
    return data / "memctl" / "memory.db"


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    return Path(environ[name]) if environ.get(name) else None


def _directory(environ: Mapping[str, str], name: str, below_home: str) -> Path | None:
    """Return an XDG directory: absolute when set, else its place in the home directory."""
    if os.path.isabs(environ.get(name, "")):  # noqa: PTH117  the specification ignores relative ones
        return Path(environ[name])
    home = environ.get("HOME")
    return Path(home) / below_home if home else None
