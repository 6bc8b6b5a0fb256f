"""The program on a terminal."""

import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping
from contextlib import suppress
from fcntl import ioctl

from tests.support.program import PROGRAM, Memctl

UNSTYLED = {"NO_COLOR": "1"}


def on_a_terminal(
    memctl: Memctl,
    *words: str,
    exit_code: int = 0,
    columns: int = 80,
    variables: Mapping[str, str] = UNSTYLED,
) -> str:
    """Run a command with a terminal of that width for stdout and stderr; return what it printed."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(
        [PROGRAM, *words],
        env={**memctl.environment(), "TERM": "xterm", **variables},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        printed = b""
        with suppress(OSError):  # Linux's way to say that the other end is closed
            while more := os.read(ours, 65536):
                printed += more
    os.close(ours)
    assert process.returncode == exit_code
    return printed.decode()
