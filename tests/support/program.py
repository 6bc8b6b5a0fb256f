"""The installed program, as the tests run it."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.contract import require_contract
from tests.support.forkserver import ForkServer

NOW = datetime(2026, 11, 22, 9, 43, 58, tzinfo=UTC)


PROGRAM = Path(sys.executable).with_name("memctl")

# The rules that detect secrets are kept here, because it takes seconds to compile them.
RULES = PROGRAM.parents[1] / "rule-cache"


@dataclass(frozen=True)
class Answer:
    """The result of a command of the installed program."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)


@cache
def fork_server(*prefix: str) -> ForkServer:
    """Return a server that runs the program without the cost of its start.

    The program that `prefix` calls restricts the server and everything that it runs.
    """
    server = ForkServer(prefix)
    fork_servers.append(server)
    return server


fork_servers: list[ForkServer] = []


@dataclass(frozen=True)
class Memctl:
    """The installed program, pointed at one database at one time, in an empty environment."""

    database: Path
    now: datetime = NOW
    prefix: tuple[str, ...] = ()  # a program that runs it under other conditions
    limits: tuple[tuple[str, int], ...] = ()  # of prlimit, such as ("fsize", 0)
    url: str | None = None  # of a database on a server, in place of the file

    def environment(self) -> dict[str, str]:
        """Return the whole environment that a command gets."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.database.parent),
            "XDG_STATE_HOME": str(self.state_home),
            "KF_RULE_CACHE_DIR": str(RULES),
            "MEMCTL_DB": self.url or str(self.database),
            "MEMCTL_NOW": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    @property
    def state_home(self) -> Path:
        """The directory for state that is kept outside the database, apart from the other files."""
        return self.database.parent.with_name(f"{self.database.parent.name}-state")

    def at(self, now: datetime) -> "Memctl":
        """Return the program at another time."""
        return replace(self, now=now)

    def __call__(self, *words: str | bytes, given: bytes = b"", timeout: float = 60) -> Answer:
        """Run a command to its end, whatever its exit code; `given` is its standard input."""
        if self.prefix:
            ran = subprocess.run(
                [*self.prefix, PROGRAM, *words],
                env=self.environment(),
                input=given,
                capture_output=True,
                timeout=timeout,
            )
        else:
            ran = fork_server().run(
                [str(PROGRAM), *words],
                environment=self.environment(),
                directory=Path.cwd(),
                given=given,
                limits=dict(self.limits),
                timeout=timeout,
            )
        answer = Answer(
            ran.returncode,
            ran.stdout.decode("utf-8", "surrogateescape"),
            ran.stderr.decode("utf-8", "surrogateescape"),
        )
        require_contract(words, answer.out, answer.err)
        return answer

    def ok(self, *words: str | bytes, given: bytes = b"") -> Answer:
        """Run a command that must succeed."""
        answer = self(*words, given=given)
        assert answer.exit_code == 0, answer
        return answer

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command and leave it running."""
        return subprocess.Popen(
            [*self.prefix, PROGRAM, *words],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


Words = tuple[str, ...]


def complaint(answer: Answer) -> str:
    """Return the only line printed by a command that failed for a known reason."""
    assert (answer.out, answer.err.count("\n")) == ("", 1), answer
    assert answer.err.endswith("\n")
    return answer.err.rstrip("\n")
