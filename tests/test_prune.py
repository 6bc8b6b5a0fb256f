"""Retention: exactly the old and unimportant archived memories are deleted."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.config.file import Configuration
from memctl.config.policies import Override, PrunePolicy
from memctl.jobs.engine import JobContext, JobRequest, perform
from memctl.jobs.prune import (
    PruneResult,
    last_policy,
    prune,
)
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.prune import RetentionKeys, great_losses, removable_memories
from memctl.storage.sqlite.selection import ALL_ROWS
from memctl.storage.sqlite.store import SqliteStore
from tests.support.configurations import (
    AGENTS,
    PRUNE_KEYS,
    TYPES,
    Document,
    configured_keys,
    documents,
)
from tests.support.database import archive_row, connect, insert_memory, rows, text_of
from tests.support.program import NOW, Memctl
from tests.support.service import Service


@dataclass(frozen=True)
class Copy:
    """The columns of an archived memory that retention depends on."""

    agent: bytes
    type: str
    days: float
    importance: Any

    def is_old(self, document: Document) -> bool:
        """Return whether it has been archived for longer than the retention."""
        retention: int = configured_keys(document, "prune", self.agent, self.type).get(
            "retention_days", 90
        )
        return self.days > retention

    def goes(self, document: Document) -> bool:
        """Return whether it is old enough and known to be unimportant enough."""
        known = isinstance(self.importance, int | float)
        protected: float = configured_keys(document, "prune", self.agent, self.type).get(
            "protected_importance", 8
        )
        return self.is_old(document) and known and bool(self.importance < protected)


COPIES = st.builds(
    Copy,
    agent=st.sampled_from(AGENTS),
    type=st.sampled_from(TYPES),
    days=st.one_of(st.integers(0, 200), st.sampled_from([90, 89.99999, 90.0001])),
    importance=st.one_of(
        st.integers(-3, 12), st.sampled_from([7.999999, 8.0, 7.5, None, "high", "", b"9"])
    ),
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database that all examples share, one after the other."""
    path = tmp_path_factory.mktemp("prune") / "memory.db"
    with closing(Service(path)):
        Memctl(path).ok("migrate", "--no-backup")
    return path


@given(
    copies=st.lists(COPIES, max_size=90),
    document=st.one_of(st.just({}), documents("prune", PRUNE_KEYS)),
)
def test_exactly_the_old_and_unimportant_memories_are_deleted(
    copies: list[Copy], document: Document, database: Path
) -> None:
    policy = Configuration.model_validate(document).prune_policy()
    with closing(connect(database)) as db:
        db.execute("DELETE FROM archived_memories")
        ids = {
            archive_row(
                db,
                days_ago=copy.days,
                agent=copy.agent,
                type_=copy.type,
                importance=copy.importance,
            ): copy
            for copy in copies
        }

        report = perform("prune", lambda run: prune(run, policy), JobRequest(database, NOW))

        kept = [archive_id for archive_id, copy in ids.items() if not copy.goes(document)]
        assert rows(db, "archived_memories", "archive_id") == [(number,) for number in kept]
        assert report.result is not None
        assert report.result.pruned == len(copies) - len(kept)
        assert report.result.kept_important == sum(ids[number].is_old(document) for number in kept)


def test_a_policy_that_would_delete_most_of_an_archive_needs_force(
    db: sqlite3.Connection, migrated: Memctl, harsh: str
) -> None:
    for _ in range(101):
        archive_row(db, days_ago=40, agent="quiet")
        archive_row(db, days_ago=40, agent="lively")
        archive_row(db, days_ago=10, agent="lively")
    before = rows(db, "archived_memories WHERE agent_id = 'quiet'")

    answers = [migrated("prune", "--config", harsh) for _ in range(2)]
    quiet = rows(db, "archived_memories WHERE agent_id = 'quiet'")
    lively = rows(db, "archived_memories WHERE agent_id = 'lively'", "count(*)")
    forced = migrated.ok("prune", "--config", harsh, "--force", "--json").json

    for answer in answers:
        assert answer.exit_code == 3
        assert answer.err == (
            "memctl: the retention policy has changed since the last prune and would delete more"
            " than half of what the earlier policy keeps: 101 of 101 memories of 'quiet'; they were"
            " not pruned: check [prune] in the configuration, and if it is correct, run"
            " `memctl prune --force` once\n"
        )
    assert quiet == before
    assert lively == [(101,)]
    assert (forced["pruned"], forced["agents"]) == (101, {"quiet": 101})
    assert rows(db, "memory_runs", "status") == [("refused",), ("refused",), ("ok",)]


