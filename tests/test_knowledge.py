"""The knowledge entry of a memory: type, text, tags, task and confidence."""

import json
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.jobs.knowledge import Source, entry_of
from memctl.storage.entry_text import content_hash
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
    """Return the entry of a memory of which only these columns matter."""
    return entry_of(Source(agent, kind, key, value, metadata, importance))


@pytest.mark.parametrize(
    ("kind", "metadata", "expected"),
    [
        pytest.param("error_pattern", None, "gotcha", id="an error pattern"),
        pytest.param("success_pattern", None, "pattern", id="a success pattern"),
        pytest.param("learning", None, "pattern", id="a learning"),
        pytest.param(
            "learning", '{"knowledge_type": "decision"}', "decision", id="a specified type"
        ),
        pytest.param(
            "learning", '{"knowledge_type": "gotcha"}', "gotcha", id="another specified type"
        ),
        pytest.param("learning", '{"knowledge_type": "rule"}', "pattern", id="an unknown type"),
        pytest.param("learning", '{"knowledge_type": ["gotcha"]}', "pattern", id="a list"),
        pytest.param("learning", '{"knowledge_type": null}', "pattern", id="null"),
        pytest.param("learning", '["knowledge_type"]', "pattern", id="metadata that is a list"),
        pytest.param("learning", '{"knowledge_type": "gotcha"', "pattern", id="metadata cut off"),
        pytest.param(
            "error_pattern",
            '{"knowledge_type": "decision"}',
            "gotcha",
            id="an error pattern with a type",
        ),
        pytest.param(
            "success_pattern",
            '{"knowledge_type": "gotcha"}',
            "pattern",
            id="a success pattern with a type",
        ),
    ],
)
def test_only_a_learning_can_specify_its_type(
    kind: str, metadata: str | None, expected: str
) -> None:
    assert entry(kind=kind, metadata=metadata).type == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("retry once", "retry once", id="text"),
        pytest.param("", "", id="empty"),
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
            id="steps as one text",
        ),
        pytest.param(
            '{"description": "it hangs", "fix": 7, "steps": [1, {"a": 2}, " ", "stop"]}',
            "it hangs\nSteps: stop",
            id="only strings count",
        ),
        pytest.param('{"description": "d", "fix": "", "steps": []}', "d", id="empty ones"),
        pytest.param('{"description": "d", "steps": {"a": 1}}', "d", id="steps as an object"),
        pytest.param('{"fix": "retry"}', '{"fix": "retry"}', id="no description"),
        pytest.param('{"description": " "}', '{"description": " "}', id="a blank description"),
        pytest.param('{"description": ["d"]}', '{"description": ["d"]}', id="a list"),
        pytest.param("{}", "{}", id="an empty object"),
        pytest.param('["description"]', '["description"]', id="a JSON list"),
        pytest.param('"text"', '"text"', id="a JSON string"),
        pytest.param("null", "null", id="null"),
        pytest.param("7", "7", id="a number"),
        pytest.param('{"description": "d"', '{"description": "d"', id="cut off"),
        pytest.param('{"a": 1, "a": ' + "9" * 5000 + "}", None, id="an infinite number"),
        pytest.param('{"a":' * 100_000, None, id="a hundred thousand brackets"),
        pytest.param("a\0b", "a\0b", id="NUL"),
        pytest.param('{"description": "a\\u0000b"}', "a\0b", id="NUL in JSON"),
        pytest.param("half \udcf0\udc9f", "half \udcf0\udc9f", id="bytes that are not text"),
        pytest.param('{"description": "half \\ud83e"}', "half \ufffd", id="half a surrogate pair"),
        pytest.param('{"description": "\\ud83e\\udd16"}', "🤖", id="a whole surrogate pair"),
    ],
)
def test_the_text_is_the_description_in_json_or_the_value_itself(
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
        pytest.param('{"tags": ["from-memory", "a"]}', ["from-memory", "a"], id="no duplicates"),
        pytest.param('{"tags": ["a", 1]}', ["from-memory"], id="a number among them"),
        pytest.param('{"tags": "cli"}', ["from-memory"], id="one text"),
        pytest.param('{"tags": {"cli": 1}}', ["from-memory"], id="an object"),
        pytest.param('["tags"]', ["from-memory"], id="metadata that is a list"),
        pytest.param("tags", ["from-memory"], id="metadata that is not JSON"),
        pytest.param(
            '{"tags": ["ключ", "\\ud83e"]}', ["ключ", "\ufffd", "from-memory"], id="odd texts"
        ),
    ],
)
def test_tags_are_those_of_the_memory_and_from_memory(
    metadata: str | None, expected: list[str]
) -> None:
    tags = entry(metadata=metadata).tags

    assert json.loads(tags) == expected
    assert tags == json.dumps(expected, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize(
    ("metadata", "value", "expected"),
    [
        pytest.param('{"taskId": "T-1"}', '{"taskId": "T-2"}', "T-1", id="from the metadata first"),
        pytest.param(None, '{"taskId": "T-2"}', "T-2", id="from the value"),
        pytest.param("[1]", '{"taskId": "T-2"}', "T-2", id="from the value, with odd metadata"),
        pytest.param('{"taskId": ""}', '{"taskId": "T-2"}', "T-2", id="an empty one is ignored"),
        pytest.param('{"taskId": 41}', "text", "41", id="a number"),
        pytest.param('{"taskId": true}', "text", None, id="a boolean"),
        pytest.param('{"taskId": ["T-1"]}', "text", None, id="a list"),
        pytest.param(None, "text", None, id="none"),
    ],
)
def test_the_task_is_taken_from_the_metadata_or_else_the_value(
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
        pytest.param("build_agent", "learning", float("inf"), 0.7, id="even infinitely many"),
        pytest.param("build_agent", "learning", 3, 0.65, id="below, by another policy"),
        pytest.param("qa_agent", "learning", 9, 0.775, id="just below the threshold"),
        pytest.param("qa_agent", "learning", 10, 0.79, id="never exactly 0.8"),
        pytest.param("QA_agent", "learning", 8, 0.65, id="names are case-sensitive"),
    ],
)
def test_confidence_is_the_sum_of_its_parts(
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
def test_every_memory_becomes_an_entry_that_can_be_stored(
    kind: str, key: str, value: str, metadata: str | None
) -> None:
    made = entry(kind=kind, key=key, value=value, metadata=metadata)

    content = made.content.encode("utf-8", "surrogateescape")
    (made.tags + (made.task_id or "")).encode("utf-8", "surrogateescape")
    assert made.type in ("gotcha", "pattern", "decision")
    assert made.content_hash == sha256(content).hexdigest()
    assert content_hash(kind, key, value, metadata) == made.content_hash
    assert json.loads(made.tags).count("from-memory") >= 1
