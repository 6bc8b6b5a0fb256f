"""`memctl schedule`: the real cron, shell and systemd accept what it prints.

The tests of cron and systemd skip where these are not installed; Debian's packages are `cron` and
`systemd`.
"""

import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.config.jobs import JOBS
from memctl.errors import UsageError
from memctl.output.schedule import (
    COMMANDS,
    RUN,
    Installation,
    ScheduledCommand,
    crontab,
    systemd_units,
)
from memctl.storage.addresses import ServerAddress
from tests.support.cron import cron_commands, crontab_lines
from tests.support.ledger import jobs_run
from tests.support.processes import eventually
from tests.support.program import PROGRAM, Memctl
from tests.support.properties import examples

ROOT = Path(__file__).parent.parent

# The installation in the samples.
SAMPLE = Installation(
    program=["/opt/memctl/bin/memctl"],
    databases=[Path("/var/lib/harness/data/harness.db")],
    configuration=None,
    owner="harness",
)

ODD_NAMES = ["a b", "50%", "it's", '"quoted"', "$HOME", "a;b&c", "é*?", "#1", "~"]

# Characters allowed in a path in a crontab: no slash, nothing unprintable, no backslash.
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/\\")
    | st.sampled_from(" %$'\"`~*;&#!"),
    min_size=1,
    max_size=20,
).filter(lambda name: name not in (".", "..") and name.isprintable())


WARNING = (
    "schedule: {} belongs to root, and the jobs would run as root; change the owner with chown to"
    " the user of the service\n"
)


def settings_in(unit: str) -> dict[str, str]:
    """Return the settings of a unit."""
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and line[0] != "#")


@pytest.fixture
def owned(migrated: Memctl) -> Memctl:
    """The program, pointed at a database that does not belong to root."""
    if os.geteuid() == 0:
        os.chown(migrated.database, 65534, 65534)
    return migrated


# The samples


def test_the_samples_are_up_to_date() -> None:
    units = {path.name: path.read_text() for path in (ROOT / "systemd").iterdir()}

    assert (ROOT / "crontab.example").read_text() == crontab(SAMPLE)
    assert units == systemd_units(SAMPLE)


# The text


def test_the_lines_for_cron_name_this_program_and_this_database(owned: Memctl) -> None:
    printed = owned.ok("schedule", "--cron")

    database = owned.database
    assert crontab_lines(printed.out) == [
        f"7,22,37,52 * * * *  {PROGRAM} run --db {database} --max-seconds 600 --lock-wait 600",
        f"30 4 * * *  {PROGRAM} backup --db {database} --keep-daily 7 --keep-weekly 4"
        " --lock-wait 600",
        f"45 5 * * *  {PROGRAM} check --db {database} --quiet",
    ]
    assert printed.err == ""


def test_the_units_name_this_program_this_database_and_its_owner(owned: Memctl) -> None:
    owner = pwd.getpwuid(owned.database.stat().st_uid).pw_name

    printed = owned.ok("schedule", "--systemd")

    names = re.findall(r"^# (\S+[.](?:service|timer))$", printed.out, re.MULTILINE)
    texts = re.split(r"^# \S+[.](?:service|timer)\n", printed.out, flags=re.MULTILINE)[1:]
    units = {name: settings_in(text) for name, text in zip(names, texts, strict=True)}
    where, journal = f"--db {owned.database}", "--log-format journal"
    assert printed.err == ""
    assert {
        name: (unit["User"], unit["ExecStart"], unit["ReadWritePaths"])
        for name, unit in units.items()
        if "User" in unit
    } == {
        f"{name}.service": (owner, f"{PROGRAM} {command} {journal}", str(owned.database.parent))
        for name, command in {
            "memctl": f"run {where} --max-seconds 600 --lock-wait 600",
            "memctl-backup": f"backup {where} --keep-daily 7 --keep-weekly 4 --lock-wait 600",
            "memctl-check": f"check {where} --quiet",
        }.items()
    }
    assert {
        name: unit["OnCalendar"] for name, unit in units.items() if name.endswith(".timer")
    } == {"memctl.timer": "*:7/15", "memctl-backup.timer": "4:30", "memctl-check.timer": "5:45"}
    assert names[-1] == "memctl-failure@.service"


