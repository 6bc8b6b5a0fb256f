"""Full disks."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk_at(place: Path, *, megabytes: int) -> Iterator[None]:
    """Mount a small file system on a new directory. Skips the test if that is not permitted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "memctl-test", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here; root can")
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def fill_disk(disk: Path, *, room: int) -> Path:
    """Fill a disk except for some bytes; returns the file to delete."""
    filler = disk / "filler"
    filler.write_bytes(b"\0" * (shutil.disk_usage(disk).free - room))
    return filler
