"""Shells in which `memctl` is a fork instead of a start of the program."""

import atexit
import os
import pty
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.fork_client import DESCRIPTOR
from tests.support.program import PROGRAM, Memctl, fork_server


@cache
def folder_of_client() -> Path:
    """Return a folder with a `memctl` that asks the fork server."""
    folder = Path(tempfile.mkdtemp(prefix="memctl-"))
    atexit.register(shutil.rmtree, folder)
    client = Path(__file__).with_name("fork_client.py")
    words = shlex.join([sys.executable, "-I", "-S", str(client), str(PROGRAM)])
    (folder / "memctl").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (folder / "memctl").chmod(0o700)
    return folder


def run_with_forks(
    words: Sequence[str], *, environment: Mapping[str, str], **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run a shell as subprocess.run does; what it calls `memctl` is forked by the fork server."""
    descriptor = fork_server().descriptor
    return subprocess.run(
        words,
        env={
            **environment,
            "PATH": f"{folder_of_client()}:{environment['PATH']}",
            DESCRIPTOR: str(descriptor),
        },
        pass_fds=(descriptor,),
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        **options,
    )


BARE_SHELLS = {"bash": ["bash", "--norc"], "zsh": ["zsh", "-f"], "fish": ["fish", "-N"]}


def shell_environment(memctl: Memctl) -> dict[str, str]:
    """Return the environment of a shell in the directory of the database."""
    return {
        **memctl.environment(),
        "PATH": f"{PROGRAM.parent}:/usr/bin:/bin",
        "HOME": str(memctl.database.parent),
        "MEMCTL_DB": memctl.url or memctl.database.name,
    }


def in_a_shell(memctl: Memctl, script: str, *, shell_name: str = "bash") -> str:
    """Run a script with memctl on the path; return what it printed."""
    ran = run_with_forks(
        [*BARE_SHELLS[shell_name], "-c", script],
        environment=shell_environment(memctl),
        cwd=memctl.database.parent,
        capture_output=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# Shells that read no configuration and print this prompt when they have prepared the terminal.
PROMPT = "ready>"
INTERACTIVE = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "-N", "-i", "-C", f"function fish_prompt; echo -n '{PROMPT}'; end"],
}


def typed_words(
    memctl: Memctl, shell_name: str, setup: Sequence[str], lines: Sequence[str]
) -> list[list[str]]:
    """Type lines into an interactive shell, and return the words that each passed to memctl.

    A tab in a line completes. `setup` are lines before them. In the lines, memctl does not work.
    """
    environment = shell_environment(memctl)
    descriptor = fork_server().descriptor
    with tempfile.TemporaryDirectory() as place:
        written = Path(place) / "words"
        written.touch()
        (Path(place) / "memctl").write_text(
            "#!/bin/sh\n"
            'if [ -n "$_MEMCTL_COMPLETE" ] || [ "$1" = completion ]; then\n'
            f'    exec {folder_of_client()}/memctl "$@"\n'
            "fi\n"
            f"printf '%s\\0' \"$@\" '\n' >> {written}\n"
        )
        (Path(place) / "memctl").chmod(0o700)
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [
                "setsid",
                "--ctty",
                "--wait",
                *INTERACTIVE[shell_name],
            ],  # fish needs a terminal to control
            env={
                **environment,
                "PATH": f"{place}:{environment['PATH']}",
                "PS1": PROMPT,
                "TERM": "dumb",
                DESCRIPTOR: str(descriptor),
            },
            cwd=memctl.database.parent,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            pass_fds=(descriptor,),
        ):
            os.close(theirs)
            for line in [*setup, *lines, "exit"]:
                _read_until_prompt(ours)
                os.write(ours, line.encode() + b"\n")
            with suppress(OSError):  # Linux reports in this way that the other end is closed
                while os.read(ours, 65536):
                    pass
        os.close(ours)
        *answers, _ = written.read_text(encoding="utf-8").split("\0\n\0")
    return [answer.split("\0") for answer in answers]


def _read_until_prompt(terminal: int) -> None:
    printed = b""
    while PROMPT.encode() not in printed:
        printed += os.read(terminal, 65536)
