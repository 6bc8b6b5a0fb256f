"""Retention on each engine: the same memories are deleted, and the same old runs and events."""

import json
from datetime import timedelta
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memctl.config.file import Configuration
from memctl.config.policies import Override, PrunePolicy
from memctl.jobs.engine import JobRequest, perform
from memctl.jobs.prune import PruneResult, prune
from tests.support.configurations import (
    AGENTS,
    PRUNE_KEYS,
    TYPES,
    Document,
    configured_keys,
    documents,
)
from tests.support.database import Row, text_of
from tests.support.engines import Engine
from tests.support.program import NOW

DAY = timedelta(days=1)
MONTH = PrunePolicy(retention=timedelta(days=30))
NAMES = AGENTS[:3]


class Copy(NamedTuple):
    """The columns of an archived memory that retention depends on."""

    agent: bytes
    type: str
    days: float
    importance: float | None

    def is_old(self, document: Document) -> bool:
        """Return whether it has been archived for longer than the retention."""
        keys = configured_keys(document, "prune", self.agent, self.type)
        return self.days > float(keys.get("retention_days", 90))

    def goes(self, document: Document) -> bool:
        """Return whether it is old enough and known to be unimportant enough."""
        keys = configured_keys(document, "prune", self.agent, self.type)
        protected = float(keys.get("protected_importance", 8))
        return self.is_old(document) and self.importance is not None and self.importance < protected


COPIES = st.builds(
    Copy,
    agent=st.sampled_from(NAMES),
    type=st.sampled_from(TYPES),
    days=st.one_of(st.integers(0, 200), st.sampled_from([90, 89.99999, 90.0001])),
    importance=st.one_of(st.integers(-3, 12), st.sampled_from([7.999999, 8.0, 7.5, None])),
)


def archived(number: int = 0, *, agent: str = "a", days: float = 40, **columns: Any) -> Row:
    """Return a memory that was archived some days ago."""
    return {
        "id": f"m-{number}",
        "agent_id": agent,
        "type": "learning",
        "key": "k",
        "value": "v",
        "importance": 5,
        "archived_at": (NOW - days * DAY).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "archived_reason": "expired",
        **columns,
    }


def pruned(engine: Engine, policy: PrunePolicy, **words: Any) -> PruneResult:
    """Prune in this process; `now` is the time and defaults to NOW."""
    agent = words.pop("agent", None)
    request = JobRequest(engine.address, words.pop("now", NOW), **words)
    result = perform("prune", lambda run: prune(run, policy, agent=agent), request).result
    assert result is not None
    return result


@given(
    copies=st.lists(COPIES, max_size=60),
    document=st.one_of(st.just({}), documents("prune", PRUNE_KEYS)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_exactly_the_old_and_unimportant_memories_are_deleted(
    copies: list[Copy], document: Document, engine: Engine
) -> None:
    policy = Configuration.model_validate(document).prune_policy()
    engine.empty()
    engine.fill(
        "archived_memories",
        [
            archived(
                number,
                agent=copy.agent.decode(),
                days=copy.days,
                type=copy.type,
                importance=copy.importance,
            )
            for number, copy in enumerate(copies)
        ],
    )
    kept = {f"m-{number}" for number, copy in enumerate(copies) if not copy.goes(document)}

    preview = pruned(engine, policy, dry_run=True)
    result = pruned(engine, policy)

    assert {row["id"] for row in engine.rows("archived_memories")} == kept
    assert preview.pruned == result.pruned == len(copies) - len(kept)
    assert result.kept_important == sum(copy.is_old(document) for copy in copies) - result.pruned
    events = [row for row in engine.rows("memory_events") if row["event"] == "memory:pruned"]
    assert {row["memory_id"] for row in events} == {
        f"m-{number}" for number, copy in enumerate(copies) if copy.goes(document)
    }


def test_an_agent_that_would_lose_most_of_its_archive_needs_force(engine: Engine) -> None:
    quiet = [archived(number, agent="quiet") for number in range(101)]
    lively = [
        archived(number, agent="lively", days=10 + 30 * (number % 2)) for number in range(202)
    ]
    engine.fill("archived_memories", [*quiet, *lively])

    refused = [pruned(engine, MONTH) for _ in range(2)]
    forced = pruned(engine, MONTH, force=True)

    assert [result.pruned for result in (*refused, forced)] == [101, 0, 101]
    assert forced.tally.agents == {"quiet": 101}
    for result in refused:
        assert "101 of 101 memories of 'quiet'" in str(result.refusal)
    assert [row["agent_id"] for row in engine.rows("archived_memories")] == ["lively"] * 101


def test_the_guard_counts_each_memory_by_its_own_policy(engine: Engine) -> None:
    policy = PrunePolicy(
        overrides=(
            Override("retention", 50 * DAY, "quiet", "learning"),
            Override("retention", 300 * DAY, "quiet"),
            Override("retention", 10 * DAY, None, "context"),
        )
    )
    learning = [archived(number, agent="quiet", days=51) for number in range(61)]
    context = [archived(60 + n, agent="quiet", days=51, type="context") for n in range(60)]
    engine.fill("archived_memories", [*learning, *context])
    of_other = archived(999, agent="other", days=11, type="context")
    engine.fill("archived_memories", [of_other])

    refused = pruned(engine, policy, agent="quiet")
    result = pruned(engine, policy, agent="other")

    assert refused.pruned == 0
    assert "61 of 121 memories of 'quiet'" in str(refused.refusal)
    assert (result.pruned, result.tally.agents) == (1, {"other": 1})


def test_prune_lists_and_records_what_it_deletes(engine: Engine) -> None:
    engine.fill("archived_memories", [archived(days=100, importance=7.5)])

    answer = engine.memctl.ok("prune", "--list", "--json").json
    (event,) = engine.memctl.ok("events", "--json").json

    (listed,) = answer["listed"]
    assert (listed["id"], listed["archived_at"], listed["importance"]) == (
        "m-0",
        "2026-08-14T09:43:58Z",
        7.5,
    )
    assert (event["event"], event["memory_id"], event["run_id"]) == ("memory:pruned", "m-0", 1)


def test_runs_and_events_over_a_year_old_are_deleted_but_stay_counted(engine: Engine) -> None:
    def cleanup(days: int, *keys: str) -> None:
        for key in keys:
            engine.insert(key=key, expires_at="2020-01-01T00:00:00.000Z", importance=9)
        engine.memctl.at(NOW - days * DAY).ok("cleanup")

    cleanup(367, "can be undone")
    cleanup(366)
    cleanup(364, "recent")
    first, *_ = engine.memctl.ok("events", "--json").json
    engine.insert(key="alive", last_accessed=text_of(NOW))  # makes the clock credible

    engine.memctl.ok("prune")

    left = engine.memctl.ok("events", "--json").json
    assert [(event["key"], event["event"]) for event in left] == [
        ("recent", "memory:expired"),
        ("recent", "memory:archived"),
    ]
    assert [row["run_id"] for row in engine.rows("memory_runs")] == [1, 3, 4]
    missed = engine.memctl.ok("events", "--since", str(first["event_id"])).err
    assert missed.endswith(" have been pruned\n")
    assert engine.memctl.ok("events", "--since", str(left[0]["event_id"])).err == ""
    (stored,) = (
        json.loads(row["value"]) for row in engine.rows("memory_state") if row["key"] == "counters"
    )
    assert (stored["runs"], stored["archived"]) == ([["cleanup", "ok", 1]], {"expired": 2})
