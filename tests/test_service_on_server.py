"""The service's own driver for Node writes beside every job: no error, no wait, nothing lost."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.program import NOW, Memctl
from tests.support.server_rows import add_expired
from tests.support.servers import Server, private_server

PROGRAM = Path(__file__).parent / "support" / "service_on_server.mjs"
JOBS = [
    ("decay",),
    ("cleanup",),
    ("promote",),
    ("snapshot",),
    ("run",),
    ("export", "--all"),
    ("metrics",),
]
LONGEST_CALL = 1000  # milliseconds; on a busy machine, each call may take a while


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of the service, with its driver. Skips the test if this cannot be installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no Node: install the packages nodejs and npm")
    place = tmp_path_factory.mktemp("service")
    try:
        installed = subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", "pg@8"],
            cwd=place,
            capture_output=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not install pg within a minute")
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install pg: {installed.stderr.decode()[-200:]}")
    return Path(shutil.copy(PROGRAM, place))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with an empty database."""
    with private_server("fsync=off") as started:
        yield started


def test_service_is_not_disturbed_by_jobs(service: Path, server: Server, tmp_path: Path) -> None:
    memctl = Memctl(tmp_path / "unused.db", url=server.url())
    memctl.ok("migrate")
    add_expired(server.url(), 5_000)
    command = ["node", str(service), server.url()]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "begun\n"

        for words in JOBS:
            memctl.ok(*words)
        memctl.at(NOW + timedelta(days=365)).ok("prune", "--force")
        result = json.loads(writer.communicate(timeout=60)[0])

    assert writer.returncode == 0
    assert result["found"] == result["stored"]
    assert result["calls"] > 100
    assert result["slowest"] < LONGEST_CALL
