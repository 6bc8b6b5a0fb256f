"""Commands that run often start fast, because they import little."""

import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from memctl import __version__
from memctl.storage.sqlite import migrations
from tests.support.program import PROGRAM, Memctl

HEAVY = ("pydantic", "rich", "sqlite_utils", "click", "tomllib", "_hashlib", "jinja2")

# Run the program, then print which of these modules it imported.
RUN_AND_PRINT_IMPORTS = """
import sys
from memctl.__main__ import main
try:
    main()
except SystemExit as end:
    if end.code:
        raise
print()
print(sorted(set(sys.modules) & set({heavy!r})))
"""


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        ("run", []),
        ("cleanup", []),
        ("decay", []),
        ("prune", []),
        ("promote", []),
        ("snapshot", []),
        ("remember build_agent learning k new", []),
        ("recall build_agent learning k", []),
        ("recall build_agent learning k --value", []),
        ("list build_agent", []),
        ("forget build_agent learning k", []),
        ("forget build_agent learning", []),
        ("summary build_agent", []),
        ("report", ["rich"]),  # for its tables; only the page needs jinja2
        ("search k", []),
        ("backup", ["_hashlib"]),  # worth it for the checksum of the whole file
    ],
)
def test_commands_that_run_often_import_nothing_heavy(
    migrated: Memctl, remember: Callable[..., str], words: str, heavy: list[str]
) -> None:
    remember(key="k")

    ran = subprocess.run(
        [sys.executable, "-c", RUN_AND_PRINT_IMPORTS.format(heavy=HEAVY), *words.split()],
        env=migrated.environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.endswith(f"{heavy}\n")


def test_a_run_imports_what_a_report_or_a_heartbeat_needs_only_then(
    migrated: Memctl, tmp_path: Path
) -> None:
    file = tmp_path / "memctl.toml"
    file.write_text('[report]\nevery = "weekly"\n')
    migrated.ok("run", "--config", str(file))
    needed = ("memctl.insight.report", "memctl.output.report_html", "urllib.request")

    ran = subprocess.run(
        [
            *(sys.executable, "-c", RUN_AND_PRINT_IMPORTS.format(heavy=needed)),
            *("run", "--config", str(file)),
        ],
        env=migrated.environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.endswith("[]\n")


PRINT_IMPORTS_OF_VERSION = """
import sys
before = set(sys.modules)
from memctl.__main__ import main
main()
print(sorted(set(sys.modules) - before))
"""


def test_the_version_is_printed_before_anything_is_imported() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PRINT_IMPORTS_OF_VERSION, "--version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout == f"memctl {__version__}\n['gc', 'memctl', 'memctl.__main__']\n"


def test_an_option_after_the_command_overrides_one_before_it(migrated: Memctl) -> None:
    migrated.ok("--db", "missing.db", "cleanup", "--db", str(migrated.database))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({"MEMCTL_DB": "a", "HARNESS_DB_PATH": "b"}, "a", id="ours before theirs"),
        pytest.param({"HARNESS_DB_PATH": "b", "STATE_DIRECTORY": "c"}, "b", id="the service's"),
        pytest.param({"STATE_DIRECTORY": "/c:/d", "HOME": "/h"}, "/c/memory.db", id="systemd's"),
        pytest.param(
            {"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/memctl/memory.db", id="the data directory"
        ),
        pytest.param(
            {"XDG_DATA_HOME": "x", "HOME": "/h"},
            "/h/.local/share/memctl/memory.db",
            id="the home directory, not a relative data directory",
        ),
    ],
)
def test_the_environment_determines_the_path_of_the_database(
    environment: dict[str, str], expected: str
) -> None:
    ran = subprocess.run(
        [PROGRAM, "status"], env=environment, capture_output=True, text=True, check=False
    )

    assert ran.returncode == 10
    assert f"there is no database at {expected};" in ran.stderr


def test_without_a_home_directory_the_error_suggests_the_db_option() -> None:
    ran = subprocess.run([PROGRAM, "status"], env={}, capture_output=True, text=True, check=False)

    assert ran.returncode == 1
    assert ran.stderr == (
        "memctl: no database is specified, and there is no home directory; specify one with --db\n"
    )


def test_the_checksum_is_the_sha_256_of_the_file() -> None:
    for step in migrations.available():
        assert step.checksum == sha256(step.path.read_bytes()).hexdigest()
