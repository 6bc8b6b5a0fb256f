"""keep_versions: cleanup deletes the replaced versions of each memory beyond the newest."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.config.file import Configuration
from memctl.jobs.cleanup import cleanup
from memctl.jobs.engine import JobContext, JobRequest, perform
from tests.support.configurations import (
    AGENTS,
    ARCHIVE_KEYS,
    TYPES,
    Document,
    configured_keys,
    documents,
)
from tests.support.database import connect, insert_memory, rows
from tests.support.kills import copy_at, killed_before, one_of_each_kind, program_at
from tests.support.program import NOW, Answer, Memctl
from tests.support.service import Service


class Stored(NamedTuple):
    """A version in the archive."""

    agent: bytes
    type: str
    key: str
    minutes: int  # since it was archived
    reason: str

    @property
    def name(self) -> tuple[bytes, str, str]:
        """What it is a version of."""
        return self[:3]


VERSIONS = st.builds(
    Stored,
    agent=st.sampled_from(AGENTS[:2]),
    type=st.sampled_from(TYPES[:2]),
    key=st.sampled_from(["k", "k", "held", "other"]),
    minutes=st.integers(0, 5),
    reason=st.sampled_from(["replaced", "replaced", "replaced", "deleted"]),
)


def archive_version(db: sqlite3.Connection, version: Stored) -> int:
    """Add a version to the archive; returns its archive id."""
    archived_at = (NOW - timedelta(minutes=version.minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    cursor = db.execute(
        "INSERT INTO archived_memories"
        " (id, agent_id, type, key, value, archived_at, archived_reason)"
        " VALUES (hex(randomblob(8)), CAST(? AS TEXT), ?, ?, 'v', ?, ?)",
        (*version.name, archived_at, version.reason),
    )
    return int(cursor.lastrowid or 0)


def expected_to_stay(versions: dict[int, Stored], document: Document) -> list[int]:
    """Return the archive ids that stay: one by one, from the newest of each memory."""
    stays = [number for number, version in versions.items() if version.reason != "replaced"]
    newest_first = sorted(
        (version.name, version.minutes, -number)
        for number, version in versions.items()
        if version.reason == "replaced"
    )
    for (agent, type_, key), group in groupby(newest_first, key=lambda found: found[0]):
        kept = configured_keys(document, "archive", agent, type_).get("keep_versions")
        for place, (_, _, negative) in enumerate(group):
            if kept is None or place < kept or key == "held":
                stays.append(-negative)
    return sorted(stays)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database in which all versions of one key of each agent are held."""
    path = tmp_path_factory.mktemp("versions") / "memory.db"
    with closing(Service(path)), closing(connect(path)) as db:
        Memctl(path).ok("migrate", "--no-backup")
        for agent in AGENTS[:2]:
            for type_ in TYPES[:2]:
                db.execute(
                    "INSERT INTO memory_holds (agent_id, type, key, held_at)"
                    " VALUES (CAST(? AS TEXT), ?, 'held', '2026-11-22T09:00:00Z')",
                    (agent, type_),
                )
    return path


@given(
    stored=st.lists(VERSIONS, max_size=40),
    document=st.one_of(st.just({}), documents("archive", ARCHIVE_KEYS)),
)
def test_exactly_the_oldest_versions_beyond_the_number_are_deleted_unless_they_are_held(
    stored: list[Stored], document: Document, database: Path
) -> None:
    policy = Configuration.model_validate(document).archive_policy()

    def work(run: JobContext) -> Any:
        return cleanup(run, archive=policy)

    with closing(connect(database)) as db:
        for table in ("archived_memories", "memory_events"):
            db.execute(f"DELETE FROM {table}")
        versions = {archive_version(db, version): version for version in stored}
        request = JobRequest(database, NOW, listing=True)

        preview = perform("cleanup", work, request._replace(dry_run=True)).result
        done = perform("cleanup", work, request).result

        assert preview is not None
        assert done is not None
        stays = expected_to_stay(versions, document)
        gone = len(versions) - len(stays)
        assert rows(db, "archived_memories", "archive_id") == [(number,) for number in stays]
        assert rows(db, "memory_events", "event") == [("memory:pruned",)] * gone
        assert (preview.versions_pruned, done.versions_pruned) == (gone, gone)
        assert (preview.held, preview.tally.agents) == (done.held, done.tally.agents)
        assert sorted(preview.tally.memories) == sorted(done.tally.memories)


