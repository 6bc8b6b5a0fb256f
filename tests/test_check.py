"""Check: it finds every problem, and nothing in a healthy database."""

import fcntl
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from memctl.insight import check as checking
from memctl.storage.sqlite.locking import lock_path
from memctl.storage.sqlite.memory_checks import PORTION_ROWS
from tests.support.alerts import SERVICE_EVENTS, fail, take_snapshot
from tests.support.database import ALL_STEPS, connect, everything, insert_memory, rows
from tests.support.locks import locked
from tests.support.program import NOW, Answer, Memctl
from tests.support.service import Service

DAY = timedelta(days=1)

RUN = """
    INSERT INTO memory_runs (job, started_at, status, error, counts, memctl_version, host, pid)
    VALUES ('{job}', '{at}', '{status}', {error}, {counts}, '0.1.0', 'h', 1);
"""


def run(job: str, at: str, status: str, *, error: str = "NULL", counts: str = "NULL") -> str:
    """Return SQL for a run in the ledger."""
    return RUN.format(job=job, at=at, status=status, error=error, counts=counts)


def found(answer: Answer) -> list[tuple[str, str]]:
    """Return severity and code of every finding, except the one for the missing backup."""
    return [
        (finding["severity"], finding["code"])
        for finding in answer.json["findings"]
        if finding["code"] != "no_backup"
    ]


def message(answer: Answer, code: str) -> str:
    """Return the message of the only finding with a code."""
    (text,) = (one["message"] for one in answer.json["findings"] if one["code"] == code)
    return str(text)


def test_a_well_maintained_database_has_no_findings(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, expires_at="2027-01-01 00:00:00")
    insert_memory(db, expired_for=DAY)
    for job in ("cleanup", "decay", "prune"):
        migrated.ok(job)

    for depth in ([], ["--quick"], ["--full"]):
        answer = migrated.ok("check", "--json", *depth)
        assert found(answer) == []
        assert answer.json["ok"] is True


