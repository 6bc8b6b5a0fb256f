"""Command lines that a message suggests, to be pasted into a shell unchanged."""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path


def shell_line(*words: str | Path) -> str:
    """Return a command line; words are quoted where necessary."""
    return " ".join(_quoted(str(word)) for word in words)


def this_program() -> Sequence[str]:
    """Return the words that start this memctl: its name if a shell finds it by that."""
    executable = Path(sys.executable).with_name("memctl")
    if not os.access(executable, os.X_OK):
        return [sys.executable, "-P", "-m", "memctl"]  # -P: do not import from this directory
    found = shutil.which("memctl")
    return ["memctl" if found and Path(found).samefile(executable) else str(executable)]


def _quoted(word: str) -> str:
    """Quote a word; bash, zsh and ksh know the form for control characters and invalid UTF-8."""
    if word.isprintable():
        return shlex.quote(word)
    content = "".join(
        chr(byte) if 32 < byte < 127 and byte not in b"'\\" else f"\\{byte:03o}"
        for byte in os.fsencode(word)
    )
    return f"$'{content}'"
