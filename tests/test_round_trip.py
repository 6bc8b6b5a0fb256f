"""Everything that a database can hold comes back from its export, byte for byte.

The databases are random and hold every oddity that SQLite allows.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memctl.documents.document import Form
from memctl.documents.staging import AgentSelection
from tests.support.documents import (
    Text,
    copy_of,
    export_from,
    import_into,
    packed,
    put,
    stored_rows,
    without_time,
)
from tests.support.program import NOW

ODD_BYTES = [
    b"",
    b"\0",
    b"a\0b",
    b"\xff",
    b"half \xf0\x9f",
    b"\xed\xa0\x80",  # half of a surrogate pair, as WTF-8 encodes it
    b"\xc0\x80",
    "агент🤖".encode(),
    b"\x1b[31m",
    b"\x7f",
    b'"\\\n\r\t',
    b"</script>",
    b"9",
    b"9.0",
    b"1e3",
    b"inf",
    b"NaN",
    b"null",
    b'{"base64": "AA=="}',
    "\u2028\ufeff\u202e".encode(),
    b"x" * 20_000,
]
AGENTS = [b"a", b"b", b"..", b"-", b"", b"a/b", b"[bold]a[/]", b"two\nlines", b"\xff"]
KEYS = [b"k", b"--help", b"-rf", b"k\0l", b"\xf0\x9f", b"task:1"]

texts = st.one_of(
    st.sampled_from(ODD_BYTES), st.binary(max_size=8), st.text(max_size=8).map(str.encode)
).map(Text)
blobs = st.binary(max_size=8)
integers = st.integers(-(2**63), 2**63 - 1)
reals = st.floats(allow_nan=False)
details = st.none() | texts | blobs
numbers = st.none() | integers | reals | texts | blobs | st.sampled_from([9, 9.0, 7.5, -0.0])
names = st.sampled_from(KEYS).map(Text) | texts | blobs
agents = st.sampled_from(AGENTS).map(Text)
types = st.sampled_from([b"context", b"learning", b"task:blocker"]).map(Text) | texts

columns = {
    "agent_id": agents,
    "type": types,
    "key": names,
    "value": texts | blobs,
    "metadata": details,
    "importance": numbers,
    "access_count": numbers,
    "last_accessed": details,
    "created_at": details,
    "expires_at": details,
    "archived_at": details,
    "importance_decay_rate": numbers,
    "last_decay_at": details,
    "promoted_at": details,
}


def ids(kind: bytes) -> st.SearchStrategy[Any]:
    """Return ids with a prefix: a memory is active or archived, never both."""
    return st.none() | texts.map(lambda text: Text(kind + text.content)) | blobs.map(kind.__add__)


actives = st.fixed_dictionaries({"id": ids(b"active "), **columns})
archiveds = st.fixed_dictionaries(
    {
        "id": ids(b"archived "),
        **columns,
        "archived_at": texts | blobs,
        "archived_reason": st.sampled_from([b"expired", b"manual", b"\xff"]).map(Text) | blobs,
        "run_id": numbers,
    }
)
promotions = st.fixed_dictionaries(
    {
        "agent_id": agents,
        "type": types,
        "key": names,
        "entry_id": texts | blobs,
        "content_hash": texts,
        "promoted_at": texts,
    }
)
# By id, by type and key, or on all memories of the agent.
hold_targets = st.one_of(
    st.fixed_dictionaries({"memory_id": texts, "type": st.none(), "key": st.none()}),
    st.fixed_dictionaries({"memory_id": st.none(), "type": types, "key": names}),
    st.just({"memory_id": None, "type": None, "key": None}),
)
holds = st.builds(
    lambda agent, target, more: {"agent_id": agent, **target, **more},
    agents,
    hold_targets,
    st.fixed_dictionaries(
        {
            "reason": details,
            "held_at": st.sampled_from(["2026-11-01T00:00:00Z", "2026-11-22T09:43:58Z"]),
            "until": st.sampled_from([None, "2027-01-01T00:00:00Z"]),
        }
    ),
)


def different(holds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first of the holds on each target."""
    targets = {repr([hold[name] for name in list(hold)[:4]]): hold for hold in holds[::-1]}
    return list(targets.values())


@st.composite
def contents(draw: st.DrawFn) -> dict[str, list[dict[str, Any]]]:
    """Draw rows for each table."""
    return {
        "agent_memory": draw(st.lists(actives, max_size=6)),
        "archived_memories": draw(st.lists(archiveds, max_size=6)),
        "memory_promotions": draw(st.lists(promotions, max_size=3)),
        "memory_holds": different(draw(st.lists(holds, max_size=3))),
    }


def fill(database: Path, content: dict[str, list[dict[str, Any]]]) -> Path:
    """Insert drawn rows into a database."""
    for table, rows in content.items():
        put(database, table, rows)
    return database


@given(content=contents(), form=st.sampled_from(["json", "nl"]), in_gzip=st.booleans())
def test_everything_in_a_database_comes_back_from_its_export(
    template: Path, content: dict[str, list[dict[str, Any]]], form: Form, in_gzip: bool
) -> None:
    folder = template.parent
    source = fill(copy_of(template, folder, "source.db"), content)
    target = copy_of(template, folder, "target.db")
    document = export_from(source, form=form)

    first = import_into(target, packed(document) if in_gzip else document)
    again = export_from(target, form=form, now=NOW + timedelta(days=1))
    stored = stored_rows(target)
    second = import_into(target, document, on_conflict="fail")

    count = sum(len(rows) for rows in stored.values())
    taken = (first.active, first.archived, first.promotions, first.holds)
    known = (second.active, second.archived, second.promotions, second.holds)
    assert stored == stored_rows(source)
    assert without_time(again) == without_time(document)
    assert sum(fates.inserted for fates in taken) == count
    assert sum(fates.unchanged for fates in known) == count
    assert stored_rows(target) == stored


@given(content=contents(), agent=st.sampled_from(AGENTS), form=st.sampled_from(["json", "nl"]))
def test_importing_for_another_agent_and_back_changes_nothing(
    template: Path, content: dict[str, list[dict[str, Any]]], agent: bytes, form: Form
) -> None:
    folder = template.parent
    for rows in content.values():
        for row in rows:
            row["agent_id"] = Text(agent) if row["key"] in map(Text, KEYS) else row["agent_id"]
    content["memory_holds"] = different(content["memory_holds"])
    put_one = {"id": "one", "agent_id": Text(agent), "type": "context", "key": "k1", "value": "v"}
    source = fill(copy_of(template, folder, "source.db"), content)
    put(source, "agent_memory", [put_one])
    there, back = (copy_of(template, folder, name) for name in ("there.db", "back.db"))
    name = agent.decode("utf-8", "surrogateescape")
    document = export_from(source, agent=name, form=form)

    import_into(there, document, selection=AgentSelection(name, new_agent="nobody else"))
    import_into(
        back, export_from(there, agent="nobody else"), selection=AgentSelection(new_agent=name)
    )
    picked = copy_of(template, folder, "picked.db")
    import_into(picked, export_from(source), selection=AgentSelection(name))

    assert without_time(export_from(back, agent=name, form=form)) == without_time(document)
    assert stored_rows(picked) == stored_rows(back)
