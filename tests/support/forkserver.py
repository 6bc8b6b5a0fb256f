"""Runs the installed program in forks of one interpreter that has imported it already.

A start of the program takes 100 to 200 ms of CPU, nearly all of it imports; a fork about 10 ms.
Each command still has a process, an environment, a directory and streams of its own. The server
has one thread and never opens a database, because SQLite keeps its locks by process.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import re
import resource
import selectors
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

# Modules that the program imports only when a command needs them; its own modules are found.
LAZY_MODULES = ("_strptime", "hashlib", "rich.cells", "rich.console", "rich.table", "sqlite_utils")
READ_AT_ONCE = 1 << 16
NO_STREAMS: Mapping[int, int] = {}
NO_LIMITS: Mapping[str, int] = {}
# What differs between steps of one kind: values, and names with a time or a random part.
VALUES = re.compile(r"\S*/\S*|x?'[^']*'|\w*\d\S*|NULL|[?,\s]+", re.IGNORECASE)
KIND_LENGTH = 50  # what follows it in a statement does not determine the kind
READING = re.compile(r"(-- )?(SELECT|PRAGMA)\b", re.IGNORECASE)


class ForkServer:
    """The client side of the server."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        """Start the server under a program that restricts it and its forks."""
        self._requests, requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with requests:
            self._server = subprocess.Popen(
                [*prefix, sys.executable, "-P", __file__, str(requests.fileno())],
                env={"PATH": "/usr/bin:/bin"},
                cwd="/",
                pass_fds=(requests.fileno(),),
            )

    @property
    def descriptor(self) -> int:
        """The socket that takes requests; `fork_client.py` uses it."""
        return self._requests.fileno()

    def close(self) -> None:
        """End the server."""
        self._requests.close()
        self._server.wait()

    def run(
        self,
        words: Sequence[str | bytes],
        *,
        environment: Mapping[str, str],
        directory: Path,
        given: bytes = b"",
        streams: Mapping[int, int] = NO_STREAMS,
        closed: Sequence[int] = (),
        limits: Mapping[str, int] = NO_LIMITS,
        timeout: float = 60,
        steps: Path | None = None,
        kill_before: tuple[int, str | None] = (0, None),
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run the program to its end, as subprocess.run does; the first word is its own name.

        What it prints on 1 and 2 is returned, except where `streams` has a descriptor to print to;
        `closed` are those of 0, 1 and 2 that are closed when it starts. `limits` are those of
        `prlimit`, by their names, such as "fsize".

        The kinds of its steps are written to a file, a line each, when one is given; see
        `_count_steps`. `kill_before` is the number, from 1, of the step before which the program
        is killed, among all steps or among those of one kind; 0 lets it end by itself.
        """
        request: dict[str, Any] = {"closed": closed, "limits": dict(limits)}
        if steps is not None:
            request |= {"steps": str(steps), "kill_before": kill_before}
        return self._start(words, environment, directory, streams, request).end(given, timeout)

    def start(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        streams: Mapping[int, int] = NO_STREAMS,
    ) -> "Process":
        """Start the program, and leave it running."""
        return self._start(words, environment, directory, streams, {})

    def start_and_stop(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: Path,
        transaction: int,
    ) -> "Process":
        """Start the program; it stops before its write transaction of that number, from 1."""
        request = {"stop_before": transaction}
        process = self._start(words, environment, directory, NO_STREAMS, request)
        process.wait_until_stopped()
        return process

    def _start(
        self,
        words: Sequence[str | bytes],
        environment: Mapping[str, str],
        directory: Path,
        streams: Mapping[int, int],
        request: dict[str, Any],
    ) -> "Process":
        pipes = [os.pipe() for _ in range(3)]
        (stdin, to_program), (from_program, stdout), (complaints, stderr) = pipes
        ours, theirs = socket.socketpair()
        places = [
            streams.get(0, stdin),
            streams.get(1, stdout),
            streams.get(2, stderr),
            theirs.fileno(),
        ]
        socket.send_fds(self._requests, [b"run"], places)
        for descriptor in (stdin, stdout, stderr):
            os.close(descriptor)
        theirs.close()
        request = {
            "words": [os.fsdecode(word) for word in words],
            "environment": dict(environment),
            "directory": str(directory),
            **request,
        }
        ours.sendall(json.dumps(request).encode() + b"\n")
        return Process(words, ours, (to_program, from_program, complaints))