@pytest.mark.parametrize(
    ("change", "severity", "code"),
    [
        pytest.param(
            "UPDATE agent_memory SET expires_at = 'soon'",
            "warning",
            "expiry_unreadable",
            id="an unreadable expiry",
        ),
        pytest.param(
            "UPDATE agent_memory SET last_accessed = 'whenever'",
            "warning",
            "access_unreadable",
            id="an unreadable last access",
        ),
        pytest.param(
            "UPDATE agent_memory SET created_at = '2026-02-30 12:00:00'",
            "warning",
            "creation_unreadable",
            id="created on 30 February",
        ),
        pytest.param(
            "UPDATE agent_memory SET created_at = NULL",
            "warning",
            "creation_unreadable",
            id="no time of creation",
        ),
        pytest.param(
            "UPDATE agent_memory SET last_decay_at = 'now'",
            "warning",
            "decay_unreadable",
            id="an unreadable last decay",
        ),
        pytest.param(
            "UPDATE agent_memory SET expires_at = '+058870-01-01T00:00:00.000Z'",
            "warning",
            "expiry_far",
            id="an expiry in milliseconds",
        ),
        pytest.param(
            "UPDATE agent_memory SET importance = 'high'",
            "warning",
            "importance_no_number",
            id="importance in words",
        ),
        pytest.param(
            "UPDATE agent_memory SET importance = NULL",
            "warning",
            "importance_no_number",
            id="no importance",
        ),
        pytest.param(
            "UPDATE agent_memory SET last_accessed = '2026-11-23 09:43:59'",
            "warning",
            "time_to_come",
            id="read tomorrow",
        ),
        pytest.param(
            "UPDATE agent_memory SET created_at = '+002026-11-23T09:43:59.000Z'",
            "warning",
            "time_to_come",
            id="created tomorrow",
        ),
        pytest.param(
            "UPDATE agent_memory SET type = 'task:blocker'", "info", "type_unknown", id="type"
        ),
        pytest.param(
            "INSERT INTO archived_memories"
            " (id, agent_id, type, key, value, archived_at, archived_reason)"
            " SELECT id, 'a', 't', 'k', 'v', '2026-11-22T00:00:00Z', 'manual' FROM agent_memory",
            "error",
            "in_both_places",
            id="active and archived",
        ),
        pytest.param(
            "ALTER TABLE agent_memory ADD COLUMN mood TEXT", "error", "schema", id="a column"
        ),
        pytest.param(
            "UPDATE memctl_migrations SET sha256 = 'another' WHERE version = 2",
            "error",
            "schema",
            id="a checksum",
        ),
        pytest.param(
            "CREATE TRIGGER t AFTER INSERT ON agent_memory BEGIN DELETE FROM agent_memory; END",
            "error",
            "schema",
            id="a foreign trigger",
        ),
        pytest.param(
            run("cleanup", "2026-11-20T09:43:57Z", "ok"), "warning", "overdue", id="overdue"
        ),
        pytest.param(
            run("prune", "2026-11-22T09:00:00Z", "refused", error="'too much'"),
            "warning",
            "refused",
            id="refused",
        ),
        pytest.param(
            run("decay", "2026-11-22T09:00:00Z", "failed", error="'no'"),
            "warning",
            "failing",
            id="a failure",
        ),
        pytest.param(
            run("decay", "2026-11-22T09:00:00Z", "failed", error="'no'") * 3,
            "error",
            "failing",
            id="three failures",
        ),
        pytest.param(
            run("archive", "2026-11-22T09:00:00Z", "running"), "warning", "crashed", id="a crash"
        ),
        pytest.param(
            run("archive", "2026-11-22T09:00:00Z", "running")
            + run("archive", "2026-11-22T09:10:00Z", "ok"),
            "info",
            "crashed",
            id="a crash followed by a success",
        ),
        pytest.param(
            run("cleanup", "2026-11-22T09:00:00Z", "ok", counts="""'{"archived": 101}'"""),
            "info",
            "drop",
            id="a run that archived nearly all",
        ),
        pytest.param("PRAGMA journal_mode = DELETE", "warning", "journal_mode", id="journal"),
    ],
)
def test_every_problem_is_found(
    service: Service,
    db: sqlite3.Connection,
    migrated: Memctl,
    change: str,
    severity: str,
    code: str,
) -> None:
    service.close()
    insert_memory(db)
    db.executescript(change)
    before = everything(migrated.database)

    answer = migrated("check", "--json")

    assert found(answer) == [(severity, code)]
    assert answer.exit_code == (0 if severity == "info" else 3)
    assert everything(migrated.database) == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("UPDATE agent_memory SET expires_at = '2126-11-01 00:00:00'", id="a century"),
        pytest.param("UPDATE agent_memory SET expires_at = '1999-01-01'", id="long expired"),
        pytest.param("UPDATE agent_memory SET importance = -3.5", id="negative importance"),
        pytest.param("UPDATE agent_memory SET last_accessed = '2026-11-23 09:43:58'", id="a day"),
        pytest.param("UPDATE agent_memory SET last_accessed = NULL", id="never read"),
        pytest.param(run("cleanup", "2026-11-20T09:43:58Z", "ok"), id="two days ago"),
        pytest.param(run("prune", "2026-11-07T09:43:58Z", "ok"), id="two weeks ago"),
        pytest.param(run("import", "2020-11-07T09:43:58Z", "ok"), id="a job that is not scheduled"),
        pytest.param(run("restore", "2026-11-07T09:43:58Z", "failed"), id="failed by hand"),
    ],
)
def test_a_valid_database_has_no_findings(
    db: sqlite3.Connection, migrated: Memctl, change: str
) -> None:
    insert_memory(db)
    db.executescript(change)

    assert found(migrated.ok("check", "--json")) == []


