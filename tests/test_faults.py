"""Every command under faults of disks, locks and limits: the right exit code, and no damage.

Here are the faults that all commands meet together, each with a database of its own. Those of wrong
files and input are in `test_bad_input`, kills in `test_crashes`; `TESTED_BY` lists them all.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from memctl.cli.program import MODULES
from tests.support.commands import COMMANDS, NEED_NO_DATABASE, READING
from tests.support.database import connect, insert_memory, is_sound, memory_tables
from tests.support.disks import fill_disk
from tests.support.locks import lock_file, write_lock
from tests.support.program import NOW, Answer, Memctl

ROOT = Path(__file__).parent.parent
# Commands that take --lock-wait; those that only read wait for ten seconds.
PATIENT = {*COMMANDS} - {*READING, "recall"} | {"backup"}
FILES = {"harness.db", "harness.db-wal", "harness.db-shm", "harness.db.memctl.lock"}
UNTOUCHED = "SELECT value FROM agent_memory WHERE id = 'of another'"  # by all commands
WRITE_OVER = "UPDATE agent_memory SET value = ? WHERE id = 'of another'"


@pytest.mark.parametrize("name", [name for names in MODULES.values() for name in names])
def test_every_command_is_tested(name: str) -> None:
    known = {words[0] for words in (*COMMANDS.values(), *NEED_NO_DATABASE.values())}

    assert name.rstrip("_") in known, (
        f"`memctl {name}` meets no faults: add how it succeeds to COMMANDS in test_bad_input.py"
        " (and to READING if it writes nothing), or to NEED_NO_DATABASE if it opens none"
    )


# Faults


@contextmanager
def kept_by_another(path: Path) -> Iterator[None]:
    """Let another program hold an exclusive lock on the database."""
    with closing(connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("BEGIN EXCLUSIVE")
        yield


@contextmanager
def foreign_trigger(path: Path) -> Iterator[None]:
    """Put another program's trigger on the table of memories."""
    with closing(connect(path)) as db:
        db.execute(
            "CREATE TRIGGER theirs AFTER DELETE ON agent_memory"
            " BEGIN UPDATE agent_memory SET value = ''; END"
        )
    yield


