"""PostgreSQL servers of a test's own: to be stopped, restarted, given passwords or standbys.

They listen on loopback only, below the ports that the kernel gives to clients. Root starts them as
the user postgres. Their data is on a RAM disk if there is one.
"""

import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

PORTS = range(26000, 32000)
OWNER = "memctl"  # a superuser of each server
NO_PROGRAMS = "no programs of a PostgreSQL server: install the package postgresql"
SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=50")

StopMode = Literal["fast", "immediate"]


@dataclass
class Server:
    """A server, or a standby of another one; its database is `memctl`."""

    place: Path
    password: str | None = None
    settings: Sequence[str] = ()  # such as `max_connections=5`
    port: int = field(default_factory=lambda: free_port())

    def url(self, database: str = "memctl", *, user: str = OWNER) -> str:
        """Return the URL of a database, without a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def data(self) -> Path:
        """The directory of the data."""
        return self.place / "data"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return int((self.data / "postmaster.pid").read_text().splitlines()[0])

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        settings = [f"-c {setting}" for setting in (*SETTINGS, *self.settings)]
        self.call(
            "pg_ctl",
            "--wait",
            "start",
            f"--pgdata={self.data}",
            f"--log={self.place / 'log'}",
            "-o",
            " ".join([f"-p {self.port}", *settings]),
        )

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop it; `immediate` is like a crash."""
        self.call("pg_ctl", "--wait", "stop", f"--pgdata={self.data}", f"--mode={mode}")

    def promote(self) -> None:
        """Make a standby the primary server."""
        self.call("pg_ctl", "--wait", "promote", f"--pgdata={self.data}")

    @contextmanager
    def standby(self) -> Iterator["Server"]:
        """Start a standby of this server, which must have no password."""
        with _place() as place:
            standby = Server(place, settings=self.settings)
            self.call(
                "pg_basebackup",
                "--write-recovery-conf",
                "--checkpoint=fast",
                f"--pgdata={standby.data}",
                f"--dbname={self.url('postgres')}",
            )
            with _running(standby):
                yield standby

    def sql(self, statement: str, *, database: str = "memctl") -> str:
        """Run statements as the superuser, and return their rows as lines."""
        words = ("--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1")
        return self.call("psql", *words, self.url(database), f"--command={statement}").strip()

    def call(self, program: str, *words: str) -> str:
        """Run a program of PostgreSQL as the server's user, and return what it prints."""
        with (self.place / "errors").open("a") as errors:  # a pipe would stay open in the server
            ran = subprocess.run(
                [*as_postgres(), programs() / program, *words],
                cwd=self.place,
                env={"PATH": os.environ["PATH"], "PGPASSWORD": self.password or ""},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                check=False,
            )
        assert ran.returncode == 0, (self.place / "errors").read_text()
        return ran.stdout


@contextmanager
def private_server(*settings: str, password: str | None = None) -> Iterator[Server]:
    """Start a server with one empty database, `memctl`, which accepts every user of the machine.

    With a `password`, it requires this one of the superuser. Skips the test without programs.
    """
    with _place() as place:
        server = Server(place, password, settings)
        access = ["--auth=trust"]
        if password is not None:
            (place / "password").write_text(password)
            give_to_server(place / "password")
            access = ["--auth=scram-sha-256", f"--pwfile={place / 'password'}"]
        server.call(
            "initdb",
            f"--pgdata={server.data}",
            f"--username={OWNER}",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            *access,
        )
        with _running(server):
            server.sql("CREATE DATABASE memctl", database="postgres")
            yield server


def programs() -> Path:
    """Return the directory of the newest server's programs. Skips the test if there are none."""
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (found / "initdb").exists():
            return found
    initdb = shutil.which("initdb")
    if initdb is None:
        pytest.skip(NO_PROGRAMS)
    return Path(initdb).resolve().parent


def free_port() -> int:
    """Return a port of the loopback interface on which nothing listens."""
    while True:
        port = random.choice(PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        if (server.data / "postmaster.pid").exists():
            server.stop("immediate")


@contextmanager
def _place() -> Iterator[Path]:
    """Make a directory of the server's user; those of pytest are closed to other users."""
    programs()
    disk = Path("/dev/shm")  # noqa: S108  mkdtemp makes a private directory in it
    place = Path(tempfile.mkdtemp("-memctl-postgres", dir=disk if disk.is_dir() else None))
    try:
        give_to_server(place)
        yield place
    finally:
        shutil.rmtree(place)


def give_to_server(path: Path) -> None:
    """Make the server's user the owner of a file."""
    if os.geteuid() == 0:
        user = _server_user()
        os.chown(path, user.pw_uid, user.pw_gid)


def as_postgres() -> list[str]:
    """Return the words that run a program as the server's user: a server refuses to run as root."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_server_user().pw_uid}", "--regid=postgres", "--init-groups"]


def _server_user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("no user postgres, as whom root could start a server")
