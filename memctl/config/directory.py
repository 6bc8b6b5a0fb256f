"""A directory of configuration files, such as /etc/memctl/conf.d: one for each database.

Only its regular files whose names end in .toml count, in the order of their names; hidden files,
links and the copies that editors and package managers leave are ignored. The files name programs
to run, so only root and the user who runs memctl may be able to change them.
"""

import os
import stat
from collections.abc import Collection
from pathlib import Path

from memctl.errors import MemctlError, UsageError
from memctl.storage.sqlite.database import reachable

# Each names one database or configuration; they do not apply to a directory.
VARIABLES = ("MEMCTL_DB", "HARNESS_DB_PATH", "MEMCTL_CONFIG")


def configuration_files(directory: Path) -> list[Path]:
    """Return the configuration files in a directory.

    Raises UsageError if it cannot be read or has none.
    """
    with reachable(directory):
        if not directory.is_dir():
            raise UsageError(f"there is no directory {directory}", "check --config-dir")
        try:
            with os.scandir(directory) as entries:
                names = sorted(entry.name for entry in entries if _is_configuration(entry))
        except OSError as error:
            raise UsageError(
                f"{directory} cannot be read ({error.strerror})", "check its permissions"
            ) from None
    if not names:
        raise UsageError(
            f"{directory} has no configuration file",
            "create one whose name ends in .toml; hidden files and links are ignored",
        )
    return [directory / name for name in names]


def _is_configuration(entry: "os.DirEntry[str]") -> bool:
    hidden = entry.name.startswith(".")
    return entry.name.endswith(".toml") and not hidden and entry.is_file(follow_symlinks=False)


def require_private(path: Path, *, users: Collection[int]) -> None:
    """Raise UsageError if users other than root and these can change a file or directory."""
    try:
        status = path.stat()
    except OSError as error:
        raise MemctlError(
            f"{path} cannot be read ({error.strerror})", "check its permissions"
        ) from None
    if status.st_uid not in {0, *users}:
        raise UsageError(
            f"{path} belongs to another user, who could make memctl run any program",
            "change its owner with chown, to root or to the user who runs memctl",
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsageError(
            f"other users can write to {path}, and could make memctl run any program",
            f"run `chmod go-w {path}`",
        )
