"""Shells in which `memctl` is a fork instead of a start of the program."""

import atexit
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.fork_client import DESCRIPTOR
from tests.support.program import PROGRAM, fork_server


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
