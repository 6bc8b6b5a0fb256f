"""Policies for agents and types: lookup in Python and the names of their tables."""

from datetime import UTC, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.config.file import Configuration
from memctl.config.policies import DecayPolicy, Override, dotted
from tests.support.configurations import (
    AGENTS,
    DECAY_KEYS,
    TYPES,
    Document,
    configured_keys,
    documents,
)


@given(
    document=documents("decay", DECAY_KEYS),
    agent=st.sampled_from(AGENTS),
    type_=st.sampled_from(TYPES),
)
def test_the_narrowest_table_decides_the_policy_of_an_agent_and_type(
    document: Document, agent: bytes, type_: str
) -> None:
    keys = configured_keys(document, "decay", agent, type_)
    if "since" in keys:
        keys["since"] = datetime.combine(keys["since"], time(), UTC)

    policy = Configuration.model_validate(document).decay_policy()

    assert policy.of(agent.decode("utf-8", "surrogateescape"), type_) == DecayPolicy(**keys)


def test_the_deciding_tables_are_named_by_precedence() -> None:
    policy = DecayPolicy(
        overrides=(
            Override("floor", 2.0, agent="a b", type="context"),
            Override("floor", 3.0, agent="a b"),
            Override("stale_days", 60, agent="a b"),
            Override("floor", 4.0, type="context"),
        )
    )

    named = [policy.tables(agent, type_) for agent in ("a b", "c") for type_ in ("context", "mood")]

    assert named == [
        'agents."a b".decay.types.context, agents."a b".decay, decay.types.context',
        'agents."a b".decay',
        "decay.types.context",
        "decay",
    ]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        pytest.param("qa-agent_7", "qa-agent_7", id="a bare key"),
        pytest.param("a.b", '"a.b"', id="a dot"),
        pytest.param("", '""', id="empty"),
        pytest.param('a"\\\n', '"a\\"\\\\\\n"', id="characters to escape"),
    ],
)
def test_a_name_is_quoted_where_toml_requires_it(name: str, written: str) -> None:
    assert dotted(("agents", name)) == f"agents.{written}"