def test_findings_count_memories_in_all_portions_and_name_the_first(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    db.execute("BEGIN")
    for number in range(PORTION_ROWS + 2):
        insert_memory(db, key=str(number), expires_at="soon" if number > 17 else None)
    db.execute("COMMIT")

    answer = migrated("check", "--json")

    assert message(answer, "expiry_unreadable") == (
        "memories whose expires_at is not a time never expire: "
        f"{PORTION_ROWS - 16}, the first 'build_agent' learning '18'"
    )
    assert answer.json["memories"] == PORTION_ROWS + 2


def test_with_an_unreadable_created_at_only_unread_memories_do_not_decay(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    read = insert_memory(db, created_at="soon", last_accessed="2026-10-01 00:00:00")
    insert_memory(db, created_at="soon", last_accessed=None)

    printed = migrated("check").out
    migrated.ok("decay")

    assert "memories whose created_at is not a time" in printed
    assert "without last_accessed, do not decay: 2, the first" in printed
    fallen = db.execute("SELECT id FROM agent_memory WHERE importance < 5").fetchall()
    assert fallen == [(read,)]


def test_archived_memories_that_are_never_pruned_are_counted(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    for number in range(4):
        insert_memory(db, id=str(number), expired_for=DAY)
    migrated.ok("cleanup")
    db.execute("UPDATE archived_memories SET archived_at = 'soon' WHERE id IN ('1', '3')")
    db.execute("UPDATE archived_memories SET archived_at = '2026-11-01 00:00:00' WHERE id = '2'")

    answer = migrated("check", "--json")

    assert answer.exit_code == 3
    assert found(answer) == [("warning", "archive_time_unreadable")]
    assert message(answer, "archive_time_unreadable") == (
        "archived memories whose archived_at is not a time are never pruned: 2, "
        "the first '1' of 'build_agent'"
    )


def test_spooled_failures_are_counted(db: sqlite3.Connection, migrated: Memctl) -> None:
    db.executescript(run("cleanup", "2026-11-22T09:00:00Z", "failed"))
    with locked(migrated.database):
        fail(migrated)
        fail(migrated)

    answer = migrated("check", "--json")

    assert found(answer) == [("error", "failing")]
    assert message(answer, "failing").startswith("cleanup has failed 3 times in a row: ")


def test_a_clock_behind_the_newest_run_is_found(db: sqlite3.Connection, migrated: Memctl) -> None:
    db.executescript(run("decay", "2026-11-22T11:00:00Z", "ok"))

    answer = migrated("check", "--json")

    assert found(answer) == [("error", "clock"), ("warning", "stamp_to_come")]


def test_growth_and_drops_are_found(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path
) -> None:
    configuration = tmp_path / "memctl.toml"
    configuration.write_text("[alerts]\nagent_memories = 2\n")
    for _ in range(3):
        insert_memory(db)
    take_snapshot(db, "2026-11-21", 300)

    answer = migrated("check", "--json", "--config", str(configuration))

    assert found(answer) == [("error", "drop"), ("warning", "growth")]
    assert message(answer, "growth") == "agent 'build_agent' has 3 memories, over 2"
    assert message(answer, "drop") == ("the number of active memories fell from 300 to 3")


@pytest.mark.parametrize(
    ("days", "options", "severity"),
    [
        pytest.param(1, ["--for", "9d"], "info", id="with an end"),
        pytest.param(1, [], "info", id="for a day"),
        pytest.param(1.1, [], "warning", id="forgotten"),
    ],
)
def test_a_pause_is_reported_and_a_forgotten_one_is_a_warning(
    migrated: Memctl, days: float, options: list[str], severity: str
) -> None:
    migrated.ok("pause", "--reason", "moving", *options)

    answer = migrated.at(NOW + timedelta(days=days))("check", "--json")

    assert found(answer) == [(severity, "paused")]
    assert "moving" in message(answer, "paused")


def test_the_age_of_backups_is_taken_from_their_names(migrated: Memctl, path: Path) -> None:
    checks = []
    for name in (
        "harness.db.before-migrate-20261113T094358Z",
        "harness.db.backup-20261113T094358Z",
        "harness.db.backup-20261113T094358Z.json",
        "harness.db.backup-20261115T094358Z-2",
        "other.db.backup-20200101T000000Z",
    ):
        path.with_name(name).touch()
        findings = migrated("check", "--json").json["findings"]
        checks.append([(finding["severity"], finding["code"]) for finding in findings])

    assert checks == [
        [("info", "backup_age")],
        [("warning", "backup_age")],
        [("warning", "backup_age")],
        [],
        [],
    ]


def test_backups_from_the_future_do_not_count_as_the_newest(migrated: Memctl, path: Path) -> None:
    path.with_name("harness.db.backup-20361113T094358Z").touch()
    path.with_name("harness.db.backup-20261101T094358Z").touch()
    migrated.at(NOW + timedelta(days=1)).ok("backup")
    path.with_name("harness.db.backup-20261123T094358Z").rename(
        path.with_name("harness.db.backup-20261120T094358Z")
    )
    path.with_name("harness.db.backup-20261123T094358Z.json").rename(
        path.with_name("harness.db.backup-20261120T094358Z.json")
    )

    findings = migrated("check", "--json").json["findings"]

    assert [(finding["code"], finding["message"]) for finding in findings] == [
        (
            "backup_in_future",
            "the backup harness.db.backup-20261120T094358Z has a time in the future",
        ),
        (
            "backup_in_future",
            "the backup harness.db.backup-20361113T094358Z has a time in the future",
        ),
        ("backup_age", "the newest backup beside the database is 21 days old"),
    ]


def test_a_bridge_without_a_suitable_table_is_found(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path
) -> None:
    configuration = tmp_path / "memctl.toml"
    configuration.write_text("[observability]\nevents = true\n")
    options = ["--json", "--config", str(configuration)]

    missing = migrated("check", *options)
    db.execute("CREATE TABLE observability_events (id, message)")
    another = migrated("check", *options)
    db.execute("DROP TABLE observability_events")
    db.execute(SERVICE_EVENTS.format(id="TEXT"))
    right = migrated("check", *options)

    assert found(missing) == found(another) == [("warning", "service_events")]
    assert message(another, "service_events") == (
        "runs are not recorded in the service's events: observability_events lacks event_type, "
        "agent_id, severity"
    )
    assert found(right) == []


def test_thresholds_can_be_configured(
    db: sqlite3.Connection, migrated: Memctl, path: Path, tmp_path: Path
) -> None:
    configuration = tmp_path / "memctl.toml"
    configuration.write_text("[check]\nbackup_days = 2\noverdue_days = { decay = 9 }\n")
    path.with_name("harness.db.backup-20261118T000000Z").touch()
    for job in ("cleanup", "decay"):
        db.executescript(run(job, "2026-11-15T09:00:00Z", "ok"))

    answer = migrated("check", "--json", "--config", str(configuration))

    assert found(answer) == [("warning", "overdue"), ("warning", "backup_age")]
    assert message(answer, "overdue") == "cleanup has not succeeded for 7 days"


def test_damage_is_found_by_a_full_check(
    db: sqlite3.Connection, migrated: Memctl, service: Service, path: Path
) -> None:
    for number in range(200):
        insert_memory(db, key=f"{number:04}", value="x" * 500)
    swap_index_entries(db)

    light = migrated("check", "--json")
    full = migrated("check", "--json", "--full")

    assert found(light) == []
    assert {code for _, code in found(full)} == {"damaged"}
    assert full.exit_code == 3


def swap_index_entries(db: sqlite3.Connection) -> None:
    """Make an index disagree with its table, as a damaged disk would."""
    db.execute("PRAGMA writable_schema = ON")
    db.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, '(type)', '(agent_id)')"
        " WHERE name = 'idx_agent_memory_type'"
    )
    db.execute("PRAGMA writable_schema = RESET")


def test_an_unmigrated_database_is_a_finding(path: Path, memctl: Memctl) -> None:
    Service(path).close()

    answer = memctl("check")

    assert answer == Answer(
        3,
        f"error  the schema is out of date: {ALL_STEPS} pending; "
        "run `memctl migrate`\n"
        "info   there is no backup beside the database; run `memctl backup` regularly, unless "
        "backups are made elsewhere\n",
        "",
    )


def test_quiet_omits_informational_findings(db: sqlite3.Connection, migrated: Memctl) -> None:
    insert_memory(db, type="task:blocker")
    insert_memory(db, importance="high", key="k")

    answer = migrated("check", "-q")

    assert answer == Answer(
        3,
        "warning  memories whose importance is not a number neither decay nor are ever "
        "pruned: 1, the first 'build_agent' learning 'k'; change the program that writes them to "
        "use numbers\n",
        "",
    )


# Monitoring


def plugin(answer: Answer) -> tuple[int, str]:
    """Return the exit code and the text before the figures."""
    assert answer.err == ""
    assert answer.out.count("\n") == 1
    return answer.exit_code, answer.out.split("|")[0].rstrip("\n")


def test_nagios_output_has_one_line_and_its_own_exit_codes(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    insert_memory(db, key="a|b")
    fine = migrated("check", "--nagios")
    db.execute("UPDATE agent_memory SET importance = 'high'")
    warned = migrated("check", "--nagios")
    db.executescript(run("decay", "2026-11-22T09:00:00Z", "failed", error="'a' || char(10)") * 3)
    critical = migrated("check", "--nagios")

    assert plugin(fine) == (0, "MEMCTL OK - no problems found")
    size = migrated.database.stat().st_size
    assert fine.out.split("|")[1].split()[:-1] == [
        "memories=1;;;0",
        "errors=0;;;0",
        "warnings=0;;;0",
        f"size={size}B;;;0",
    ]
    assert plugin(warned) == (
        1,
        "MEMCTL WARNING - memories whose importance is not a number neither decay nor "
        "are ever pruned: 1, the first 'build_agent' learning 'a/b'",
    )
    assert plugin(critical)[0] == 2
    assert plugin(critical)[1].startswith(
        "MEMCTL CRITICAL - decay has failed 3 times in a row: a\\n; memories whose "
    )


def test_nagios_output_reports_a_database_that_cannot_be_checked(
    memctl: Memctl, tmp_path: Path
) -> None:
    missing = memctl("check", "--nagios")
    memctl.database.write_text("note")
    no_database = memctl("check", "--nagios")
    wrong = tmp_path / "memctl.toml"
    wrong.write_text("[check]\nbackup_days = 0\n")
    configuration = memctl("check", "--nagios", "--config", str(wrong))

    assert plugin(missing)[0] == plugin(no_database)[0] == 2
    assert plugin(missing)[1].startswith("MEMCTL CRITICAL - there is no database at ")
    assert plugin(configuration)[0] == 3
    assert plugin(configuration)[1].startswith("MEMCTL UNKNOWN - ")


# Fixing


def test_fix_repairs_what_it_can_and_changes_nothing_else(
    db: sqlite3.Connection, migrated: Memctl, path: Path
) -> None:
    migrated.ok("enable", "access-counting")
    migrated.ok("enable", "access-boost")
    insert_memory(db, importance="high")
    db.executescript(
        "DROP TRIGGER memctl_access_counting; DROP TRIGGER memctl_access_boost;"
        "CREATE TRIGGER memctl_access_boost AFTER UPDATE OF access_count ON agent_memory"
        " BEGIN SELECT 1; END;" + run("archive", "2026-11-22T09:00:00Z", "running")
    )
    draft = path.with_name(".harness.db.before-migrate-20261122T094358Z.abcd1234")
    draft.touch()
    memories = rows(db, "agent_memory")
    before = everything(path)

    preview = migrated("check", "--fix", "-n")
    unchanged = everything(path) == before and draft.exists()
    fixed = migrated("check", "--fix", "--json")
    again = migrated("check", "--fix", "--json")

    assert preview.exit_code == 3
    assert [line for line in preview.out.splitlines() if line.startswith("would")] == [
        "would    enable access-boost again",
        "would    enable access-counting again",
        "would    mark run 1 as failed",
        "would    delete files of interrupted backups: 1",
    ]
    assert unchanged
    assert sorted(fixed.json["fixed"]) == [
        "delete files of interrupted backups: 1",
        "enable access-boost again",
        "enable access-counting again",
        "mark run 1 as failed",
    ]
    assert found(fixed) == found(again) == [("warning", "importance_no_number")]
    assert again.json["fixed"] == []
    assert rows(db, "agent_memory") == memories
    assert rows(db, "memory_runs", "status, finished_at, error") == [
        ("failed", "2026-11-22T09:43:58Z", "it was killed, or the machine stopped")
    ]
    assert not draft.exists()
    triggers = db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger' ORDER BY name")
    assert triggers.fetchall() == [("memctl_access_boost",), ("memctl_access_counting",)]


def test_fix_does_nothing_while_another_memctl_is_running(
    db: sqlite3.Connection, migrated: Memctl, path: Path
) -> None:
    db.executescript(run("archive", "2026-11-22T09:00:00Z", "running") * 2)
    with lock_path(path).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        answer = migrated("check", "--fix", "--lock-wait", "0")

    assert (answer.exit_code, answer.out) == (11, "")
    assert rows(db, "memory_runs", "status") == [("running",), ("running",)]


def test_a_huge_write_ahead_log_is_found_and_checkpointed(
    service: Service,
    db: sqlite3.Connection,
    migrated: Memctl,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from memctl.insight.fixes import fix_findings

    monkeypatch.setattr(checking, "HUGE_WAL_BYTES", 10_000)
    for _ in range(50):
        insert_memory(db, value="x" * 1000)

    before = checking.check(db, path, checking.CheckPolicies(), now=NOW)
    fix_findings(db, path, before.findings, now=NOW)
    after = checking.check(db, path, checking.CheckPolicies(), now=NOW)

    codes = [{finding.code for finding in result.findings} for result in (before, after)]
    assert codes == [{"wal_size", "no_backup"}, {"no_backup"}]
    assert ((before.database.wal_bytes or 0) > 10_000, after.database.wal_bytes) == (True, 0)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--quick", "--full"], id="--quick and --full"),
        pytest.param(["-n"], id="a preview without --fix"),
        pytest.param(["--nagios", "--fix"], id="--fix with --nagios"),
        pytest.param(["--nagios", "--json"], id="two formats"),
    ],
)
def test_invalid_options_are_usage_errors(migrated: Memctl, words: list[str]) -> None:
    answer = migrated("check", *words)

    assert (answer.exit_code, answer.out, answer.err.count("\n")) == (2, "", 1)


def test_check_leaves_no_files_beside_the_database(migrated: Memctl, path: Path) -> None:
    with closing(connect(path)) as db:
        insert_memory(db)
    copy = path.with_name("copy.db")
    shutil.copyfile(path, copy)
    content: Any = copy.read_bytes()

    migrated("check", "--db", str(copy))

    assert copy.read_bytes() == content