@contextmanager
def log_left_behind(path: Path) -> Iterator[None]:
    """Leave the files of a program that was killed right after a commit."""
    with closing(connect(path)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute(WRITE_OVER, ("committed",))
        take_files(path, "-wal")
    put_back(path, "-wal")
    yield


@contextmanager
def journal_left_behind(path: Path) -> Iterator[None]:
    """Leave the files of a program that was killed in a transaction, in the older journal mode."""
    with closing(connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA cache_size = 1")  # so that the file is written before the commit
        db.execute("BEGIN")
        db.execute(WRITE_OVER, ("half done" * 10_000,))
        take_files(path, "-journal")
        db.execute("ROLLBACK")
    put_back(path, "-journal")
    assert b"half done" in path.read_bytes()
    yield


def take_files(path: Path, *others: str) -> None:
    """Copy the current files of a database."""
    for suffix in ("", *others):
        shutil.copyfile(f"{path}{suffix}", f"{path}{suffix}.taken")


def put_back(path: Path, *others: str) -> None:
    """Put the copies back in place."""
    for suffix in ("", *others):
        Path(f"{path}{suffix}.taken").replace(f"{path}{suffix}")


def all_is_well(_path: Path) -> AbstractContextManager[None]:
    """Do nothing: the fault is not in the files."""
    return nullcontext()


@dataclass(frozen=True)
class Fault:
    """A fault, and how commands end with it."""

    name: str  # as in docs/reference/faults.md
    otherwise: int  # the exit code of commands that are not in `codes`
    codes: Mapping[str, int] = field(default_factory=dict)
    text: str = ""  # a part of every error
    make: Callable[[Path], AbstractContextManager[object]] = all_is_well
    limits: tuple[tuple[str, int], ...] = ()
    untouched: str = "cache the toolchain"


STILL_READ = dict.fromkeys(READING, 0)

FAULTS = [
    Fault(
        "another program writes for too long",
        11,
        {**STILL_READ, "migrate": 0},  # nothing to migrate
        text="is locked by another program",
        make=write_lock,
    ),
    Fault(
        "another program holds the database exclusively",
        11,
        text="is locked by another program",
        make=kept_by_another,
    ),
    Fault(
        "another memctl is running",
        11,
        {
            **STILL_READ,
            # One statement on one memory needs no lock of memctl's own.
            **dict.fromkeys(("remember", "recall", "forget", "forget all", "pause", "resume"), 0),
            "backup": 11,
        },
        text="another memctl process is using",
        make=lock_file,
    ),
    Fault(
        "a trigger of another program that writes to the memories",
        12,
        {
            "migrate": 0,
            "migrate preview": 0,
            "migrate sql": 0,
            "rollback": 0,
            "rollback preview": 0,
            "rollback sql": 0,
            "status": 0,
            "backup": 0,
            "backup preview": 0,
            "check": 3,
        },
        text="the trigger theirs of another program would write to agent_memory",
        make=foreign_trigger,
    ),
    Fault(
        "a write-ahead log that a killed program left",
        0,
        make=log_left_behind,
        untouched="committed",
    ),
    Fault(
        "a hot journal that a killed program left",
        0,
        {"check": 3},  # of the journal mode
        make=journal_left_behind,
    ),
    Fault(
        "no file may grow (quota, `ulimit -f`)",
        1,
        text="cannot be read or written",
        limits=(("fsize", 0),),
    ),
    Fault(
        "too few open files (`ulimit -n`)",
        1,
        text="open",  # SQLite does not report why it cannot open one
        limits=(("nofile", 5),),  # 0 to 2, and two of the three that SQLite needs
    ),
]
FULL_DISK = Fault("the disk is full", 1, text="full")
READ_ONLY_DISK = Fault("a read-only file system", 1, text="writable")


def run_with_fault(
    fault: Fault, folder: Path, origin: Path, trouble: Callable[[], object]
) -> list[str]:
    """Run every command with a fault; returns what they did wrong."""
    before = memory_tables(origin)
    programs = {}
    for name in COMMANDS:
        (folder / name).mkdir()
        programs[name] = Memctl(folder / name / "harness.db", limits=fault.limits)
        shutil.copyfile(origin, programs[name].database)

    def run(name: str) -> Answer:
        patience = ("--lock-wait", "0.1") if name in PATIENT else ()
        return programs[name](*COMMANDS[name], *patience, "--json")

    with ExitStack() as stack, ThreadPoolExecutor(16) as pool:  # some wait for ten seconds
        for program in programs.values():
            stack.enter_context(fault.make(program.database))
        trouble()
        answers = dict(zip(programs, pool.map(run, programs), strict=True))
        wrong = [
            f"{name}: {problem}"
            for name, answer in answers.items()
            if (problem := wrong_answer(fault, fault.codes.get(name, fault.otherwise), answer))
        ]
    repair(folder)
    for name, program in programs.items():
        with closing(connect(program.database)) as db:
            if not is_sound(db) or db.execute(UNTOUCHED).fetchone() != (fault.untouched,):
                wrong.append(f"{name}: it did harm")
        if answers[name].exit_code not in (0, 3):
            files = {file.name for file in program.database.parent.iterdir()}
            if memory_tables(program.database) != before or not files <= FILES:
                wrong.append(f"{name}: it failed, and left {files} or a change")
    return wrong


def wrong_answer(fault: Fault, exit_code: int, answer: Answer) -> str:
    """Return what is wrong with an answer, or nothing."""
    if answer.exit_code != exit_code or "Traceback" in answer.err:
        return f"{exit_code} was expected, not {answer}"
    if exit_code in (0, 3):
        return ""
    error = json.loads(answer.err)["error"]
    expected = error["exit_code"] == exit_code and fault.text in error["message"] + error["hint"]
    return "" if expected else f"it should contain {fault.text!r}: {answer}"


def repair(folder: Path) -> None:
    """Make the disk usable again if the folder is one."""
    if folder.is_mount():
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
        (folder / "filler").unlink(missing_ok=True)


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_every_command_fails_cleanly_with_a_fault(
    fault: Fault,
    prepared: Path,
    tmp_path: Path,
) -> None:
    assert run_with_fault(fault, tmp_path, prepared, lambda: None) == []


def test_every_command_fails_cleanly_on_a_full_disk(
    prepared: Path,
    small_disk: Path,
) -> None:
    assert (
        run_with_fault(FULL_DISK, small_disk, prepared, lambda: fill_disk(small_disk, room=0)) == []
    )


def test_every_command_fails_cleanly_on_a_read_only_file_system(
    prepared: Path,
    small_disk: Path,
) -> None:
    def lock_disk() -> None:
        subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    assert run_with_fault(READ_ONLY_DISK, small_disk, prepared, lock_disk) == []


def test_every_command_fails_cleanly_when_memory_runs_out(
    prepared: Path,
    tmp_path: Path,
) -> None:
    program = Memctl(tmp_path / "harness.db", NOW, ("prlimit", "--as=150000000"))
    shutil.copyfile(prepared, program.database)
    with closing(connect(program.database)) as db:
        insert_memory(db, id="vast", key="vast", expires_at="2026-11-22")
        db.execute("UPDATE agent_memory SET value = hex(zeroblob(40000000)) WHERE id = 'vast'")
    commands: list[tuple[str, ...]] = [
        ("cleanup",),
        ("run",),
        ("list", "build_agent"),
        ("recall", "build_agent", "learning", "vast"),
        ("forget", "build_agent", "learning", "vast"),
        ("export", "build_agent"),
        ("rollback", "--to", "1", "--yes"),
    ]

    answers = [program(*words) for words in commands]

    with closing(connect(program.database)) as db:
        assert is_sound(db)
        (length,) = db.execute(
            "SELECT length(value) FROM agent_memory WHERE id = 'vast'"
        ).fetchone()
    assert length == 80_000_000
    assert [answer.exit_code for answer in answers] == [1] * len(commands)
    for answer in answers:
        assert answer.err.startswith("memctl: ")
        assert "out of memory; " in answer.err
        assert answer.err.count("\n") == 1


# The table of all faults in the documentation

# The faults of docs/reference/faults.md that are not in FAULTS, and the tests that cause them.
TESTED_BY = {
    "the connection is lost, or the server stops, in a job": (
        "test_lost_connection_is_one_line_and_the_next_run_completes",
        "test_server_that_is_restarted_between_two_commands",
    ),
    "the primary fails in a job, and a standby is promoted": (
        "test_primary_that_fails_in_a_job_is_replaced_by_its_standby",
    ),
    "another memctl runs jobs on the same server": (
        "test_run_that_loses_the_race_is_silent_and_other_commands_are_not",
    ),
    "memctl is stopped in a batch for two seconds": (
        "test_holder_that_was_stopped_is_replaced_and_does_no_harm",
    ),
    "memctl is stopped between two batches, and another one takes over": (
        "test_holder_whose_lease_was_taken_between_two_batches_ends",
    ),
    "memctl is killed": (
        "test_cleanup_that_is_killed_loses_nothing",
        "test_after_a_kill_every_memory_is_in_one_place_and_the_next_run_completes_the_work",
    ),
    "transactions conflict (`SERIALIZABLE`, deadlocks), or a row is locked for half a second": (
        "test_serializable_transactions_of_clients_and_jobs_are_exact",
    ),
    "a database that a newer memctl has migrated": ("test_older_program_refuses_a_newer_schema",),
    "no file, or no directory, at that path": (
        "test_a_missing_database_is_named_and_not_created",
        "test_a_missing_directory_is_not_created",
    ),
    "a directory in its place": ("test_a_directory_is_not_a_database",),
    "a file that is not a database, or an encrypted one": (
        "test_a_file_that_is_not_a_database_is_refused_and_unchanged",
    ),
    "an empty file, or a database that was never migrated": (
        "test_an_empty_file_has_no_schema_yet",
        "test_an_unmigrated_database_is_refused_and_unchanged",
    ),
    "an impossible path: too long, or a loop of links": (
        "test_an_impossible_path_is_an_error_of_one_line",
    ),
    "a truncated file, or damaged pages": (
        "test_a_truncated_database_is_damaged",
        "test_a_database_with_overwritten_pages_is_damaged",
    ),
    "damage in one index": ("test_a_job_that_fails_does_not_stop_the_rest",),
    "a file that may not be read, or only be read": (
        "test_an_unreadable_file_is_named",
        "test_a_read_only_file_is_named_and_not_changed",
        "test_a_read_only_database_can_be_read",
    ),
    "another user, who can write the directory but not the database": (
        "test_a_user_who_cannot_write_the_database_leaves_nothing_beside_it",
        "test_another_user_reads_while_the_service_has_the_database_open",
    ),
    "root runs memctl": ("test_files_created_by_root_belong_to_the_owner_of_the_directory",),
    "a link in the place of a file to be written": (
        "test_root_does_not_follow_links_of_other_users",
        "test_a_link_in_place_of_a_draft_changes_the_owner_of_no_file",
    ),
    "a read-only directory": ("test_a_read_only_directory_is_named_and_nothing_changes",),
    "no home directory, and nothing that names a database": (
        "test_without_a_home_directory_the_error_suggests_the_db_option",
    ),
    "the current directory was removed": (
        "test_a_removed_current_directory_is_an_error_of_one_line",
    ),
    "the disk is full": (
        "test_every_command_fails_cleanly_on_a_full_disk",
        "test_a_command_stopped_by_a_full_disk_works_when_there_is_space",
    ),
    "the disk is full while `erase` rewrites the file": (
        "test_a_full_disk_leaves_the_overwriting_for_later",
    ),
    "a reader keeps the write-ahead log while `erase` empties it": (
        "test_a_reader_of_the_log_delays_the_end",
    ),
    "the disks have too little space for a rewrite of the file by `compact`": (
        "test_a_full_disk_changes_nothing",
    ),
    "the disk fills up between two batches": (
        "test_a_disk_filled_up_between_batches_loses_and_duplicates_nothing",
    ),
    "no directory for temporary files can be written": (
        "test_temporary_files_go_beside_the_database_where_no_other_directory_exists",
    ),
    "a system call is refused while memctl writes a file of its own": (
        "test_each_failed_call_is_one_error_line_and_leaves_nothing_half_written",
    ),
    "too little memory": ("test_every_command_fails_cleanly_when_memory_runs_out",),
    "an output that is closed or full": (
        "test_closed_streams_are_not_an_error",
        "test_an_output_on_a_full_device_is_an_error_of_one_line",
    ),
    "another program writes in between": (
        "test_the_service_and_a_command_running_together_lose_nothing",
    ),
    "memctl itself is killed": (
        "test_a_killed_atomic_import_is_complete_or_had_no_effect",
        "test_a_killed_migration_ends_at_a_whole_step_with_no_memory_changed",
    ),
    "a trigger of another program that skips or refuses a row, or cannot run here": (
        "test_a_trigger_that_interferes_is_an_error_and_loses_nothing",
        "test_a_trigger_that_cannot_run_here_ends_a_job_with_one_line",
    ),
    "a constraint that rejects a change by memctl": (
        "test_a_violated_constraint_of_the_service_is_an_error_of_one_line",
    ),
    "the alert command or a hook is missing, fails or prints something": (
        "test_a_failing_command_is_reported_in_one_line_and_the_job_succeeds",
        "test_a_failing_hook_is_one_warning_and_the_job_succeeds",
        "test_a_failing_hook_leaves_the_exit_code_of_a_failure",
    ),
    "the alert command or a hook takes longer than ten seconds": (
        "test_a_failing_command_is_reported_in_one_line_and_the_job_succeeds",
        "test_a_failing_hook_is_one_warning_and_the_job_succeeds",
    ),
    "a signal while such a program runs": (
        "test_a_signal_also_stops_the_command",
        "test_a_signal_ends_memctl_and_the_hook",
    ),
    "the heartbeat is refused, redirected or not answered within ten seconds": (
        "test_an_unsuccessful_answer_is_one_warning",
        "test_a_slow_server_is_abandoned",
    ),
    "the report cannot be written": (
        "test_a_report_that_cannot_be_written_is_a_failed_run_beside_the_others",
        "test_a_report_that_failed_is_written_an_hour_later",
    ),
    "`run` is killed while it writes the report": (
        "test_a_report_that_was_killed_is_written_by_a_later_run",
    ),
    "a table with other constraints or collations, or a UTF-16 database": (
        "test_a_table_that_differs_from_the_services_is_refused",
        "test_a_database_that_is_not_utf8_is_refused",
    ),
    "an unknown column, a newer or a changed schema": (
        "test_an_unknown_column_is_refused",
        "test_a_newer_or_changed_schema_is_refused_and_unchanged",
    ),
    "a clock more than an hour behind the last run": (
        "test_a_clock_more_than_an_hour_back_is_refused",
    ),
    "a clock over 60 days ahead of the last run and of the service's writes": (
        "test_a_clock_over_60_days_ahead_of_runs_and_writes_is_refused",
    ),
    "a clock in an impossible year": ("test_an_invalid_value_is_a_usage_error",),
    "an invalid configuration": ("test_a_wrong_configuration_stops_every_command",),
    "the package that detects secrets is not installed": (
        "test_without_the_package_one_line_says_how_to_install_it",
    ),
    "a failure that cannot be recorded in the database": (
        "test_a_run_that_cannot_start_its_jobs_raises_an_alert_and_is_recorded",
    ),
}


def test_the_table_of_faults_is_complete_and_each_fault_is_tested() -> None:
    page = (ROOT / "docs" / "reference" / "faults.md").read_text(encoding="utf-8")
    described, _, _beyond_tests = page.partition("\n## Outside of memctl's control\n")
    named = re.findall(r"^\| (?!fault |---)(.*?) \| .* \|$", described, re.MULTILINE)
    tests = "".join(file.read_text("utf-8") for file in (ROOT / "tests").glob("test_*.py"))
    known = {*re.findall(r"^def (test_\w+)", tests, re.MULTILINE)}

    assert {*named} == {fault.name for fault in (*FAULTS, FULL_DISK, READ_ONLY_DISK)} | {*TESTED_BY}
    assert {name for names in TESTED_BY.values() for name in names} <= known
    assert all(TESTED_BY.values())
