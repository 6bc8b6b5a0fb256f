"""Full disks."""

import shutil
from pathlib import Path


def fill_disk(disk: Path, *, room: int) -> Path:
    """Fill a disk except for some bytes; returns the file to delete."""
    filler = disk / "filler"
    filler.write_bytes(b"\0" * (shutil.disk_usage(disk).free - room))
    return filler
