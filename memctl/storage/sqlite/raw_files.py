"""The raw bytes of the files of a database, searched while SQLite has it open.

A process that closes a file loses all its locks on that file, also those of SQLite. So the files
stay open until the end of the block, which must be after that of the connection.
https://www.sqlite.org/howtocorrupt.html#posix_advisory_locks
"""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

from memctl.storage.fragments import Fragment, Fragments

PIECE = 1 << 20
WORD_ALIGNED = 8


class Searched(NamedTuple):
    """What a search of a file has found."""

    file: Path
    size: int
    found: frozenset[Fragment]


class RawFiles:
    """Searches files for what is left of texts."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._descriptors: dict[tuple[int, int], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._open.close()

    def search(self, file: Path, texts: Fragments) -> Searched | None:
        """Search a file; None if it does not exist. Raises OSError if it cannot be read."""
        try:
            descriptor = self._descriptor(file)
        except FileNotFoundError:
            return None
        found: set[Fragment] = set()
        overlap = -(-texts.overlap // WORD_ALIGNED) * WORD_ALIGNED
        size = 0
        while piece := os.pread(descriptor, PIECE + overlap, size):
            found |= texts.of(piece)
            size += min(len(piece), PIECE)
        return Searched(file, size, frozenset(found))

    def _descriptor(self, file: Path) -> int:
        """Return the descriptor of a file, which was perhaps opened before."""
        status = file.stat()
        identity = status.st_dev, status.st_ino
        if identity not in self._descriptors:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            self._open.callback(os.close, descriptor)
            self._descriptors[identity] = descriptor
        return self._descriptors[identity]


def files_of(database: Path) -> list[Path]:
    """Return the files that SQLite and memctl may have beside a database, and itself."""
    real = database.resolve()
    return [real.with_name(real.name + end) for end in FILE_ENDS]


FILE_ENDS = ("", "-wal", "-shm", "-journal", ".memctl.lock")
