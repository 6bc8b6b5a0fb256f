"""`--config-dir`: a command on several databases, each with its own configuration."""

import json
import os
import shutil
import subprocess
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from memctl.cli.databases import run_on_each
from memctl.cli.options import GlobalOptions
from memctl.config.jobs import JOBS
from tests.support.cron import cron_commands
from tests.support.database import connect, insert_memory, rows
from tests.support.ledger import jobs_run
from tests.support.locks import lock_file
from tests.support.program import NOW, PROGRAM, Memctl
from tests.support.terminal import on_a_terminal

NAMES = ("first", "second", "third")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


class Fleet:
    """Three databases, each with an expired memory, and a directory with their configurations."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.folder = folder
        self.directory = folder / "conf.d"
        self.directory.mkdir(mode=0o755)
        for name in NAMES:
            shutil.copyfile(template, self.database(name))
            with closing(connect(self.database(name))) as db:
                insert_memory(db, importance=9, expired_for=timedelta(hours=1))
            self.configure(name, f'database = "../{name}.db"\n')
        # A command that the environment of a user would send to another database.
        self.memctl = Memctl(folder / "other" / "harness.db")

    def database(self, name: str) -> Path:
        """Return the path of a database."""
        return self.folder / f"{name}.db"

    def configure(self, name: str, text: str) -> Path:
        """Write a configuration, and return its path."""
        file = self.directory / f"{name}.toml"
        file.write_text(text)
        file.chmod(0o644)
        return file

    def words(self, command: str) -> list[str]:
        """Return the words of a command on all databases."""
        return [*command.split(), "--config-dir", str(self.directory)]

    def archived(self) -> list[int]:
        """Return how many memories are archived in each database."""
        counts = []
        for name in NAMES:
            with closing(connect(self.database(name))) as db:
                counts += [count for (count,) in rows(db, "archived_memories", "count(*)")]
        return counts


@pytest.fixture
def fleet(tmp_path: Path, template: Path) -> Fleet:
    """Three databases, each with an expired memory."""
    return Fleet(tmp_path, template)


# One database after the other


def test_a_run_does_all_due_jobs_on_each_database_and_prints_nothing(fleet: Fleet) -> None:
    answer = fleet.memctl.ok(*fleet.words("run"))

    assert (answer.out, answer.err) == ("", "")
    assert [jobs_run(fleet.database(name)) for name in NAMES] == [list(JOBS)] * 3
    assert fleet.archived() == [1, 1, 1]


def test_a_failure_on_one_database_does_not_stop_the_others(fleet: Fleet) -> None:
    fleet.database("first").unlink()

    answer = fleet.memctl(*fleet.words("run"))

    (line,) = answer.err.splitlines()
    assert answer.exit_code == 10
    assert line.startswith(f"memctl: {fleet.database('first')}: there is no database at ")
    assert [jobs_run(fleet.database(name)) for name in NAMES[1:]] == [list(JOBS)] * 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("[decay\n", "is not valid TOML", id="no TOML"),
        pytest.param("[decay]\nfloors = 3\n", "decay.floors: unknown key", id="an unknown key"),
        pytest.param("[decay]\nfloor = 3\n", "names no database", id="no database"),
        pytest.param(
            'database = "../first.db"\n', "names the same database as ", id="another's database"
        ),
        pytest.param('database = "loop"\n', "/loop", id="a loop of links"),
    ],
)
def test_a_wrong_file_is_one_error_and_the_others_run(
    fleet: Fleet, text: str, complaint: str
) -> None:
    file = fleet.configure("second", text)
    (fleet.directory / "loop").symlink_to("loop")

    answer = fleet.memctl(*fleet.words("run"))

    (line,) = answer.err.splitlines()
    assert answer.exit_code in (1, 2, 10)  # 10: some Pythons take a loop of links for no file
    assert line.startswith("memctl: ")
    assert complaint in line
    assert str(file.parent) in line
    assert fleet.archived() == [1, 0, 1]


@pytest.mark.parametrize(
    ("broken", "worst"),
    [
        pytest.param({"second": 3, "third": 10}, 10, id="a failure is worse than a refusal"),
        pytest.param({"first": 11, "third": 10}, 11, id="the first failure counts"),
        pytest.param({"third": 3}, 3, id="a refusal is worse than a success"),
    ],
)
def test_the_exit_code_is_the_worst(fleet: Fleet, broken: dict[str, int], worst: int) -> None:
    locked = None
    for name, code in broken.items():
        if code == 10:
            fleet.database(name).unlink()
        elif code == 3:  # the clock was ahead
            fleet.memctl.at(NOW + timedelta(days=1)).ok(
                "cleanup", "--db", str(fleet.database(name))
            )
        else:
            locked = fleet.database(name)

    if locked:
        with lock_file(locked):
            answer = fleet.memctl(*fleet.words("run --lock-wait 0"))
    else:
        answer = fleet.memctl(*fleet.words("run"))

    assert answer.exit_code == worst


def test_messages_name_the_database(fleet: Fleet) -> None:
    shown = on_a_terminal(fleet.memctl, *fleet.words("run -v"), columns=200)
    preview = fleet.memctl.ok(*fleet.words("run --dry-run"))
    log = fleet.memctl.ok(*fleet.words("run --log-format json"))

    for name in NAMES:
        assert f"{fleet.database(name)}: cleanup: archived 1 expired memory" in shown
        assert f"{fleet.database(name)}: cleanup: would archive 0 expired memories" in preview.err
    assert [json.loads(line)["database"] for line in log.err.splitlines()] == [
        str(fleet.database(name)) for name in NAMES
    ]


def test_json_is_one_document_with_an_entry_for_each_file(fleet: Fleet) -> None:
    file = fleet.configure("second", "x")

    answer = fleet.memctl(*fleet.words("run --json"))

    entries = answer.json["databases"]
    (error,) = map(json.loads, answer.err.splitlines())
    assert (answer.exit_code, list(answer.json)) == (2, ["schema", "databases"])
    assert [entry["configuration"] for entry in entries] == [
        str(fleet.directory / f"{name}.toml") for name in NAMES
    ]
    assert [entry["database"] for entry in entries] == [
        str(fleet.database("first")),
        None,
        str(fleet.database("third")),
    ]
    assert [entry["exit_code"] for entry in entries] == [0, 2, 0]
    assert [entry["result"] and entry["result"]["jobs"][0]["archived"] for entry in entries] == [
        1,
        None,
        1,
    ]
    assert entries[1]["error"] == error["error"]
    assert str(file) in error["error"]["message"]


def test_lists_and_findings_come_below_the_name_of_their_database(fleet: Fleet) -> None:
    with closing(connect(fleet.database("second"))) as db:
        insert_memory(db, key="odd", expires_at="soon")

    listed = fleet.memctl.ok(*fleet.words("run --dry-run --list")).out
    checked = fleet.memctl(*fleet.words("check --quiet"))

    assert [line for line in listed.splitlines() if line.startswith("/")] == [
        f"{fleet.database(name)}:" for name in NAMES
    ]
    assert checked.exit_code == 3
    assert checked.out.startswith(f"{fleet.database('second')}:\nwarning  ")
    assert checked.err == ""


def test_each_database_is_backed_up(fleet: Fleet) -> None:
    preview = fleet.memctl.ok(*fleet.words("backup --keep 2 --dry-run --json")).json
    answer = fleet.memctl.ok(*fleet.words("backup --keep 2"))
    assert [len(entry["result"]["backups"]) for entry in preview["databases"]] == [1, 1, 1]

    assert (answer.out, answer.err) == ("", "")
    assert [len(list(fleet.folder.glob(f"{name}.db.backup-*Z"))) for name in NAMES] == [1, 1, 1]


def test_each_database_has_its_own_policies_and_its_alerts_name_it(fleet: Fleet) -> None:
    report = fleet.folder / "alerts"
    program = (
        f'["/bin/sh", "-c", "cat >> {report}; env | grep MEMCTL_DB >> {report}; echo >> {report}"]'
    )
    for name in ("first", "third"):
        fleet.configure(
            name, f'database = "../{name}.db"\n[alerts]\nagent_memories = 1\ncommand = {program}\n'
        )
    fleet.configure("second", 'database = "../second.db"\n[run]\ncleanup = "never"\n')
    for name in NAMES:
        with closing(connect(fleet.database(name))) as db:
            for _ in range(2):
                insert_memory(db)

    fleet.memctl.ok(*fleet.words("run"))

    alerts = [json.loads(line) for line in report.read_text().splitlines() if line]
    assert fleet.archived() == [1, 0, 1]
    assert [alert["database"] for alert in alerts] == [
        str(fleet.database(name)) for name in ("first", "third")
    ]


def test_the_time_is_shared_among_the_databases(fleet: Fleet) -> None:
    shares: list[float] = []

    def command(call: GlobalOptions, *, seconds: float | None) -> None:
        shares.append(seconds or 0)

    run_on_each(GlobalOptions(), fleet.directory, command, max_seconds=60)

    assert shares == sorted(shares)
    assert [share <= most for share, most in zip(shares, (20, 30, 60), strict=True)] == [True] * 3
    assert fleet.memctl.ok(*fleet.words("run --max-seconds 0 -v")).err.count("still due") == 15


def test_an_unexpected_error_on_one_database_stops_no_other(fleet: Fleet) -> None:
    seen: list[str] = []

    def command(call: GlobalOptions, *, seconds: float | None) -> None:
        seen.append(call.settings.database.name)
        if len(seen) == 1:
            raise ZeroDivisionError("of a bug")

    with pytest.raises(ZeroDivisionError):
        run_on_each(GlobalOptions(), fleet.directory, command, max_seconds=None)

    assert seen == [f"{name}.db" for name in NAMES]


def test_the_metrics_of_all_databases_are_in_one_file(fleet: Fleet) -> None:
    fleet.configure("second", "x")
    target = fleet.folder / "memctl.prom"

    answer = fleet.memctl(*fleet.words(f"metrics --prometheus -o {target}"))

    text = target.read_text()
    lines = [line for line in text.splitlines() if line.startswith("memctl_database_size_bytes")]
    assert (answer.exit_code, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert [line.split()[0] for line in lines] == [
        f'memctl_database_size_bytes{{database="{fleet.database(name)}"}}'
        for name in ("first", "third")
    ]
    assert text.count("# TYPE memctl_database_size_bytes") == 1
    if promtool := shutil.which("promtool"):
        subprocess.run([promtool, "check", "metrics"], input=text, text=True, check=True)


def test_no_database_is_overwritten_by_its_metrics(fleet: Fleet) -> None:
    answer = fleet.memctl(*fleet.words(f"metrics --prometheus -o {fleet.database('third')}"))

    assert answer.exit_code == 2
    assert f"{fleet.database('third')} belongs to the database" in answer.err
    assert fleet.archived() == [0, 0, 0]


# The directory


def test_only_regular_visible_files_that_end_in_toml_count(fleet: Fleet) -> None:
    elsewhere = fleet.folder / "elsewhere.toml"
    elsewhere.write_text("wrong")
    (fleet.directory / "link.toml").symlink_to(elsewhere)
    (fleet.directory / "folder.toml").mkdir()
    for name in (".hidden.toml", "second.toml~", "second.toml.dpkg-old", "#second.toml#", "README"):
        (fleet.directory / name).write_text("wrong")

    fleet.memctl.ok(*fleet.words("run"))

    assert fleet.archived() == [1, 1, 1]


@pytest.mark.parametrize("mode", [0o757, 0o775])
def test_a_directory_that_others_can_write_is_refused(fleet: Fleet, mode: int) -> None:
    fleet.directory.chmod(mode)

    answer = fleet.memctl(*fleet.words("run"))

    assert (answer.exit_code, answer.out) == (2, "")
    assert answer.err == (
        f"memctl: other users can write to {fleet.directory}, and could make memctl run any"
        " program;"
        f" run `chmod go-w {fleet.directory}`\n"
    )
    assert fleet.archived() == [0, 0, 0]


@needs_root
def test_a_directory_of_another_user_is_refused(fleet: Fleet) -> None:
    os.chown(fleet.directory, 65534, 65534)

    answer = fleet.memctl(*fleet.words("run"))

    assert (answer.exit_code, fleet.archived()) == (2, [0, 0, 0])
    assert answer.err.startswith(f"memctl: {fleet.directory} belongs to another user")


def test_a_file_that_others_can_write_is_one_error(fleet: Fleet) -> None:
    file = fleet.directory / "second.toml"
    file.chmod(0o666)

    answer = fleet.memctl(*fleet.words("run"))

    assert (answer.exit_code, fleet.archived()) == (2, [1, 0, 1])
    assert answer.err.startswith(f"memctl: other users can write to {file},")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("run --db x", "--config-dir cannot be used with --db or --config; choose one"),
        ("run --config {}", "--config-dir cannot be used with --db or --config; choose one"),
        ("check --nagios", "--config-dir cannot be used with --nagios; choose one"),
        ("backup -o x", "--config-dir cannot be used with --output; choose one"),
        ("backup --verify x", "--config-dir cannot be used with --verify; choose one"),
        ("metrics", "--config-dir requires --prometheus; choose one database with --db"),
        ("backup --list", "--config-dir cannot be used with --list; choose one"),
        ("backup --restore x", "--config-dir cannot be used with --restore; choose one"),
    ],
)
def test_options_for_one_database_are_refused(fleet: Fleet, words: str, complaint: str) -> None:
    answer = fleet.memctl(*fleet.words(words.format(fleet.directory / "first.toml")))

    assert (answer.exit_code, answer.out, answer.err) == (2, "", f"memctl: {complaint}\n")


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("empty", "has no configuration file"), ("missing", "there is no directory")],
)
def test_a_directory_without_configurations_is_an_error(
    fleet: Fleet, name: str, complaint: str
) -> None:
    (fleet.folder / "empty").mkdir()

    answer = fleet.memctl("run", "--config-dir", str(fleet.folder / name))

    assert (answer.exit_code, answer.err.count("\n")) == (2, 1)
    assert complaint in answer.err


# The schedule


def test_the_printed_lines_work_on_all_databases(fleet: Fleet) -> None:
    printed = fleet.memctl.ok(*fleet.words("schedule --cron --quiet")).out

    ran = [
        subprocess.run(["/bin/sh", "-c", line], env={}, capture_output=True, check=False)
        for line in cron_commands(printed)
    ]

    assert f" run --config-dir {fleet.directory} --max-seconds 600 " in printed
    assert [(one.returncode, one.stdout, one.stderr) for one in ran] == [(0, b"", b"")] * 3
    assert [jobs_run(fleet.database(name)) for name in NAMES] == [list(JOBS)] * 3
    assert [len(list(fleet.folder.glob(f"{name}.db.backup-*Z"))) for name in NAMES] == [1, 1, 1]


def test_the_units_can_write_to_the_directory_of_each_database(fleet: Fleet) -> None:
    other = fleet.folder / "other"
    other.mkdir()
    fleet.database("third").rename(other / "third.db")
    fleet.configure("third", f'database = "{other}/third.db"\n')

    printed = fleet.memctl.ok(*fleet.words("schedule --systemd --quiet")).out

    assert printed.count(f"\nReadWritePaths={fleet.folder} {other}\n") == 3
    assert f"\nExecStart={PROGRAM} check --config-dir {fleet.directory} --quiet " in printed


@needs_root
def test_databases_of_different_users_have_no_common_schedule(fleet: Fleet) -> None:
    os.chown(fleet.database("second"), 65534, 65534)

    answer = fleet.memctl(*fleet.words("schedule --cron"))

    assert (answer.exit_code, answer.out) == (2, "")
    assert answer.err.startswith("memctl: the databases belong to different users: ")


@needs_root
def test_the_owner_of_the_databases_may_own_the_directory(fleet: Fleet) -> None:
    for path in (*map(fleet.database, NAMES), fleet.directory):
        os.chown(path, 65534, 65534)

    of_owner = fleet.memctl(*fleet.words("schedule --cron"))
    os.chown(fleet.directory, 65533, 65533)
    of_another = fleet.memctl(*fleet.words("schedule --cron"))

    assert (of_owner.exit_code, of_owner.err) == (0, "")
    assert (of_another.exit_code, of_another.out) == (2, "")