class Process:
    """The program, running."""

    def __init__(
        self,
        words: Sequence[str | bytes],
        connection: socket.socket,
        pipes: tuple[int, int, int],
    ) -> None:
        self._words = words
        with connection:
            self._replies = connection.makefile("rb")
        self._pipes = pipes
        self.pid = int(self._replies.readline())

    def end(self, given: bytes = b"", timeout: float = 60) -> "subprocess.CompletedProcess[bytes]":
        """Let the program run to its end."""
        with self._replies:
            try:
                out, err = _exchange(given, *self._pipes, timeout)
            except TimeoutError:
                os.kill(self.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(self._words, timeout) from None
            status = int(self._replies.readline())
        return subprocess.CompletedProcess(self._words, status, out, err)

    def wait_until_stopped(self) -> None:
        """Wait until the program has stopped itself, or has ended."""
        while self._state() not in "TXZ":
            time.sleep(0.001)

    def resume(self) -> "subprocess.CompletedProcess[bytes]":
        """Let a stopped program run on to its end."""
        assert self._state() == "T"
        os.kill(self.pid, signal.SIGCONT)
        return self.end()

    def _state(self) -> str:
        """Return the letter of the process's state in /proc."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except FileNotFoundError:
            return "X"
        return status.rpartition(") ")[2][0]


def _exchange(
    given: bytes, to_program: int, from_program: int, complaints: int, timeout: float
) -> tuple[bytes, bytes]:
    """Write all input, and return all output; close the pipes.

    Raises TimeoutError when the program has not closed its own ends after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    received = {from_program: bytearray(), complaints: bytearray()}
    os.set_blocking(to_program, False)
    with selectors.DefaultSelector() as pipes:
        pipes.register(to_program, selectors.EVENT_WRITE)
        for pipe in received:
            pipes.register(pipe, selectors.EVENT_READ)
        try:
            while pipes.get_map():
                ready = pipes.select(deadline - time.monotonic())
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fd == to_program:
                        given = _written(to_program, given)
                        ended = not given
                    else:
                        part = os.read(key.fd, READ_AT_ONCE)
                        received[key.fd] += part
                        ended = not part
                    if ended:
                        pipes.unregister(key.fd)
                        os.close(key.fd)
        finally:
            for key in list(pipes.get_map().values()):
                os.close(key.fd)
    return bytes(received[from_program]), bytes(received[complaints])


def _written(pipe: int, given: bytes) -> bytes:
    """Write as much as fits and return the rest; nothing when the reader is gone."""
    try:
        return given[os.write(pipe, given) :] if given else b""
    except BrokenPipeError:
        return b""


def serve(requests: socket.socket) -> None:
    """Answer requests until the client is gone; return only in a process that must run one."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a process that answers is not waited for
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 16, 4)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            _answer(*descriptors)
            return
        for descriptor in descriptors:
            os.close(descriptor)


def _answer(stdin: int, stdout: int, stderr: int, reply: int) -> None:
    """Return in a new process set up as requested; send its process id and its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with socket.socket(fileno=reply) as connection, connection.makefile("rwb") as stream:
        request = json.loads(stream.readline())
        process = os.fork()
        if process:
            stream.write(b"%d\n" % process)
            stream.flush()
            os.closerange(0, 3)
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)
            _, status = os.waitpid(process, 0)
            stream.write(b"%d\n" % os.waitstatus_to_exitcode(status))
            stream.flush()
            os._exit(0)
    for place, descriptor in enumerate((stdin, stdout, stderr)):
        os.dup2(descriptor, place)
        os.close(descriptor)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv = request["words"]
    # The streams that Python created still refer to the previous descriptors.
    for name, place, mode, errors in (
        ("stdin", 0, "r", "surrogateescape"),
        ("stdout", 1, "w", "surrogateescape"),
        ("stderr", 2, "w", "backslashreplace"),
    ):
        if place in request.get("closed", ()):
            os.close(place)
            setattr(sys, name, None)  # as Python does when it starts
        else:
            fresh = open(place, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
            setattr(sys, name, fresh)
    for name, most in request.get("limits", {}).items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (most, most))
    if "stop_before" in request:
        _stop_before(request["stop_before"])
    if "steps" in request:
        _count_steps(request["steps"], *request["kill_before"])


def _run(main: Callable[[], object]) -> None:
    """Run the program, and end this process as Python does, but for the end of each object.

    All that was imported would be copied to be destroyed, which takes longer than most commands.
    """
    status: int | None = 0
    try:
        main()
    except SystemExit as asked:
        if not isinstance(asked.code, int | None):
            raise
        status = asked.code
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:
        sys.exit(status)  # Python has a status of its own for this
    os._exit(status or 0)


def _stop_before(transaction: int) -> None:
    """Let this process stop itself before it begins its write transaction of that number."""
    begun = 0

    class Stopping(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            nonlocal begun
            if sql == "BEGIN IMMEDIATE":
                begun += 1
                if begun == transaction:
                    os.kill(os.getpid(), signal.SIGSTOP)
            return super().execute(sql, *values)

    sqlite3.connect = partial(sqlite3.connect, factory=Stopping)  # type: ignore[assignment]


def _count_steps(record: str, number: int, kind: str | None) -> None:
    """Write the kind of each step to a file before it is taken; kill this process before one.

    A step can change something: it is a statement that SQLite begins on a file and that does not
    only read, or a file that is opened for writing, renamed, cut off or removed.
    """
    written = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    counted = 0

    def step(name: str) -> None:
        nonlocal counted
        found = VALUES.sub(" ", name).strip()[:KIND_LENGTH]
        if READING.match(found):
            return
        if kind in (None, found):
            counted += 1
            if counted == number:
                os.kill(os.getpid(), signal.SIGKILL)
        os.write(written, found.encode("utf-8", "replace") + b"\n")

    def connect(database: str, *rest: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = plain_connect(database, *rest, **options)
        if database != ":memory:":
            connection.set_trace_callback(step)
        return connection

    def audit(event: str, details: tuple[Any, ...]) -> None:
        if event in ("os.rename", "os.remove", "os.link", "os.truncate") or (
            event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR)
        ):
            step(f"{event} {details[0]}")

    plain_connect = sqlite3.connect
    sqlite3.connect = connect  # type: ignore[assignment]
    sys.addaudithook(audit)


if __name__ == "__main__":
    import memctl
    from memctl.__main__ import main

    modules = (module.name for module in pkgutil.walk_packages(memctl.__path__, "memctl."))
    for name in (*LAZY_MODULES, *modules):
        importlib.import_module(name)
    gc.freeze()  # memory that all forks share is not copied
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        serve(listening)
    _run(main)