@pytest.fixture
def harsh(tmp_path: Path) -> str:
    """A configuration file that keeps the archive for 30 days only."""
    configuration = tmp_path / "harsh.toml"
    configuration.write_text("[prune]\nretention_days = 30\n")
    return str(configuration)


@pytest.mark.parametrize(
    ("old", "new", "exit_code"),
    [
        pytest.param(100, 0, 0, id="all of a hundred"),
        pytest.param(101, 0, 3, id="all of more than a hundred"),
        pytest.param(60, 60, 0, id="exactly half"),
        pytest.param(61, 60, 3, id="just over half"),
    ],
)
def test_the_guard_applies_above_half_of_over_a_hundred(
    db: sqlite3.Connection, migrated: Memctl, harsh: str, old: int, new: int, exit_code: int
) -> None:
    for _ in range(old):
        archive_row(db, days_ago=40)
    for _ in range(new):
        archive_row(db, days_ago=1)

    answer = migrated("prune", "--json", "--config", harsh)

    assert answer.exit_code == exit_code
    assert answer.json["pruned"] == (old if exit_code == 0 else 0)


def runner(path: Path) -> Callable[..., PruneResult]:
    """Return a function that prunes in this process: `(policy, days, **words)`, days after NOW."""

    def run(policy: PrunePolicy, days: float = 0, **words: Any) -> PruneResult:
        agent = words.pop("agent", None)
        request = JobRequest(path, NOW + timedelta(days=days), **words)
        with closing(connect(path)) as db:  # otherwise the clock would be considered wrong
            db.execute("DELETE FROM agent_memory WHERE id = 'read today'")
            insert_memory(db, id="read today", last_accessed=text_of(request.now))
        result = perform("prune", lambda run: prune(run, policy, agent=agent), request).result
        assert result is not None
        return result

    return run


MONTH = PrunePolicy(retention=timedelta(days=30))


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(PrunePolicy(), id="the defaults"),
        pytest.param(MONTH, id="another policy"),
        pytest.param(
            PrunePolicy(overrides=(Override("retention", timedelta(days=10), "build_agent"),)),
            id="a policy of the agent",
        ),
    ],
)
def test_prune_is_not_refused_after_years_without_a_prune(
    db: sqlite3.Connection, migrated: Memctl, policy: PrunePolicy
) -> None:
    run = runner(migrated.database)
    run(policy)
    for number in range(150):
        archive_row(db, days_ago=number / 150)

    early = run(policy, 9)
    late = run(policy, 1000)

    assert (early.pruned, early.refusal) == (0, None)
    assert (late.pruned, late.refusal) == (150, None)


def test_a_backlog_is_pruned_by_the_first_run(db: sqlite3.Connection, migrated: Memctl) -> None:
    for _ in range(150):
        archive_row(db, days_ago=91)

    assert migrated.ok("prune", "--json").json["pruned"] == 150


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 130), st.booleans()), min_size=1, max_size=8
    ),
    document=st.one_of(st.just({}), documents("prune", PRUNE_KEYS)),
)
def test_an_accepted_policy_always_prunes_all_that_is_due(
    steps: list[tuple[int, int, bool]], document: Document, database: Path
) -> None:
    policy = Configuration.model_validate(document).prune_policy()
    run = runner(database)
    with closing(connect(database)) as db:
        for table in ("archived_memories", "memory_state", "memory_runs", "memory_events"):
            db.execute(f"DELETE FROM {table}")
        run(policy, force=True)
        days, copies = 0, []
        for passing, count, one_agent in steps:
            for number in range(count):
                copy = Copy(AGENTS[number % 2 * (not one_agent)], TYPES[0], -days, 5)
                archive_row(db, days_ago=-days, agent=copy.agent, type_=copy.type)
                copies.append(copy)
            days += passing

            result = run(policy, days)

            copies = [
                copy for copy in copies if not replace(copy, days=copy.days + days).goes(document)
            ]
            assert result.refusal is None
            assert rows(db, "archived_memories", "count(*)") == [(len(copies),)]


