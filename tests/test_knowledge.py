"""What a memory becomes in the knowledge base: type, text, tags, task and confidence."""

import json
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.jobs.knowledge import Source, content_hash, entry_of
from memctl.storage.knowledge import KnowledgeEntry


def entry(
    *,
    agent: str = "build_agent",
    kind: str = "learning",
    key: str = "the key",
    value: str = "the value",
    metadata: str | None = None,
    importance: float = 8,
) -> KnowledgeEntry:
    """Return what a memory becomes of which only this matters."""
    return entry_of(Source(agent, kind, key, value, metadata, importance))


@pytest.mark.parametrize(
    ("kind", "metadata", "expected"),
    [
        pytest.param("error_pattern", None, "gotcha", id="an error pattern"),
        pytest.param("success_pattern", None, "pattern", id="a success pattern"),
        pytest.param("learning", None, "pattern", id="a learning"),
        pytest.param("learning", '{"knowledge_type": "decision"}', "decision", id="said to be one"),
        pytest.param("learning", '{"knowledge_type": "gotcha"}', "gotcha", id="or another"),
        pytest.param("learning", '{"knowledge_type": "rule"}', "pattern", id="no such type"),
        pytest.param("learning", '{"knowledge_type": ["gotcha"]}', "pattern", id="a list"),
        pytest.param("learning", '{"knowledge_type": null}', "pattern", id="null"),
        pytest.param("learning", '["knowledge_type"]', "pattern", id="metadata that is a list"),
        pytest.param("learning", '{"knowledge_type": "gotcha"', "pattern", id="metadata cut off"),
        pytest.param("error_pattern", '{"knowledge_type": "decision"}', "gotcha", id="an error"),
        pytest.param("success_pattern", '{"knowledge_type": "gotcha"}', "pattern", id="a success"),
    ],
)
def test_only_a_learning_may_say_what_it_becomes(
    kind: str, metadata: str | None, expected: str
) -> None:
    assert entry(kind=kind, metadata=metadata).type == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("retry once", "retry once", id="text"),
        pytest.param("", "", id="nothing"),
        pytest.param('{"description": "retry"}', "retry", id="a description"),
        pytest.param(' {"description": "retry"}\n', "retry", id="space around it"),
        pytest.param(
            '{"description": "it hangs", "fix": "retry", "steps": ["stop", "start"]}',
            "it hangs\nFix: retry\nSteps: stop; start",
            id="a description, a fix and steps",
        ),
        pytest.param(
            '{"description": "it hangs", "steps": "stop it"}',
            "it hangs\nSteps: stop it",
            id="steps that are one text",
        ),
        pytest.param(
            '{"description": "it hangs", "fix": 7, "steps": [1, {"a": 2}, " ", "stop"]}',
            "it hangs\nSteps: stop",
            id="only texts count",
        ),
        pytest.param('{"description": "d", "fix": "", "steps": []}', "d", id="empty ones"),
        pytest.param('{"description": "d", "steps": {"a": 1}}', "d", id="steps that are an object"),
        pytest.param('{"fix": "retry"}', '{"fix": "retry"}', id="no description"),
        pytest.param('{"description": " "}', '{"description": " "}', id="a blank description"),
        pytest.param('{"description": ["d"]}', '{"description": ["d"]}', id="a list"),
        pytest.param("{}", "{}", id="an empty object"),
        pytest.param('["description"]', '["description"]', id="a JSON list"),
        pytest.param('"text"', '"text"', id="a JSON text"),
        pytest.param("null", "null", id="null"),
        pytest.param("7", "7", id="a number"),
        pytest.param('{"description": "d"', '{"description": "d"', id="cut off"),
        pytest.param('{"a": 1, "a": ' + "9" * 5000 + "}", None, id="an endless number"),
        pytest.param('{"a":' * 100_000, None, id="a hundred thousand brackets"),
        pytest.param("a\0b", "a\0b", id="NUL"),
        pytest.param('{"description": "a\\u0000b"}', "a\0b", id="NUL in JSON"),
        pytest.param("half \udcf0\udc9f", "half \udcf0\udc9f", id="bytes that are no text"),
        pytest.param('{"description": "half \\ud83e"}', "half \ufffd", id="half a character"),
        pytest.param('{"description": "\\ud83e\\udd16"}', "🤖", id="a whole one"),
    ],
)
def test_the_text_is_what_json_describes_or_the_value_as_it_is(
    value: str, expected: str | None
) -> None:
    content = value if expected is None else expected

    assert entry(value=value).content == content
    assert entry(value=value, kind="error_pattern").content == f"the key: {content}"


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        pytest.param(None, ["from-memory"], id="no metadata"),
        pytest.param('{"tags": ["cli", "P0"]}', ["cli", "P0", "from-memory"], id="texts"),
        pytest.param('{"tags": []}', ["from-memory"], id="none"),
        pytest.param('{"tags": ["from-memory", "a"]}', ["from-memory", "a"], id="not twice"),
        pytest.param('{"tags": ["a", 1]}', ["from-memory"], id="a number among them"),
        pytest.param('{"tags": "cli"}', ["from-memory"], id="one text"),
        pytest.param('{"tags": {"cli": 1}}', ["from-memory"], id="an object"),
        pytest.param('["tags"]', ["from-memory"], id="metadata that is a list"),
        pytest.param("tags", ["from-memory"], id="metadata that is no JSON"),
        pytest.param('{"tags": ["ключ", "\\ud83e"]}', ["ключ", "\ufffd", "from-memory"], id="odd"),
    ],
)
def test_tags_are_the_memorys_own_and_where_they_are_from(
    metadata: str | None, expected: list[str]
) -> None:
    tags = entry(metadata=metadata).tags

    assert json.loads(tags) == expected
    assert tags == json.dumps(expected, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize(
    ("metadata", "value", "expected"),
    [
        pytest.param('{"taskId": "T-1"}', '{"taskId": "T-2"}', "T-1", id="of the metadata first"),
        pytest.param(None, '{"taskId": "T-2"}', "T-2", id="of the value"),
        pytest.param("[1]", '{"taskId": "T-2"}', "T-2", id="of the value beside odd metadata"),
        pytest.param('{"taskId": ""}', '{"taskId": "T-2"}', "T-2", id="an empty one is none"),
        pytest.param('{"taskId": 41}', "text", "41", id="a number"),
        pytest.param('{"taskId": true}', "text", None, id="a boolean"),
        pytest.param('{"taskId": ["T-1"]}', "text", None, id="a list"),
        pytest.param(None, "text", None, id="none"),
    ],
)
def test_the_task_is_the_metadatas_or_else_the_values(
    metadata: str | None, value: str, expected: str | None
) -> None:
    assert entry(metadata=metadata, value=value).task_id == expected


@pytest.mark.parametrize(
    ("agent", "kind", "importance", "expected"),
    [
        pytest.param("build_agent", "error_pattern", 8, 0.6, id="a gotcha"),
        pytest.param("build_agent", "learning", 8, 0.65, id="a pattern"),
        pytest.param("qa_agent", "error_pattern", 8, 0.7, id="the tester's gotcha"),
        pytest.param("qa_agent", "success_pattern", 8, 0.75, id="the tester's pattern"),
        pytest.param("build_agent", "learning", 9, 0.675, id="one point above"),
        pytest.param("build_agent", "learning", 8.5, 0.6625, id="half a point above"),
        pytest.param("build_agent", "learning", 9.123456, 0.6781, id="rounded"),
        pytest.param("build_agent", "learning", 10, 0.7, id="two points above"),
        pytest.param("build_agent", "learning", 100, 0.7, id="no more than two count"),
        pytest.param("build_agent", "learning", float("inf"), 0.7, id="not even infinitely many"),
        pytest.param("build_agent", "learning", 3, 0.65, id="below, by another policy"),
        pytest.param("qa_agent", "learning", 9, 0.775, id="just below the bound"),
        pytest.param("qa_agent", "learning", 10, 0.79, id="never at the line of 0.8"),
        pytest.param("QA_agent", "learning", 8, 0.65, id="names are case-sensitive"),
    ],
)
def test_confidence_is_the_sum_of_what_speaks_for_it(
    agent: str, kind: str, importance: float, expected: float
) -> None:
    assert entry(agent=agent, kind=kind, importance=importance).confidence == expected


@given(
    agent=st.sampled_from(["qa_agent", "build_agent"]),
    kind=st.sampled_from(["error_pattern", "success_pattern", "learning"]),
    tenths=st.integers(-100, 1000),
)
def test_confidence_follows_the_formula(agent: str, kind: str, tenths: int) -> None:
    importance = Decimal(tenths) / 10
    expected = Decimal("0.60") + Decimal("0.025") * min(max(importance - 8, Decimal(0)), Decimal(2))
    expected += Decimal("0.10") * (agent == "qa_agent") + Decimal("0.05") * (
        kind != "error_pattern"
    )

    found = entry(agent=agent, kind=kind, importance=float(importance)).confidence

    assert found == float(min(round(expected, 4), Decimal("0.79")))


JSON: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["description", "fix", "steps", "taskId", "tags", "knowledge_type"]),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=12,
)
ANY_TEXT = st.one_of(
    JSON.map(json.dumps),
    st.text(),
    st.binary().map(lambda content: content.decode("utf-8", "surrogateescape")),
)


@given(
    kind=st.sampled_from(["error_pattern", "success_pattern", "learning"]),
    key=ANY_TEXT,
    value=ANY_TEXT,
    metadata=st.one_of(st.none(), ANY_TEXT),
)
def test_whatever_a_memory_holds_becomes_an_entry_that_can_be_stored(
    kind: str, key: str, value: str, metadata: str | None
) -> None:
    made = entry(kind=kind, key=key, value=value, metadata=metadata)

    content = made.content.encode("utf-8", "surrogateescape")
    (made.tags + (made.task_id or "")).encode("utf-8", "surrogateescape")
    assert made.type in ("gotcha", "pattern", "decision")
    assert made.content_hash == sha256(content).hexdigest()
    assert content_hash(kind, key, value, metadata) == made.content_hash
    assert json.loads(made.tags).count("from-memory") >= 1
