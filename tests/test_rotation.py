"""Lists of backups, and the rules that keep them, compared with slow models."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.storage.sqlite.backup import back_up, preview_backup
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.locking import exclusive
from memctl.storage.sqlite.retention import Retention
from tests.support.database import connect, names_beside
from tests.support.locks import write_lock
from tests.support.program import NOW, Answer, Memctl, complaint
from tests.support.properties import examples

FIRST = "harness.db.backup-20261122T094358Z"
OLDEST = "harness.db.backup-20261023T094358Z"

# Rules


def kept(moments: list[datetime], rule: str, count: int | None) -> list[bool]:
    """Return which backups, newest first, a rule keeps: those with few newer periods."""
    formats = {"last": None, "daily": "%Y-%m-%d", "weekly": "%G-W%V", "monthly": "%Y-%m"}
    form = formats[rule]
    periods = [
        str(number) if form is None else moment.astimezone(UTC).strftime(form)
        for number, moment in enumerate(moments)
    ]
    return [
        count is not None
        and periods[number] not in periods[:number]
        and len(set(periods[:number])) < count
        for number in range(len(moments))
    ]


COUNTS = st.none() | st.integers(1, 5)
RETENTIONS = st.builds(Retention, last=COUNTS, daily=COUNTS, weekly=COUNTS, monthly=COUNTS)
# Around the ends of days, weeks, months and of the year with a 53rd week.
SECONDS = st.integers(0, 60 * 86400) | st.sampled_from(
    [days * 86400 + offset for days in range(0, 60, 3) for offset in (-1, 0, 1)]
)
YEAR_END = datetime(2027, 1, 20, tzinfo=UTC)


@examples(20)
@given(retention=RETENTIONS, ages=st.lists(SECONDS, max_size=25))
def test_a_rule_keeps_the_newest_backup_of_each_of_its_newest_periods(
    retention: Retention, ages: list[int]
) -> None:
    moments = [YEAR_END - timedelta(seconds=age) for age in sorted(ages)]

    reasons = retention.reasons(moments)

    by_rule = {rule: kept(moments, rule, count) for rule, count in asdict(retention).items()}
    assert reasons == [
        [rule for rule, keeps in by_rule.items() if keeps[number]] for number in range(len(moments))
    ]


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        pytest.param(Retention(last=2), "22 12:00, 22 06:00", id="the last two"),
        pytest.param(Retention(daily=2), "22 12:00, 21 23:59", id="days"),
        pytest.param(Retention(daily=3), "22 12:00, 21 23:59, 15 00:00", id="days with a gap"),
        pytest.param(Retention(weekly=2), "22 12:00, 15 00:00", id="weeks end on Sunday"),
        pytest.param(
            Retention(last=1, daily=2, weekly=2), "22 12:00, 21 23:59, 15 00:00", id="all"
        ),
    ],
)
def test_days_and_weeks_without_a_backup_are_not_counted(
    retention: Retention, expected: str
) -> None:
    days = ["22 12:00", "22 06:00", "21 23:59", "21 00:00", "15 00:00", "14 12:00"]
    moments = [datetime.strptime(f"2026-11-{day}Z", "%Y-%m-%d %H:%M%z") for day in days]

    reasons = retention.reasons(moments)

    assert ", ".join(day for day, why in zip(days, reasons, strict=True) if why) == expected


# The rotation of a directory


def fabricate(sample: Path, created: datetime, **changes: Any) -> Path:
    """Put a backup beside a real one; `changes` are other values in its manifest."""
    manifest = json.loads(sample.with_name(f"{sample.name}.json").read_text())
    name = f"harness.db.backup-{created:%Y%m%dT%H%M%SZ}"
    manifest |= {"file": name, "created_at": f"{created:%Y-%m-%dT%H:%M:%SZ}", **changes}
    file = sample.with_name(name)
    file.write_bytes(b"x" * 10)
    file.with_name(f"{name}.json").write_text(json.dumps(manifest | {"size_bytes": 10}))
    return file


def note_of(file: Path) -> Path:
    """Return the manifest of a backup."""
    return file.with_name(f"{file.name}.json")


def as_link(file: Path) -> None:
    """Move a backup elsewhere and leave a symbolic link."""
    elsewhere = file.parent.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    file.symlink_to(shutil.move(file, elsewhere / file.name))


def as_directory(file: Path) -> None:
    """Put a directory in the place of a backup."""
    file.unlink()
    file.mkdir()


def edit_note(**changes: Any) -> Callable[[Path], None]:
    """Return what changes the manifest of a backup."""

    def edit(file: Path) -> None:
        note_of(file).write_text(json.dumps(json.loads(note_of(file).read_text()) | changes))

    return edit


def rename(file: Path) -> None:
    """Give a backup and its manifest another name of the same series."""
    other = file.with_name(f"{file.name}-7")
    note_of(file).rename(note_of(other))
    file.rename(other)


# What may have become of a backup, so that it is not surely a whole one of this database.
NOT_OURS: dict[str, Callable[[Path], Any]] = {
    "of another database": edit_note(database_id="0" * 32),
    "of an unknown database": edit_note(database_id=None),
    "of a database elsewhere": edit_note(database_id=None, host="elsewhere"),
    "truncated": lambda file: os.truncate(file, 3),
    "without a manifest": lambda file: note_of(file).unlink(),
    "with a damaged manifest": lambda file: note_of(file).write_text("{"),
    "with a manifest of a wrong type": edit_note(database=7),
    "with a manifest without a time": edit_note(created_at="lately"),
    "with a manifest of another program": lambda file: note_of(file).write_text("[1]"),
    "without its file": Path.unlink,
    "a symbolic link": as_link,
    "a directory": as_directory,
    "renamed": rename,
    "of another series": edit_note(file="weekly-20200101T000000Z"),
}


@examples(3)
@given(
    retention=RETENTIONS,
    ages=st.lists(SECONDS, max_size=12, unique=True),
    future=st.lists(st.integers(1, 10**7), max_size=2, unique=True),
    odd=st.lists(st.tuples(SECONDS, st.sampled_from(sorted(NOT_OURS))), max_size=5),
)
def test_a_rotation_removes_only_own_backups_that_no_rule_keeps(
    tmp_path_factory: pytest.TempPathFactory,
    template: Path,
    retention: Retention,
    ages: list[int],
    future: list[int],
    odd: list[tuple[int, str]],
) -> None:
    place = tmp_path_factory.mktemp("rotation")
    database, directory = place / "harness.db", place / "backups"
    directory.mkdir()
    shutil.copyfile(template, database)
    rules = {"target": directory, "retention": retention, "now": YEAR_END}
    with open_database(database) as db:
        sample = Path(
            back_up(db, database, target=directory, retention=Retention(), now=YEAR_END).path
        )
    own = [YEAR_END - timedelta(seconds=age) for age in {*ages} - {0}]
    own = [moment for moment in own if moment < YEAR_END]
    files = {moment: fabricate(sample, moment) for moment in own}
    for seconds in future:
        fabricate(sample, YEAR_END + timedelta(seconds=seconds))
    for number, (age, what) in enumerate(odd):
        created = YEAR_END - timedelta(days=400 + number, seconds=age)
        NOT_OURS[what](fabricate(sample, created))
    moments = [YEAR_END, YEAR_END, *sorted(own, reverse=True)]  # the new one, and the sample
    names = [None, sample, *(files[moment] for moment in moments[2:])]
    keeps = [kept(moments, rule, count) for rule, count in asdict(retention).items()]
    expected = {
        str(file)
        for number, file in enumerate(names)
        if file and retention.is_limited and not any(keep[number] for keep in keeps)
    }
    before = {file.name for file in directory.iterdir()}

    with open_database(database, read_only=True) as db:
        preview = preview_backup(db, database, **rules)  # type: ignore[arg-type]
    untouched = {file.name for file in directory.iterdir()}
    with open_database(database) as db:
        result = back_up(db, database, **rules)  # type: ignore[arg-type]

    removed = {Path(file).name for file in expected}
    new = Path(result.path).name
    assert untouched == before
    assert (preview.path, preview.removed) == (result.path, result.removed)
    assert set(result.removed) == expected
    assert {file.name for file in directory.iterdir()} == (
        before - removed - {f"{name}.json" for name in removed} | {new, f"{new}.json"}
    )


# The program


@pytest.fixture
def month(migrated: Memctl) -> Memctl:
    """The program, pointed at a database with backups of four days."""
    for days in (30, 9, 1):
        migrated.at(NOW - timedelta(days=days)).ok("backup")
    return migrated


def test_the_dry_run_shows_the_reasons(month: Memctl) -> None:
    answer = month.ok("backup", "--keep", "1", "--keep-daily", "2", "--keep-monthly", "2", "-n")

    assert answer == Answer(
        0,
        "action  backup                              written   reasons\n"
        "create  harness.db.backup-20261122T094358Z  now       new, last, daily, monthly\n"
        "keep    harness.db.backup-20261121T094358Z  24 h ago  daily\n"
        "remove  harness.db.backup-20261113T094358Z  9 d ago   kept by no rule\n"
        "keep    harness.db.backup-20261023T094358Z  30 d ago  monthly\n",
        f"backup: would create {month.database.with_name(FIRST)}, remove 1 backup and keep 2\n",
    )


def test_the_dry_run_prints_json_like_the_result(month: Memctl) -> None:
    words = ("backup", "--keep-weekly", "2", "--json")
    before = names_beside(month.database)

    preview = month.ok(*words, "--dry-run").json
    untouched = names_beside(month.database)
    result = month.ok(*words).json

    assert untouched == before
    assert {name: preview[name] for name in ("schema", "path", "removed", "dry_run")} == {
        "schema": 1,
        "path": result["path"],
        "removed": result["removed"],
        "dry_run": True,
    }
    assert preview["of_other_databases"] == 0
    assert [backup["action"] for backup in preview["backups"]] == [
        "create",
        "remove",
        "keep",
        "remove",
    ]
    assert preview["backups"][2] == {
        "file": "harness.db.backup-20261113T094358Z",
        "path": str(month.database.with_name("harness.db.backup-20261113T094358Z")),
        "created_at": "2026-11-13T09:43:58Z",
        "kind": "backup",
        "action": "keep",
        "reasons": ["weekly"],
    }


@pytest.mark.parametrize("form", ["--csv", "--nl"])
def test_the_dry_run_has_other_formats(month: Memctl, form: str) -> None:
    printed = month.ok("backup", "--keep", "1", "-n", "-q", form).out

    path = month.database.with_name(OLDEST)
    expected = {
        "--csv": f"{OLDEST},{path},2026-10-23T09:43:58Z,backup,remove,kept by no rule",
        "--nl": f'{{"file": "{OLDEST}", "path": "{path}", "created_at": "2026-10-23T09:43:58Z",'
        ' "kind": "backup", "action": "remove", "reasons": ["kept by no rule"]}',
    }
    assert printed.splitlines()[-1] == expected[form]


def test_without_a_rule_every_backup_is_kept(month: Memctl) -> None:
    backups = month.ok("backup", "-n", "--json").json["backups"]

    assert [backup["reasons"] for backup in backups] == [["new"], *[["no --keep option"]] * 3]
    assert {backup["action"] for backup in backups[1:]} == {"keep"}


def test_the_dry_run_waits_for_no_lock(month: Memctl) -> None:
    with exclusive(month.database, job="cleanup", wait=0), write_lock(month.database):
        answers = [
            month("backup", *words, "--lock-wait", "0")
            for words in (("--keep", "1", "-n"), ("--list",))
        ]

    assert [answer.exit_code for answer in answers] == [0, 0]


def test_the_dry_run_refuses_what_a_backup_would_refuse(memctl: Memctl, month: Memctl) -> None:
    file = month.database.with_name("copy.db")
    file.touch()

    answers = [month("backup", "-o", str(file), *words) for words in ((), ("-n",))]

    assert answers[0] == answers[1]
    assert answers[0].exit_code == 2


# Lists


def test_the_list_has_what_the_manifests_and_files_show(month: Memctl) -> None:
    rows = month.ok("backup", "--list").json

    with closing(connect(month.database)) as db:
        ((stored,),) = db.execute("SELECT value FROM memory_state WHERE key = 'database_id'")
    newest = month.database.with_name("harness.db.backup-20261121T094358Z")
    assert [row["created_at"][:10] for row in rows] == ["2026-11-21", "2026-11-13", "2026-10-23"]
    assert rows[0] == {
        "file": newest.name,
        "path": str(newest),
        "kind": "backup",
        "created_at": "2026-11-21T09:43:58Z",
        "size_bytes": newest.stat().st_size,
        "verified": "when_created",
        "this_database": True,
        "database": str(month.database),
        "database_id": json.loads(stored)["id"],
        "host": os.uname().nodename,
        "schema_step": 3,
        "memories": 0,
        "archived": 0,
    }


def test_the_list_is_also_a_table(migrated: Memctl) -> None:
    migrated.ok("backup")
    size = migrated.database.with_name(FIRST).stat().st_size

    answer = migrated.ok("backup", "--list", "--table", "--columns", "file,verified,this_database")
    bytes_ = migrated.ok("backup", "--list", "--csv", "--columns", "size_bytes").out

    assert answer == Answer(
        0,
        "                                                  of this\n"
        "backup                              verified      database\n"
        f"{FIRST}  when_created  yes\n",
        "",
    )
    assert bytes_ == f"size_bytes\n{size}\n"


@pytest.mark.parametrize(
    ("change", "verified"),
    [
        pytest.param(edit_note(sha256=None), "unfinished", id="unfinished"),
        pytest.param(Path.unlink, "missing", id="missing"),
        pytest.param(lambda file: os.truncate(file, 1), "size_changed", id="truncated"),
        pytest.param(lambda file: note_of(file).unlink(), "no_manifest", id="no manifest"),
        pytest.param(lambda file: note_of(file).write_text("?"), "no_manifest", id="damaged note"),
        pytest.param(lambda file: file.touch(), "when_created", id="only a new time"),
    ],
)
def test_the_list_shows_whether_a_backup_is_whole(
    migrated: Memctl, change: Callable[[Path], Any], verified: str
) -> None:
    migrated.ok("backup")
    change(migrated.database.with_name(FIRST))

    rows = migrated.ok("backup", "--list").json

    assert [(Path(row["path"]).name, row["verified"]) for row in rows] == [(FIRST, verified)]
    assert rows[0]["created_at"] == "2026-11-22T09:43:58Z"


def test_the_list_names_the_change_before_which_a_backup_was_made(
    memctl: Memctl, migrated: Memctl
) -> None:
    file = migrated.ok("backup", "--json").json["path"]
    migrated.at(NOW + timedelta(days=1)).ok("backup", "--restore", file)
    migrated.at(NOW + timedelta(days=2)).ok("rollback")
    migrated.at(NOW + timedelta(days=3)).ok("migrate")

    rows = migrated.at(NOW + timedelta(days=4)).ok("backup", "--list").json

    assert [row["kind"] for row in rows] == [
        "before-migrate",
        "before-rollback",
        "before-restore",
        "backup",
    ]


def test_backups_of_several_databases_in_one_directory_are_distinguished(
    month: Memctl, template: Path, tmp_path: Path
) -> None:
    shared, other = tmp_path / "shared", Memctl(tmp_path / "other" / "harness.db")
    shared.mkdir()
    other.database.parent.mkdir()
    shutil.copyfile(template, other.database)
    for memctl in (month, other):
        for days in range(2):
            memctl.at(NOW - timedelta(days=days)).ok("backup", "-o", str(shared))

    rows = month.ok("backup", "--list", "-o", str(shared)).json
    preview = month("backup", "--keep", "1", "-o", str(shared), "-n")
    removed = month.ok("backup", "--keep", "1", "-o", str(shared), "--json").json["removed"]

    assert sorted((row["database"], row["this_database"]) for row in rows) == [
        *[(str(month.database), True)] * 2,
        *[(str(other.database), False)] * 2,
    ]
    assert preview.err.endswith(
        "remove 2 backups and keep 0; 2 backups of other databases would be left alone\n"
    )
    assert len(removed) == 2
    assert {row["path"] for row in rows if row["this_database"]} == set(removed)


@pytest.mark.parametrize(
    ("lose", "reason"),
    [
        pytest.param(Path.unlink, "there is no database at {path}", id="lost"),
        pytest.param(
            lambda path: path.write_bytes(b"x" * 5000), "{path} is not a SQLite", id="damaged"
        ),
    ],
)
def test_backups_are_listed_when_the_database_is_lost(
    month: Memctl, lose: Callable[[Path], Any], reason: str
) -> None:
    for path in month.database.parent.glob("harness.db-*"):
        path.unlink()
    lose(month.database)

    answer = month("backup", "--list")

    assert answer.exit_code == 0
    assert [(row["verified"], row["this_database"]) for row in answer.json] == [
        ("when_created", None)
    ] * 3
    assert answer.err.startswith(f"backup: {reason.format(path=month.database)}")
    assert answer.err.count("\n") == 1


def test_a_list_of_no_directory_is_an_error(tmp_path: Path) -> None:
    answer = Memctl(tmp_path / "typo" / "harness.db")("backup", "--list")

    assert answer == Answer(
        10, "", f"memctl: there is no directory {tmp_path / 'typo'}; check --db\n"
    )


def test_a_directory_without_backups_has_an_empty_list(migrated: Memctl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert migrated.ok("backup", "--list", "-o", str(tmp_path / "empty")).out == "[]\n"
    assert migrated.ok("backup", "--list", "--table").out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(
            "--list --keep 1",
            "--list, --verify and --restore cannot be combined with another action; choose one",
            id="list and rotate",
        ),
        pytest.param(
            "--list -n",
            "--list, --verify and --restore cannot be combined with another action; choose one",
            id="list and preview",
        ),
        pytest.param(
            "--restore x -n",
            "--list, --verify and --restore cannot be combined with another action; choose one",
            id="restore and preview",
        ),
        pytest.param(
            "--table",
            "there is no list to print; use --list or --dry-run",
            id="a table of nothing",
        ),
        pytest.param(
            "--list -o nowhere",
            "there is no directory nowhere; specify a directory with -o",
            id="no directory",
        ),
        pytest.param(
            "--keep-daily 0",
            "invalid value for '--keep-daily': 0 is not in the range x>=1; see `memctl backup"
            " --help`",
            id="zero",
        ),
    ],
)
def test_invalid_options_of_lists_are_usage_errors(
    migrated: Memctl, words: str, message: str
) -> None:
    answer = migrated("backup", *words.split())

    assert answer.exit_code == 2
    assert complaint(answer) == f"memctl: {message}"


# Files of other users


def without(memctl: Memctl, *capabilities: str) -> Memctl:
    """Return the program without some powers of root."""
    if os.geteuid() != 0:
        pytest.skip("only root can create files of other users")
    prefix = ("setpriv", f"--bounding-set={','.join(f'-{name}' for name in capabilities)}")
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"]).returncode:
        pytest.skip("setpriv cannot take powers away here")
    return replace(memctl, prefix=prefix)


def test_a_backup_that_cannot_be_removed_is_named_after_the_new_one_was_made(
    migrated: Memctl, tmp_path: Path
) -> None:
    directory = tmp_path / "backups"
    directory.mkdir()
    words = ("backup", "-o", str(directory))
    old = migrated.at(NOW - timedelta(days=1)).ok(*words, "--json").json["path"]
    os.chown(old, 12345, 12345)
    os.chown(directory, 12345, 12345)
    directory.chmod(0o1777)  # files can be removed only by their owners

    answer = without(migrated, "fowner")(*words, "--keep", "1")

    assert answer == Answer(
        1,
        "",
        f"memctl: {directory / FIRST} was created, but {Path(old).name} cannot be removed"
        " (Operation not permitted); check the permissions of the directory\n",
    )
    assert {Path(old).name, FIRST, f"{FIRST}.json"} <= {file.name for file in directory.iterdir()}
    migrated.ok("backup", "--verify", str(directory / FIRST))


def test_a_backup_that_cannot_be_read_is_not_counted(migrated: Memctl) -> None:
    files = [
        Path(migrated.at(NOW - timedelta(days=day)).ok("backup", "--json").json["path"])
        for day in (1, 2, 3)
    ]
    files[0].chmod(0)
    limited = without(migrated, "dac_override", "dac_read_search")

    listed = limited.ok("backup", "--list").json
    removed = limited.ok("backup", "--keep", "2", "--json").json["removed"]

    assert [row["verified"] for row in listed] == ["unreadable", "when_created", "when_created"]
    assert removed == [str(files[2])]
    assert files[0].exists()


def test_csv_prints_truth_as_json_does(month: Memctl) -> None:
    out = month.ok("backup", "--list", "--csv", "--columns", "this_database").out

    assert set(out.splitlines()[1:]) == {"true"}
