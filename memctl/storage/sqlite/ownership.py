"""What root creates belongs to the service: to the owner of the database, or of the directory.

A file is created under a name that nothing has, never through a link, and given away by the
descriptor that created it. A name may mean another file a moment later, when somebody else may
write the directory.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def create_file(path: Path, *, like: Path, mode: int = 0o600) -> int:
    """Create a file and return its descriptor.

    When root runs memctl, the file belongs to the owner of `like`, or of its directory if there is
    no such file. Raises FileExistsError when there is anything at the path, and OSError.
    """
    owner = _owner(like)
    descriptor = os.open(path, OPEN | os.O_CREAT | os.O_EXCL, mode)
    try:
        _give(descriptor, owner)
    except BaseException:
        os.close(descriptor)
        path.unlink()
        raise
    return descriptor


def open_or_create(path: Path, *, like: Path) -> int:
    """Open a file to read and write it, or create it, and return its descriptor.

    A file that is created is like `like` in its owner and in who may write it; one that exists
    stays as it is. Raises OSError, also for a link.
    """
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, OPEN)
        with suppress(FileExistsError):
            return _create_like(path, like)


def owner_can_use_new_files(database: Path) -> bool:
    """Tell whether the owner of a database can write what this process creates like it, beside it.

    What root creates is given to the owner; else it needs a group, or everybody, who may write the
    database.
    """
    file, directory = database.stat(), database.parent.stat()
    group = directory.st_gid if directory.st_mode & stat.S_ISGID else os.getegid()
    return bool(
        os.geteuid() in (0, file.st_uid)
        or file.st_mode & stat.S_IWOTH
        or (file.st_mode & stat.S_IWGRP and file.st_gid == group)
    )


def _create_like(path: Path, like: Path) -> int:
    descriptor = create_file(path, like=like)
    with suppress(FileNotFoundError):
        others = like.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        os.fchmod(descriptor, 0o600 | others | others << 1)  # to write it is to read it, too
    return descriptor


def create_directory(path: Path) -> None:
    """Create a directory, and those above it, unless they exist; each is private.

    When root runs memctl, each belongs to the owner of the one above. Raises OSError.
    """
    if path.is_dir():
        return
    create_directory(path.parent)
    owner = _owner(path)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        made_here = not os.listdir(descriptor)  # noqa: PTH208  Path takes no descriptor
        if made_here:
            _give(descriptor, owner)
    finally:
        os.close(descriptor)


def _owner(path: Path) -> os.stat_result:
    """Return the status of a file, or of its directory if there is no such file."""
    path = path.resolve()
    try:
        return path.stat()
    except FileNotFoundError:
        return path.parent.stat()


def _give(descriptor: int, owner: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