def test_every_service_reports_its_failure_and_names_the_manual() -> None:
    units = {name: settings_in(text) for name, text in systemd_units(SAMPLE).items()}

    assert {unit["Documentation"] for unit in units.values()} == {"man:memctl(1)"}
    assert {name: unit["OnFailure"] for name, unit in units.items() if "OnFailure" in unit} == {
        f"{name}.service": "memctl-failure@%N.service"
        for name in ("memctl", "memctl-backup", "memctl-check")
    }
    assert "OnFailure" not in units["memctl-failure@.service"]


def test_the_jobs_yield_to_the_service_but_are_not_idle() -> None:
    units = [settings_in(text) for text in systemd_units(SAMPLE).values() if "\nUser=" in text]

    assert {(unit["Nice"], unit["IOSchedulingClass"]) for unit in units} == {("5", "best-effort")}


def test_only_runs_reach_the_network_and_write_elsewhere_if_the_settings_need_it() -> None:
    installation = SAMPLE._replace(network=True, writes=[Path("/srv/a b"), Path("/home/reports")])

    units = {name: settings_in(text) for name, text in systemd_units(installation).items()}

    run, plain = units.pop("memctl.service"), settings_in(systemd_units(SAMPLE)["memctl.service"])
    changed = {name: value for name, value in run.items() if plain[name] != value}
    assert changed == {
        "PrivateNetwork": "no",
        "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
        "ReadWritePaths": '/var/lib/harness/data "-/srv/a b" -/home/reports',
        "ProtectHome": "read-only",
    }
    assert units == {
        name: settings_in(text)
        for name, text in systemd_units(SAMPLE).items()
        if name != "memctl.service"
    }


