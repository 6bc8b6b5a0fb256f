"""The wheel: the package that `pip install` gives a user works without a checkout."""

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.database import STEPS

PROJECT = Path(__file__).parent.parent


def run(*words: str | Path, directory: Path = PROJECT) -> str:
    """Run a command that must succeed and return what it prints."""
    ran = subprocess.run(words, cwd=directory, check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout


PAGE = "share/man/man1/memctl.1"


class Installation(NamedTuple):
    """A virtual environment with only the wheel of memctl, and a working directory."""

    wheel: Path
    environment: Path
    home: Path

    def run(self, program: str, *words: str) -> str:
        """Run one of its programs in a bare environment, far from the checkout."""
        bare = ("env", "-i", "PATH=/usr/bin:/bin", f"HOME={self.home}")
        return run(*bare, self.environment / "bin" / program, *words, directory=self.home)

    def run_activated(self, program: str, *words: str) -> str:
        """Run a system program as after `activate`; nothing else names the environment."""
        path = f"PATH={self.environment / 'bin'}:/usr/bin:/bin"
        bare = ("env", "-i", path, f"HOME={self.home}")
        return run(*bare, program, *words, directory=self.home)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The built wheel, in an environment that finds memctl's dependencies in ours."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
    run(sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", folder, PROJECT)
    (wheel,) = folder.glob("*.whl")
    environment = folder / "environment"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", wheel)
    # Behind the environment's own packages, and without the .pth file of an editable memctl.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    home = folder / "home"
    home.mkdir()
    return Installation(wheel, environment, home)


def test_the_installed_program_migrates_with_the_files_in_the_wheel(
    installed: Installation,
) -> None:
    database = installed.home / ".local" / "share" / "memctl" / "memory.db"
    places = (
        "import json, memctl; from memctl.storage.migrations import folder;"
        " print(json.dumps([memctl.__file__, str(folder())]))"
    )

    code, sql = json.loads(installed.run("python", "-c", places))
    applied = json.loads(installed.run("memctl", "migrate", "--json"))
    status = json.loads(installed.run("memctl", "status", "--json"))

    assert Path(code).is_relative_to(installed.environment)
    assert Path(sql) == Path(code).parent / "sql"
    assert applied == {
        "schema": 1,
        "database": str(database),
        "schema_step": 3,
        "applied": STEPS,
        "created": True,
        "baseline": False,
        "backup": None,
        "triggers": [],
        "dry_run": False,
    }
    assert (status["database"], status["schema_step"], status["problem"]) == (
        str(database),
        3,
        None,
    )


def test_the_wheel_has_the_whole_package_and_the_same_migrations(installed: Installation) -> None:
    package = {
        str(path.relative_to(PROJECT)): path
        for path in (PROJECT / "memctl").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    migrations = PROJECT / "migrations"
    package |= {
        f"memctl/sql/{path.relative_to(migrations)}": path for path in migrations.rglob("*.sql")
    }
    data = installed.wheel.name.replace("-py3-none-any.whl", ".data/data")
    package[f"{data}/{PAGE}"] = PROJECT / "docs" / "memctl.1"
    package |= {
        f"{data}/{Path(PAGE).parent}/{page.name}": page
        for page in (PROJECT / "docs" / "man").iterdir()
    }

    with zipfile.ZipFile(installed.wheel) as wheel:
        found = {
            name: hashlib.sha256(wheel.read(name)).hexdigest()
            for name in wheel.namelist()
            if ".dist-info/" not in name
        }

    assert found == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in package.items()
    }


def test_the_installed_program_writes_a_page(installed: Installation) -> None:
    installed.run("memctl", "migrate", "--db", "page.db")

    page = installed.run("memctl", "report", "--db", "page.db", "--format", "html")

    assert page.startswith("<!DOCTYPE html>\n")
    assert page.endswith("</html>\n")


def test_the_installed_program_prints_its_version(installed: Installation) -> None:
    version = installed.wheel.name.split("-")[1]

    printed = installed.run("memctl", "--version")

    assert printed == f"memctl {version}\n"


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
def test_man_finds_the_installed_pages(installed: Installation) -> None:
    place = installed.run_activated("man", "-w", "memctl")
    command = installed.run_activated("man", "-w", "memctl", "restore")

    assert place == f"{installed.environment / PAGE}\n"
    assert command == f"{installed.environment / PAGE}\n".replace("memctl.1", "memctl-restore.1")


def test_bash_completes_the_installed_program(installed: Installation) -> None:
    script = """
        source <(memctl completion bash)
        COMP_LINE="memctl clea" COMP_POINT=11
        _memctl_completion memctl
        echo "${COMPREPLY[@]}"
    """

    assert installed.run_activated("bash", "--norc", "-c", script) == "cleanup\n"
