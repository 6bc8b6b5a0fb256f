"""Files that memctl writes for others to read: whole, or not at all."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from memctl.backup import sync_directory
from memctl.errors import MemctlError


def write_file(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Put a text into a file, in place of one that is there; readers see the old or the new one.

    Raises MemctlError when it cannot be written; then there is what was there before.
    """
    draft = None
    try:
        if path.exists() and not path.is_file():
            raise MemctlError(f"{path} is no regular file", "name another one after -o")
        with NamedTemporaryFile(
            mode="w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            draft = Path(file.name)
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        draft.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise MemctlError(
            f"{path} cannot be written ({error.strerror})", "name another file after -o"
        ) from None
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)