def test_a_heartbeat_and_a_directory_of_reports_open_the_sandbox_of_runs(
    owned: Memctl, tmp_path: Path
) -> None:
    file = tmp_path / "memctl.toml"
    file.write_text(
        '[heartbeat]\nurl = "https://hc.example.com/x"\n'
        '[report]\nevery = "weekly"\ndirectory = "reports"\n'
    )

    printed = owned.ok("schedule", "--systemd", "--config", str(file)).out

    run, *others = re.split(r"^# memctl.*[.]service$", printed, flags=re.MULTILINE)[1:]
    assert settings_in(run)["PrivateNetwork"] == "no"
    assert settings_in(run)["ReadWritePaths"] == f"{tmp_path} -{tmp_path}/reports"
    assert {settings_in(text)["PrivateNetwork"] for text in others} == {"yes"}
    assert settings_in(others[0])["ReadWritePaths"] == str(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file belong to root")
@pytest.mark.parametrize("option", ["--cron", "--systemd"])
def test_a_database_that_belongs_to_root_causes_a_warning(migrated: Memctl, option: str) -> None:
    printed = migrated.ok("schedule", option)
    quiet = migrated.ok("schedule", option, "--quiet")

    assert printed.err == WARNING.format(migrated.database)
    assert (quiet.out, quiet.err) == (printed.out, "")


def test_relative_paths_and_links_become_absolute(migrated: Memctl, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "linked.db").symlink_to(migrated.database)
    (tmp_path / "config.toml").write_text('[run]\nprune = "never"\n')

    ran = subprocess.run(
        [PROGRAM, "schedule", "--systemd", "--db", "links/linked.db", "--config", "config.toml"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=True,
    )

    assert f" run --db {tmp_path}/links/linked.db --config {tmp_path}/config.toml " in ran.stdout
    assert f"\nReadWritePaths={tmp_path}\n" in ran.stdout


@pytest.mark.parametrize("option", ["--cron", "--systemd"])
def test_json_holds_the_same_text(migrated: Memctl, option: str) -> None:
    printed = migrated.ok("schedule", option).out

    document = migrated.ok("schedule", option, "--json").json

    assert "\n".join(document["files"].values()) == printed


@pytest.mark.parametrize("words", ["schedule", "schedule --cron --systemd"])
def test_a_scheduler_must_be_specified(migrated: Memctl, words: str) -> None:
    answer = migrated(*words.split())

    assert (answer.exit_code, answer.out) == (2, "")
    assert answer.err == "memctl: exactly one format is required; choose --cron or --systemd\n"


@pytest.mark.parametrize(
    ("name", "option"),
    [
        pytest.param(b"two\nlines", "--cron", id="newline in crontab"),
        pytest.param(b"two\nlines", "--systemd", id="newline in a unit"),
        pytest.param(b"\xff", "--cron", id="invalid UTF-8"),
        pytest.param(b"back\\slash", "--cron", id="backslash in crontab"),
    ],
)
def test_a_path_that_cannot_be_scheduled_is_refused(
    template: Path, memctl: Memctl, tmp_path: Path, name: bytes, option: str
) -> None:
    odd = os.fsencode(tmp_path) + b"/" + name
    shutil.copyfile(template, odd)

    answer = memctl("schedule", option, "--db", odd)

    assert (answer.exit_code, answer.out, answer.err.count("\n")) == (2, "", 1)


@pytest.fixture(scope="module")
def repeater(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that prints the words it is given, a line each, and an empty line."""
    program = tmp_path_factory.mktemp("repeater") / "repeat"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\" ''\n")
    program.chmod(0o755)
    return program


@examples(0.25)
@given(st.lists(NAMES, min_size=20, max_size=20))
def test_the_shell_that_cron_starts_understands_any_path(repeater: Path, names: list[str]) -> None:
    installations = [
        SAMPLE._replace(
            program=[str(repeater)],
            databases=[Path("/", name)],
            configuration=Path("/", name, name),
        )
        for name in names
    ]

    lines = [
        line for installation in installations for line in cron_commands(crontab(installation))
    ]
    ran = subprocess.run(
        ["/bin/sh", "-c", "\n".join(lines)], env={}, capture_output=True, check=True
    )

    assert ran.stdout.decode() == "".join(
        "\n".join([*installation.command(scheduled)[1:], "", ""])
        for installation in installations
        for scheduled in COMMANDS
    )


@given(NAMES | st.just("back\\slash"))
def test_a_unit_spells_any_path_as_systemd_reads_it(name: str) -> None:
    installation = SAMPLE._replace(databases=[Path("/data", name, "x.db")])

    service = systemd_units(installation)["memctl.service"]

    settings_of = settings_in(service)
    (writable,) = shlex.split(settings_of["ReadWritePaths"])
    _, *options = shlex.split(settings_of["ExecStart"])
    assert writable.replace("%%", "%") == f"/data/{name}"
    assert [option.replace("$$", "$").replace("%%", "%") for option in options] == (
        installation.command(RUN, "--log-format", "journal")[1:]
    )


def test_the_unit_can_reach_files_in_home_and_temporary_directories() -> None:
    at_home = SAMPLE._replace(databases=[Path("/home/harness/harness.db")])
    temporary = SAMPLE._replace(reads=[Path("/tmp/venv")])  # noqa: S108

    assert "\nProtectHome=yes\n" in systemd_units(SAMPLE)["memctl.service"]
    assert "\nPrivateTmp=yes\n" in systemd_units(SAMPLE)["memctl.service"]
    assert "\nProtectHome=read-only\n" in systemd_units(at_home)["memctl.service"]
    assert "\nPrivateTmp=no\n" in systemd_units(temporary)["memctl.service"]


# A bare environment


def test_the_printed_lines_work_without_path_and_home(migrated: Memctl) -> None:
    commands = cron_commands(migrated.ok("schedule", "--cron").out)

    good = [
        subprocess.run(["/bin/sh", "-c", line], env={}, capture_output=True) for line in commands
    ]
    jobs = jobs_run(migrated.database)
    backups = list(migrated.database.parent.glob("harness.db.backup-*Z"))
    migrated.database.unlink()
    bad = [
        subprocess.run(["/bin/sh", "-c", line], env={}, capture_output=True) for line in commands
    ]

    assert [(ran.returncode, ran.stdout, ran.stderr) for ran in good] == [(0, b"", b"")] * 3
    assert jobs == list(JOBS)
    assert len(backups) == 1
    assert [(ran.returncode, ran.stdout) for ran in bad] == [(10, b"")] * 3
    assert {ran.stderr.decode() for ran in bad} == {
        f"memctl: there is no database at {migrated.database};"
        " check --db, or create one with `memctl migrate`\n"
    }


# The real cron


def require_program(name: str) -> str:
    """Return where a program is, or skip the test."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def check_crontab() -> list[str]:
    """Return how the installed crontab checks a file without installing it."""
    program = require_program("crontab")
    usage = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    usage_text = usage.stdout + usage.stderr
    if "dry run" in usage_text:
        return [program, "-n"]
    if re.search(r"-T\b.*test", usage_text):
        return [program, "-T"]
    pytest.skip("this crontab cannot check a file")


@pytest.mark.parametrize("name", ODD_NAMES)
def test_crontab_finds_nothing_wrong_with_the_line(
    check_crontab: list[str], tmp_path: Path, name: str
) -> None:
    file = tmp_path / "crontab"
    file.write_text(crontab(SAMPLE._replace(databases=[Path("/", name)])))

    ran = subprocess.run([*check_crontab, file], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr


# Cron in its own namespaces: it sees only the crontab of the test, and is isolated from the system.
START_CRON = """
mount -t tmpfs none /run && mount -t tmpfs none /etc/cron.d && mount --bind /dev/null /etc/crontab
mount --bind "$1" "$2" && exec "$3" -f
"""

# Cron runs it as its shell: it saves the output of the line, which cron would mail.
RECORDING_SHELL = """#!/bin/sh
folder={folder}
/bin/sh "$@" > $folder/printed 2>&1
echo $? > $folder/status.new && mv $folder/status.new $folder/status
"""


@contextmanager
def cron_at_work(spool: Path) -> Iterator[None]:
    """Run the real cron on the crontabs in a folder, and on nothing else."""
    if os.geteuid() != 0:
        pytest.skip("only root can run cron apart from the machine's own")
    cron, unshare = require_program("cron"), require_program("unshare")
    real_spool = Path("/var/spool/cron/crontabs")
    apart = [unshare, "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL"]
    if not real_spool.is_dir() or not Path("/etc/crontab").exists():
        pytest.skip("this is not Debian's cron")
    if subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("there are no namespaces to be had here")
    process = subprocess.Popen(
        [*apart, "/bin/sh", "-c", START_CRON, "cron", spool, real_spool, cron],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        assert process.poll() is None, "cron died"
    finally:
        process.kill()
        process.wait()


def test_debians_cron_runs_the_line_silently_and_prints_one_line_when_it_fails(
    template: Path, memctl: Memctl, tmp_path: Path
) -> None:
    schedule = []
    for name in ("good", "missing"):
        folder = tmp_path / name / "50% of it"
        folder.mkdir(parents=True)
        shutil.copyfile(template, folder / "harness.db")
        shell = tmp_path / name / "shell"
        shell.write_text(RECORDING_SHELL.format(folder=shell.parent))
        shell.chmod(0o755)
        printed = memctl.ok("schedule", "--cron", "--db", str(folder / "harness.db")).out
        every_minute = crontab_lines(printed)[0].replace("7,22,37,52 ", "* ", 1)
        schedule += [f"SHELL={shell}", every_minute]
    database = tmp_path / "good" / "50% of it" / "harness.db"
    missing = tmp_path / "missing" / "50% of it" / "harness.db"
    missing.unlink()
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "root").write_text("\n".join([*schedule, ""]))
    (spool / "root").chmod(0o600)
    statuses = [tmp_path / name / "status" for name in ("good", "missing")]

    with cron_at_work(spool):
        eventually(lambda: all(status.exists() for status in statuses), within=180)

    assert [status.read_text() for status in statuses] == ["0\n", "10\n"]
    assert (tmp_path / "good" / "printed").read_bytes() == b""
    assert jobs_run(database) == list(JOBS)
    assert (tmp_path / "missing" / "printed").read_text() == (
        f"memctl: there is no database at {missing};"
        " check --db, or create one with `memctl migrate`\n"
    )


# The real systemd


def verify(folder: Path, installation: Installation) -> "subprocess.CompletedProcess[str]":
    """Run `systemd-analyze verify` on the units of an installation."""
    program = require_program("systemd-analyze")
    files: list[Path] = []
    for name, text in systemd_units(installation).items():
        files.append(folder / name)
        files[-1].write_text(text)
    return subprocess.run(
        [program, "verify", "--man=no", *files], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", [*ODD_NAMES, "back\\slash", "ends with \\"])
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path, name: str) -> None:
    program = tmp_path / re.sub(r"['\"\\]", "", name) / "memctl"
    program.parent.mkdir()
    program.touch(mode=0o755)
    installation = SAMPLE._replace(
        program=[str(program)], databases=[tmp_path / name / "harness.db"], owner="root"
    )

    verified = verify(tmp_path, installation)

    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


def test_systemd_finds_nothing_wrong_with_the_units_for_a_server(tmp_path: Path) -> None:
    program = tmp_path / "memctl"
    program.touch(mode=0o755)
    server = ServerAddress("postgresql://u:x%20y@h1,h2/d?application_name=a%20b$")
    installation = SAMPLE._replace(program=[str(program)], databases=[server], owner="root")

    verified = verify(tmp_path, installation)

    services = [text for name, text in systemd_units(installation).items() if "memctl.s" in name]
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")
    assert "memctl-backup.service" not in systemd_units(installation)
    assert all("PrivateNetwork=no\n" in text for text in services)
    assert all("ReadWritePaths=\n" in text for text in services)
    assert all("ProtectHome=read-only\n" in text for text in services)  # for ~/.pgpass


def test_a_unit_can_reach_the_socket_of_a_local_server() -> None:
    server = ServerAddress("postgresql:///d?host=/tmp/sockets")

    units = systemd_units(SAMPLE._replace(databases=[server]))

    assert "PrivateTmp=no\n" in units["memctl.service"]


@pytest.mark.parametrize("name", ["it's", '"quoted"', "back\\slash"])
def test_a_program_path_that_systemd_cannot_start_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="systemd cannot start a program"):
        systemd_units(SAMPLE._replace(program=[f"/opt/{name}/memctl"]))


@pytest.mark.parametrize(
    "installation",
    [
        pytest.param(SAMPLE, id="the sample"),
        pytest.param(
            SAMPLE._replace(
                owner="root",
                databases=[Path("/root/h.db")],
                reads=[Path("/tmp/venv")],  # noqa: S108
            ),
            id="root's, in a home directory, by a program in a temporary one",
        ),
    ],
)
def test_systemd_rates_the_exposure_of_the_services_as_low(
    tmp_path: Path, installation: Installation
) -> None:
    program = require_program("systemd-analyze")
    for name, text in systemd_units(installation).items():
        if name.endswith(".service"):
            (tmp_path / name).write_text(text)
    services = sorted(tmp_path.iterdir())

    rated = [
        subprocess.run(
            [program, "security", "--offline=true", "--threshold=20", file],
            capture_output=True,
            text=True,
            check=False,
        )
        for file in services
    ]

    assert len(services) == 4
    assert [ran.stdout for ran in rated if ran.returncode] == []


@pytest.mark.parametrize(
    ("scheduled", "times"),
    [
        pytest.param(RUN, ["22 09:07", "22 09:22", "22 09:37", "22 09:52"], id="run"),
        pytest.param(COMMANDS[1], ["23 04:30", "24 04:30"], id="backup"),
        pytest.param(COMMANDS[2], ["23 05:45", "24 05:45"], id="check"),
    ],
)
def test_systemd_and_cron_start_commands_at_the_same_times(
    scheduled: ScheduledCommand, times: list[str]
) -> None:
    program = require_program("systemd-analyze")

    ran = subprocess.run(
        [
            program,
            "calendar",
            f"--iterations={len(times)}",
            "--base-time=2026-11-22 09:00 UTC",
            scheduled.calendar,
        ],
        env={"TZ": "UTC"},
        capture_output=True,
        text=True,
        check=True,
    )

    found = re.findall(r"(?:Next elapse|Iter.*): .*-(\d\d \d\d:\d\d):00 UTC", ran.stdout)
    minutes, hours, *days = scheduled.cron.split()
    assert found == times
    assert {int(time[-2:]) for time in times} == set(map(int, minutes.split(",")))
    assert hours in ("*", *(str(int(time[3:5])) for time in times))
    assert days == ["*", "*", "*"]