def test_a_refusal_of_one_agent_leaves_the_policy_of_the_others_accepted(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    run = runner(migrated.database)
    for number in range(150):
        archive_row(db, days_ago=40, agent="refused")
        archive_row(db, days_ago=40 * (number % 2), agent="accepted")
    first = run(MONTH)
    for _ in range(150):
        archive_row(db, days_ago=0, agent="accepted")

    later = run(MONTH, 40)

    assert first.tally.agents == {"accepted": 75}
    assert later.tally.agents == {"accepted": 225}
    assert later.refusal is not None
    assert "150 of 150 memories of 'refused'" in str(later.refusal)
    assert run(PrunePolicy(), 40).refusal is None  # the mistake was corrected
    assert run(MONTH, 40).refusal is not None
    assert run(MONTH, 40, force=True).pruned == 150
    assert last_policy(SqliteStore(db)) == MONTH


@pytest.mark.parametrize(
    ("words", "refused_later"),
    [
        pytest.param({"force": True, "agent": "quiet"}, False, id="forced for the agent"),
        pytest.param({"force": True, "agent": "lively"}, True, id="forced for another agent"),
        pytest.param({"force": True, "dry_run": True}, True, id="a forced preview"),
        pytest.param({"agent": "quiet"}, True, id="the agent alone, without force"),
        pytest.param({"force": True, "max_seconds": 0.0}, False, id="forced, with a time limit"),
    ],
)
def test_a_refused_policy_stays_refused_until_it_is_forced(
    db: sqlite3.Connection, migrated: Memctl, words: dict[str, Any], refused_later: bool
) -> None:
    run = runner(migrated.database)
    for agent in ("quiet", "lively"):
        for _ in range(150):
            archive_row(db, days_ago=1, agent=agent)
    run(PrunePolicy())

    run(MONTH, 40, **words)
    for _ in range(150):
        archive_row(
            db, days_ago=-39, agent="quiet"
        )  # with an empty archive there would be nothing to guard
    refusal = run(MONTH, 80).refusal

    assert (refusal is not None and "of 'quiet'" in str(refusal)) == refused_later


def test_the_cost_of_each_memory_does_not_depend_on_the_number_of_policies(
    db: sqlite3.Connection, migrated: Memctl
) -> None:
    for number in range(2000):
        archive_row(db, days_ago=35, agent=f"agent-{number % 200}")

    def steps(agents: int) -> int:
        """Count the hundreds of virtual machine steps that SQLite executes for a preview."""
        months = timedelta(days=30)
        policy = PrunePolicy(
            overrides=tuple(Override("retention", months, f"agent-{n}") for n in range(agents))
        )
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1

        request = JobRequest(migrated.database, NOW, dry_run=True, force=True)
        with open_database(migrated.database, read_only=True) as opened:
            opened.set_progress_handler(count, 100)
            result = prune(JobContext(SqliteStore(opened), request), policy)
        assert result.pruned == 2000 * min(agents, 200) // 200
        return counted

    assert steps(20_000) - steps(10_000) <= 1.1 * (steps(10_000) - steps(200))


@pytest.mark.parametrize(
    ("archived_at", "pruned"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param("0", 0, id="a number"),
        pytest.param("2026-02-30T00:00:00Z", 0, id="30 February"),
        pytest.param("2026-02-20 soon", 0, id="half a time"),
        pytest.param("+011533-07-07T00:00:00.000Z", 0, id="the far future"),
        pytest.param(b"2026-02-20T00:00:00Z", 0, id="bytes"),
        pytest.param("2026-08-24 09:43:59", 0, id="a day later, in the service's form"),
        pytest.param("2026-08-24 09:43:57", 1, id="the service's form"),
        pytest.param("2026-08-24T09:43:57.000Z", 1, id="with milliseconds"),
    ],
)
def test_a_memory_with_an_unreadable_archived_at_is_kept(
    db: sqlite3.Connection, migrated: Memctl, archived_at: str | bytes, pruned: int
) -> None:
    archive_row(db, days_ago=200)
    db.execute("UPDATE archived_memories SET archived_at = ?", (archived_at,))

    report = perform(
        "prune", lambda run: prune(run, PrunePolicy()), JobRequest(migrated.database, NOW)
    )

    assert report.result is not None
    assert report.result.pruned == pruned


def test_the_retention_can_be_set_by_an_option(db: sqlite3.Connection, migrated: Memctl) -> None:
    for days in (10, 20, 40):
        archive_row(db, days_ago=days)

    pruned = migrated.ok("prune", "--older-than", "2w", "--json").json["pruned"]

    assert pruned == 2


def test_the_configuration_sets_retention_and_protection(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path
) -> None:
    for importance in (2, 3, 4):
        archive_row(db, days_ago=31, importance=importance)
    configuration = tmp_path / "memctl.toml"
    configuration.write_text("[prune]\nretention_days = 30\nprotected_importance = 3.0\n")

    answer = migrated.ok("prune", "--config", str(configuration), "--json").json

    assert (answer["pruned"], answer["kept_important"]) == (1, 2)


@pytest.fixture
def special(tmp_path: Path) -> str:
    """A configuration file with policies for an agent and for types."""
    configuration = tmp_path / "memctl.toml"
    configuration.write_text(
        """
        [prune.types.context]
        retention_days = 10
        [agents."quiet".prune]
        retention_days = 300
        protected_importance = 3
        [agents."quiet".prune.types.learning]
        retention_days = 50
        """
    )
    return str(configuration)


def test_the_guard_and_the_list_follow_the_policies_of_agents_and_types(
    db: sqlite3.Connection, migrated: Memctl, special: str
) -> None:
    for _ in range(60):
        archive_row(db, days_ago=100, agent="quiet", type_="context")
        archive_row(db, days_ago=100, agent="quiet", type_="learning", importance=2)
        archive_row(db, days_ago=11, agent="lively", type_="context")
        archive_row(db, days_ago=11, agent="lively", type_="preference")
    archive_row(db, days_ago=100, agent="lively", type_="context", importance=9)
    archive_row(db, days_ago=60, agent="quiet", type_="learning", importance=3)
    words = ("prune", "--list", "--json", "--config", special)

    previewed = migrated.ok(*words, "--dry-run").json
    done = migrated.ok(*words).json

    previewed_memories, done_memories = (
        sorted(answer["listed"], key=lambda memory: str(memory["id"]))
        for answer in (previewed, done)
    )
    assert previewed_memories == done_memories
    assert done["agents"] == {"lively": 60, "quiet": 60}
    assert (done["pruned"], done["kept_important"]) == (120, 2)
    assert {(memory["agent_id"], memory["policy"]) for memory in done["listed"]} == {
        ("lively", "prune.types.context"),
        ("quiet", "agents.quiet.prune.types.learning, agents.quiet.prune"),
    }
    assert rows(db, "archived_memories", "DISTINCT agent_id, type, importance") == [
        ("quiet", "context", 5),
        ("lively", "preference", 5),
        ("lively", "context", 9),
        ("quiet", "learning", 3),
    ]


def test_the_guard_counts_each_memory_by_its_own_policy(
    db: sqlite3.Connection, migrated: Memctl, special: str
) -> None:
    for _ in range(61):
        archive_row(db, days_ago=51, agent="quiet", type_="learning", importance=2)
    for _ in range(60):
        archive_row(db, days_ago=51, agent="quiet", type_="context")

    answer = migrated("prune", "--config", special)

    assert answer.exit_code == 3
    assert "61 of 121 memories of 'quiet'" in answer.err
    assert len(rows(db, "archived_memories")) == 121


def test_the_option_replaces_only_the_general_retention(
    db: sqlite3.Connection, migrated: Memctl, special: str
) -> None:
    for type_ in ("context", "preference"):
        for agent in ("quiet", "lively"):
            archive_row(db, days_ago=8, agent=agent, type_=type_, importance=1)

    migrated.ok("prune", "--older-than", "7d", "--config", special)

    assert rows(db, "archived_memories", "agent_id, type") == [
        ("quiet", "context"),
        ("lively", "context"),
        ("quiet", "preference"),
    ]


def test_prune_records_one_event_for_each_memory(db: sqlite3.Connection, migrated: Memctl) -> None:
    archive_row(db, days_ago=100)
    (gone,) = rows(db, "archived_memories", "id, agent_id, type, key")

    migrated.ok("prune")

    assert rows(db, "memory_events", "event, memory_id, agent_id, type, key, run_id") == [
        ("memory:pruned", *gone, 1)
    ]


def test_runs_and_events_over_a_year_old_are_deleted_except_the_newest(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    def events_and_runs() -> list[Any]:
        return [rows(db, "memory_events", "at"), rows(db, "memory_runs", "started_at")]

    long_ago, recently = NOW - timedelta(days=366), NOW - timedelta(days=364)
    for moment in (long_ago, recently):
        remember(expires_at="2020-01-01", importance=9)
        migrated.at(moment).ok("cleanup")
    db.execute("DELETE FROM archived_memories")  # as long as there are any, their run stays
    remember()  # a service that wrote today makes the clock credible

    migrated.ok("prune")

    assert events_and_runs() == [
        [(stamp(recently),)] * 2,  # that it expired, and that it was archived
        [(stamp(recently),), (stamp(NOW),)],
    ]


def stamp(moment: datetime) -> str:
    """Return a time in memctl's format."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_an_agent_whose_name_is_a_blob_does_not_stop_prune(
    db: sqlite3.Connection, migrated: Memctl, harsh: str
) -> None:
    for _ in range(101):
        archive_row(db, days_ago=40, agent="named in bytes")
    db.execute("UPDATE archived_memories SET agent_id = x'00ff'")
    archive_row(db, days_ago=40)

    guarded = migrated("prune", "--json", "--config", harsh)
    again = migrated("prune", "--json", "--config", harsh)
    forced = migrated.ok("prune", "--force", "--json", "--list", "--config", harsh).json

    assert (guarded.exit_code, guarded.json["agents"]) == (3, {"build_agent": 1})
    assert (again.exit_code, again.json["agents"]) == (3, {})
    assert forced["agents"] == {"\x00\\xff": 101}


def test_many_refused_agents_are_counted_and_not_listed(
    db: sqlite3.Connection, migrated: Memctl, harsh: str
) -> None:
    for agent in range(5):
        for _ in range(101):
            archive_row(db, days_ago=40, agent=f"agent-{agent}")

    answer = migrated("prune", "--config", harsh)

    assert (
        "101 of 101 memories of 'agent-0', 101 of 101 memories of 'agent-1',"
        " 101 of 101 memories of 'agent-2', and those of 2 more agents; "
    ) in answer.err


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(removable_memories(RetentionKeys(), ALL_ROWS), id="the search"),
        pytest.param(
            great_losses(
                RetentionKeys(), RetentionKeys(":last_cutoff", ":last_protected_importance")
            ),
            id="the guard",
        ),
    ],
)
def test_prune_searches_only_the_old_part_of_the_archive(
    db: sqlite3.Connection, migrated: Memctl, query: str
) -> None:
    search = f"EXPLAIN QUERY PLAN SELECT * FROM ({query})"
    parameters = {
        "cutoff": "2026-08-24",
        "latest_cutoff": "2026-08-24",
        "last_cutoff": "2026-08-24",
        "last_protected_importance": 8,
        "protected_importance": 8,
        "agent": None,
        "held_at": "2026-11-22T09:43:58Z",
    }

    plan = " ".join(row[3] for row in db.execute(search, parameters))

    assert "SEARCH archived_memories USING INDEX archived_memories_by_time" in plan
    assert "SCAN archived_memories" not in plan
