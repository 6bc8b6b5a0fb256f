"""Files that root creates belong to the owner of the database, or of the directory.

A file is created exclusively, never through a link, and its owner is changed through the descriptor
that created it: if other users can write to the directory, the name may refer to another file a
moment later.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def create_file(path: Path, *, like: Path, mode: int = 0o600) -> int:
    """Create a file and return its descriptor.

    If root runs memctl, the file belongs to the owner of `like`, or of its directory if `like` does
    not exist. Raises FileExistsError if the path exists, and OSError.
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
    """Open a file for reading and writing, or create it, and return its descriptor.

    A new file has the owner and the write permissions of `like`; an existing file is not changed.
    Raises OSError, also for a link.
    """
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, OPEN)
        with suppress(FileExistsError):
            return _create_like(path, like)


def owner_can_use_new_files(database: Path) -> bool:
    """Return whether the owner of a database can write the files that this process creates.

    Files that root creates are given to the owner; those of other users need write permission for
    a common group or for everybody.
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
        os.fchmod(
            descriptor, 0o600 | others | others << 1
        )  # write permission includes read permission
    return descriptor


def create_directory(path: Path) -> None:
    """Create a directory and its parents unless they exist, accessible only to their owner.

    If root runs memctl, each belongs to the owner of its parent. Raises OSError.
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
    """Return the status of a file, or of its directory if the file does not exist."""
    path = path.resolve()
    try:
        return path.stat()
    except FileNotFoundError:
        return path.parent.stat()


def _give(descriptor: int, owner: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
