"""The program on a terminal."""

import os
import pty
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path

from tests.support.program import PROGRAM, Memctl, fork_server

UNSTYLED = {"NO_COLOR": "1"}


def on_a_terminal(
    memctl: Memctl,
    *words: str,
    exit_code: int = 0,
    columns: int = 80,
    variables: Mapping[str, str] = UNSTYLED,
    messages: bool = True,
    typed: str | None = None,
) -> str:
    """Run a command with a terminal of that width; return what it printed.

    The terminal is stdout and stderr, or only stdout without `messages`; and stdin, if something is
    `typed`.
    """
    ours, theirs = pty.openpty()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = fork_server().start(
        [str(PROGRAM), *words],
        environment={**memctl.environment(), "TERM": "xterm", **variables},
        directory=Path.cwd(),
        streams={
            1: theirs,
            2: theirs if messages else nowhere,
            **({} if typed is None else {0: theirs}),
        },
    )
    os.close(theirs)
    os.close(nowhere)
    if typed is not None:
        os.write(ours, typed.encode())
    printed = b""
    with suppress(OSError):  # Linux reports in this way that the other end is closed
        while more := os.read(ours, 65536):
            printed += more
    os.close(ours)
    assert process.end().returncode == exit_code
    return printed.decode()