def test_cleanup_counts_the_versions_that_it_deletes(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path, remember: Callable[..., str]
) -> None:
    configuration = tmp_path / "memctl.toml"
    configuration.write_text("[archive]\nkeep_versions = 2\n")
    for minutes in range(5):
        archive_version(db, Stored(b"build_agent", "learning", "k", minutes, "replaced"))
    remember(expired_for=timedelta(days=1))

    preview = migrated.ok("cleanup", "--config", str(configuration), "--dry-run")
    done = migrated.ok("cleanup", "--config", str(configuration), "--json").json
    again = migrated.ok("cleanup", "--config", str(configuration), "--json").json

    assert preview == Answer(
        0, "", "cleanup: would archive 1 expired memory; 3 versions beyond keep_versions\n"
    )
    assert (done["archived"], done["versions_pruned"], done["agents"]) == (1, 3, {"build_agent": 4})
    assert (again["archived"], again["versions_pruned"], again["agents"]) == (0, 0, {})


def test_only_versions_of_the_named_agent_are_deleted(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path
) -> None:
    configuration = tmp_path / "memctl.toml"
    configuration.write_text("[archive]\nkeep_versions = 1\n")
    for agent in (b"build_agent", b"qa_agent"):
        for minutes in range(2):
            archive_version(db, Stored(agent, "learning", "k", minutes, "replaced"))

    migrated.ok("cleanup", "--config", str(configuration), "--agent", "qa_agent")

    left = rows(db, "archived_memories", "agent_id")
    assert left == [("build_agent",), ("build_agent",), ("qa_agent",)]


@pytest.mark.parametrize("value", ["0", "-1", "1.5", '"many"'])
def test_a_number_that_is_not_positive_is_refused(
    migrated: Memctl, tmp_path: Path, value: str
) -> None:
    configuration = tmp_path / "memctl.toml"
    configuration.write_text(f"[archive]\nkeep_versions = {value}\n")

    answer = migrated("cleanup", "--config", str(configuration))

    assert (answer.exit_code, answer.out) == (2, "")
    assert answer.err.startswith(f"memctl: {configuration}: archive.keep_versions: Input should be")


def test_without_a_number_every_version_stays(db: sqlite3.Connection, migrated: Memctl) -> None:
    insert_memory(db, key="k")
    for minutes in range(5):
        archive_version(db, Stored(b"build_agent", "learning", "k", minutes, "replaced"))

    migrated.ok("cleanup")

    assert len(rows(db, "archived_memories")) == 5


def test_a_cleanup_killed_before_a_step_deletes_only_excess_versions_each_with_its_event(
    tmp_path: Path, template: Memctl
) -> None:
    with closing(connect(template.database)) as db:
        for number in range(20):
            archive_version(
                db, Stored(b"build_agent", "learning", f"k{number % 2}", 20, "replaced")
            )
        everything = rows(db, "archived_memories", "archive_id")
    configuration = tmp_path / "memctl.toml"
    configuration.write_text("[archive]\nkeep_versions = 2\n")
    words = ("cleanup", "--config", str(configuration))
    steps = one_of_each_kind(copy_at(tmp_path / "recorded", template), words)

    for memctl in killed_before(steps, template, words, tmp_path):
        with closing(connect(memctl.database)) as db:
            left = rows(db, "archived_memories", "archive_id")
            assert left[-4:] == everything[-4:]
            assert len(rows(db, "memory_events")) == len(everything) - len(left)
            memctl.ok(*words)
            assert rows(db, "archived_memories", "archive_id") == everything[-4:]
            assert len(rows(db, "memory_events")) == len(everything) - 4


def test_the_restore_of_a_version_killed_before_a_step_keeps_every_version(
    tmp_path: Path, template: Memctl
) -> None:
    with closing(connect(template.database)) as db:
        for minutes in range(3):
            archive_version(db, Stored(b"build_agent", "learning", "k", minutes, "replaced"))
        insert_memory(db, key="k")
    words = ("restore", "build_agent", "--type", "learning", "--key", "k", "--version", "1")
    steps = one_of_each_kind(copy_at(tmp_path / "recorded", template), words)

    for memctl in killed_before(steps, template, words, tmp_path):
        with closing(connect(memctl.database)) as db:
            assert len(rows(db, "agent_memory")) == 1
            assert len(rows(db, "archived_memories")) == 3


@pytest.fixture
def template(tmp_path: Path) -> Memctl:
    """The program, pointed at a migrated database to copy."""
    memctl = program_at(tmp_path / "template")
    memctl.ok("migrate")
    return memctl
