"""Random configurations, and a simple lookup of the keys that apply to a memory."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from hypothesis import strategies as st

from tests.support.program import NOW

Document = Mapping[str, Any]

# The last two agents cannot be named in a file, but resemble ones that can.
AGENTS = (
    b"qa_agent",
    b"build agent",
    "\N{ELEPHANT} \N{REPLACEMENT CHARACTER}".encode(),
    b"nul\0, 'quotes\", :now",
    b"qa_agent\xff",
    "\N{ELEPHANT} ".encode() + b"\xf0\x9f",
)
TYPES = ("context", "learning", "mood' OR 1")

DECAY_KEYS = st.fixed_dictionaries(
    {},
    optional={
        "floor": st.integers(0, 12).map(lambda halves: halves / 2),
        "grace_days": st.integers(0, 20),
        "idle_rate": st.sampled_from([0, 0.05, 0.1, 0.333333, 1, 2.5]),
        "stale_days": st.integers(20, 60),
        "stale_rate": st.sampled_from([0, 0.2, 0.1, 0.5, 3]),
        "since": st.integers(0, 70).map(lambda days: date.fromordinal(NOW.toordinal() - days)),
    },
)
PRUNE_KEYS = st.fixed_dictionaries(
    {},
    optional={
        "retention_days": st.integers(1, 200),
        "protected_importance": st.integers(-2, 24).map(lambda halves: halves / 2),
    },
)

ARCHIVE_KEYS = st.fixed_dictionaries({}, optional={"keep_versions": st.integers(1, 4)})


def documents(section: str, keys: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Document]:
    """Return configurations of one section, with keys in every table that it can have."""
    tables = st.builds(
        lambda own, types: {**own, "types": types},
        keys,
        st.dictionaries(st.sampled_from(TYPES), keys),
    )
    agents = st.sampled_from([agent.decode() for agent in AGENTS[:4]])
    return st.builds(
        lambda general, of_agents: {
            section: general,
            "agents": {agent: {section: table} for agent, table in of_agents.items()},
        },
        tables,
        st.dictionaries(agents, tables),
    )


def configured_keys(document: Document, section: str, agent: bytes, type_: str) -> dict[str, Any]:
    """Return the keys that a configuration sets for a memory: the narrower table wins."""

    def tables() -> Iterator[Mapping[str, Any]]:
        name = agent.decode("utf-8", "surrogateescape")
        own = document.get("agents", {}).get(name, {}).get(section, {})
        for table in (document.get(section, {}), own):
            yield table
            yield table.get("types", {}).get(type_, {})

    general, of_type, of_agent, of_both = tables()
    keys = {**general, **of_type, **of_agent, **of_both}
    return {key: value for key, value in keys.items() if key != "types"}
