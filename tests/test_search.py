"""Searching: what matches, in which order, and beside programs that write meanwhile."""

import csv
import io
import json
import sqlite3
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl.storage.matching import FOLDED_FROM_OTHERS, SearchedText, fold
from memctl.storage.rows import MemoryFilter
from memctl.storage.sqlite import search as search_module
from memctl.storage.sqlite.search import search_memories
from tests.support.database import connect, insert_memory, rows
from tests.support.engines import Engine
from tests.support.odd_values import DANGEROUS, ODDITIES
from tests.support.program import Memctl
from tests.support.properties import examples
from tests.support.terminal import on_a_terminal

# What matches


@pytest.mark.parametrize(
    ("text", "stored", "is_found"),
    [
        pytest.param("npm", "An NPM error", True, id="another case"),
        pytest.param("КЛЮЧ", "мой ключ", True, id="another case of Cyrillic letters"),
        pytest.param("strasse", "Straße", True, id="sharp s is ss"),
        pytest.param("ß", "STRASSE", True, id="ss is sharp s"),
        pytest.param("ﬁle", "FILE", True, id="a ligature is its letters"),
        pytest.param("σοφος", "ΣΟΦΟΣ σοφός", True, id="a final sigma is a sigma"),
        pytest.param("caf\u00e9", "CAFE\u0301", True, id="a decomposed accent"),
        pytest.param("cafe\u0301", "CAF\u00c9", True, id="a composed accent"),
        pytest.param("cafe", "CAF\u00c9", False, id="an accent counts"),
        pytest.param("cafe", "CAFE\u0301", False, id="a decomposed accent counts as well"),
        pytest.param("istanbul", "\u0130STANBUL", True, id="a Turkish capital i with a dot"),
        pytest.param("\u0130stanbul", "istanbul", True, id="the same in the text"),
        pytest.param("isparta", "\u0131sparta", True, id="a Turkish i without a dot"),
        pytest.param("\u0131", "INDEX", True, id="the same in the text, and its capital"),
        pytest.param("k", "300 \u212a", True, id="the Kelvin sign is a k"),
        pytest.param("漢字", "かな漢字かな", True, id="a part of Japanese text"),
        pytest.param("\u1100\u1161", "\uac00", True, id="a decomposed syllable of Hangul"),
        pytest.param("\uac00", "\uac01", False, id="a part of a syllable of Hangul"),
        pytest.param("ABC", "\uff21\uff22\uff23", False, id="full-width letters are different"),
        pytest.param("\u2764", "\u2764\ufe0f", True, id="an emoji with a variation selector"),
        pytest.param("\U0001f44d", "\U0001f44d\U0001f3fd", True, id="an emoji with a skin tone"),
        pytest.param("%", "100", False, id="a percent sign is no wildcard"),
        pytest.param("_", "a", False, id="an underscore is no wildcard"),
        pytest.param("*", "a", False, id="an asterisk is no wildcard"),
        pytest.param("a.c", "abc", False, id="a text is no regular expression"),
        pytest.param("100%_*[a]", "is 100%_*[A]", True, id="special characters are plain ones"),
        pytest.param("after", "before\0AFTER", True, id="after NUL"),
        pytest.param("e\0a", "before\0AFTER", True, id="with NUL"),
        pytest.param("\udcf0\udc9f", "half \udcf0\udc9f", True, id="half an emoji in the same"),
        pytest.param("\udcf0\udc9f", "\U0001f9e0", False, id="half an emoji in a whole one"),
        pytest.param("HALF", "\udcf0\udc9fhalf\udcff", True, id="between invalid bytes"),
        pytest.param(" ", "two words", True, id="a space"),
        pytest.param("  ", "two words", False, id="two spaces"),
        pytest.param("two\nlines", "TWO\nLINES", True, id="a line end"),
        pytest.param('say "hi"', '{"text":"say \\"hi\\""}', False, id="JSON as it is stored"),
    ],
)
@pytest.mark.parametrize("as_blob", [False, True], ids=["text", "a BLOB"])
def test_a_text_is_found_as_a_substring_without_regard_to_case(
    migrated: Memctl,
    db: sqlite3.Connection,
    text: str,
    stored: str,
    is_found: bool,
    as_blob: bool,
) -> None:
    content = stored.encode("utf-8", "surrogateescape")
    insert_memory(db, id="m", key="…", value=content)
    if not as_blob:
        db.execute("UPDATE agent_memory SET value = CAST(value AS TEXT)")

    found = search_memories(db, SearchedText(text), MemoryFilter(), limit=9)

    assert [memory.memory.id for memory in found.memories] == (["m"] if is_found else [])
    assert found.total == is_found


def test_the_letters_that_others_fold_to_are_complete() -> None:
    """All other ASCII characters in the text must be in a memory as they are."""
    beyond_ascii = (
        chr(number) for number in range(128, sys.maxunicode + 1) if not 0xD800 <= number <= 0xDFFF
    )

    letters = {letter for character in beyond_ascii for letter in fold(character)}

    assert "".join(sorted(filter(str.isascii, letters))) == FOLDED_FROM_OTHERS


def test_the_case_of_a_single_character_never_matters() -> None:
    characters = (chr(number) for number in range(sys.maxunicode + 1))

    different = [
        character
        for character in characters
        if not fold(character) == fold(character.upper()) == fold(character.lower())
    ]

    assert different == []


def exhaustive_search(db: sqlite3.Connection, text: str) -> list[tuple[str, str, str]]:
    """Return state, id and field of all that match, in order; by folding every row completely."""

    def folded(stored: str | bytes | None) -> str:
        if isinstance(stored, bytes):
            stored = stored.decode("utf-8", "surrogateescape")
        decomposed = unicodedata.normalize("NFD", stored or "").casefold()
        decomposed = decomposed.replace("\u0131", "i")
        while "i\u0307" in decomposed:
            decomposed = decomposed.replace("i\u0307", "i")
        return unicodedata.normalize("NFC", decomposed)

    wanted = folded(text)
    found = []
    for state, table in (("active", "agent_memory"), ("archived", "archived_memories")):
        columns = "rowid, id, importance, key, value, metadata"
        for row, memory_id, importance, *texts in rows(db, table, columns):
            key, value, metadata = map(folded, texts)
            if wanted in key:
                rank = 0 if key == wanted else 1 if key.startswith(wanted) else 2
                field = "key"
            elif wanted in value:
                rank, field = 3, "value"
            elif metadata and wanted in metadata:
                rank, field = 4, "metadata"
            else:
                continue
            number = importance if isinstance(importance, int | float) else float("-inf")
            found.append(((rank, state, -number, -row), (state, memory_id, field)))
    return [hit for _, hit in sorted(found)]


# Letters that fold to one another, to several, or not at all; marks in any order; and bytes that
# are no text. Few, so that texts often match.
LETTERS = [
    *(
        "a",
        "A",
        "s",
        "S",
        "ss",
        "ß",
        "ẞ",
        "\u017f",
        "i",
        "I",
        "\u0130",
        "\u0131",
        "k",
        "\u212a",
        "ﬁ",
    ),
    *("f", "ﬃ", "\u00e9", "e", "E", "\u0301", "\u0307", "\u0323", "\u0345", "\u1fb4", "\u1e9a"),
    *(
        "\u03c3",
        "\u03c2",
        "\u03a3",
        "Ж",
        "ж",
        "漢",
        "\uac00",
        "\u1100",
        "\u1161",
        "\u11a8",
        "\U0001f9e0",
    ),
    *("\0", "%", "_", " ", ";", "\u037e", "`", "\u1fef", "\u0149", "n", "t", "\u1e97"),
]
TEXTS = st.lists(st.sampled_from(LETTERS), max_size=8).map("".join)
BYTES = st.builds(
    lambda before, broken, after: before.encode() + broken + after.encode(),
    TEXTS,
    st.sampled_from([b"", b"", b"", b"\xff", b"\xf0\x9f", b"\xc3"]),
    TEXTS,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "key": BYTES,
            "value": BYTES,
            "metadata": st.none() | BYTES,
            "importance": st.sampled_from([1, 5, 7.5, None, "high"]),
            "archived": st.booleans(),
            "as_blob": st.booleans(),
        }
    ),
    max_size=8,
)
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "capitals": str.upper,
    "small letters": str.lower,
    "title": str.title,
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "composed": lambda text: unicodedata.normalize("NFC", text),
}


@given(ROWS, st.data())
@examples(20)
def test_a_search_finds_what_folding_all_rows_finds(
    migrated_database: Path, memories: list[dict[str, Any]], data: st.DataObject
) -> None:
    stored = [memory[field] for memory in memories for field in ("key", "value", "metadata")]
    texts = [text.decode("utf-8", "surrogateescape") for text in stored if text]
    text = data.draw(TEXTS)
    if texts and data.draw(st.sampled_from(["a part of a memory", ""])):
        whole = data.draw(st.sampled_from(texts))
        start = data.draw(st.integers(0, len(whole) - 1))
        text = whole[start : start + data.draw(st.integers(1, 4))]
    text = SPELLINGS[data.draw(st.sampled_from([*SPELLINGS]))](text) or "a"

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "harness.db"
        copy.write_bytes(migrated_database.read_bytes())
        with closing(connect(copy)) as db:
            fill(db, memories)

            found = search_memories(db, SearchedText(text), MemoryFilter(), limit=99)

            expected = exhaustive_search(db, text)
    hits = [(hit.state, hit.memory.id, hit.found_in) for hit in found.memories]
    assert (hits, found.total) == (expected, len(expected))


def fill(db: sqlite3.Connection, memories: list[dict[str, Any]]) -> None:
    """Insert memories with odd texts into both tables."""
    for number, memory in enumerate(memories):
        text = "?" if memory["as_blob"] else "CAST(? AS TEXT)"
        table = "archived_memories" if memory["archived"] else "agent_memory"
        more = ", archived_at, archived_reason" if memory["archived"] else ""
        values = ", '2026-11-22T09:43:58Z', 'expired'" if memory["archived"] else ""
        db.execute(
            f"""
            INSERT INTO {table} (id, agent_id, type, key, value, metadata, importance{more})
            VALUES (?, ?, 'learning', {text}, {text}, {text}, ?{values})
            """,
            (
                *(f"m-{number}", f"agent-{number}"),
                *(memory[name] for name in ("key", "value", "metadata", "importance")),
            ),
        )


@pytest.mark.parametrize("columns", ODDITIES.values(), ids=ODDITIES.keys())
@pytest.mark.parametrize("form", ["--json", "--table", "--csv", "--nl"])
def test_unusual_memories_are_found_and_printed(
    migrated: Memctl, db: sqlite3.Connection, columns: dict[str, Any], form: str
) -> None:
    usual: dict[str, Any] = {"id": "odd", "metadata": '{"tag": "needle"}', "key": "k"}
    insert_memory(db, **usual | columns)
    if "metadata" in columns:
        db.execute("UPDATE agent_memory SET key = 'needle'")

    answer = migrated.ok("search", "NEEDLE", form)

    assert "odd" in answer.out
    assert answer.err == ""


# The order


def test_the_best_matches_come_first(engine: Engine) -> None:
    memories: list[dict[str, Any]] = [
        {"key": "a", "metadata": '{"npm": 1}', "importance": 10},
        {"key": "b", "value": "npm", "importance": 10},
        {"key": "the npm", "importance": 10},
        {"key": "npm install", "importance": 1},
        {"key": "NPM", "importance": 1},
        {"key": "npm audit", "importance": 3},
        {"key": "npm run", "importance": 3},
        {"key": "npm ci", "importance": None},
        {"key": "npm test", "importance": 9},
    ]
    for number, columns in enumerate(memories):
        name = {"id": f"m-{number}", "agent_id": f"agent-{number}"}
        engine.insert(**name, idle_days=9 - number, **columns)
    engine.memctl.ok("archive", "agent-8", "m-8")

    found = engine.memctl.ok("search", "npm").json

    assert [(memory["key"], memory["state"], memory["found_in"]) for memory in found] == [
        ("NPM", "active", "key"),
        ("npm run", "active", "key"),
        ("npm audit", "active", "key"),
        ("npm install", "active", "key"),
        ("npm ci", "active", "key"),
        ("npm test", "archived", "key"),
        ("the npm", "active", "key"),
        ("b", "active", "value"),
        ("a", "active", "metadata"),
    ]


def test_the_pages_of_a_search_are_its_result(engine: Engine) -> None:
    for number in range(7):
        engine.insert(key=f"k{number}", importance=number % 3)
    whole = engine.memctl.ok("search", "k").json

    pages = [
        engine.memctl.ok("search", "k", "--limit", "3", "--offset", str(offset), "--quiet")
        for offset in (0, 3, 6, 9)
    ]

    assert len(whole) == 7
    assert [memory for page in pages for memory in page.json] == whole


# The command


@pytest.fixture
def found_anywhere(engine: Engine) -> Memctl:
    """Memories with the same text: two active ones of two agents, and an archived one."""
    engine.insert(id="new", key="k1", type="learning", importance=9)
    engine.insert(id="old", key="k2", type="context", idle_days=20)
    engine.insert(id="of another", key="k3", agent_id="qa_agent", type="task:blocker")
    engine.memctl.ok("archive", "build_agent", "old")
    return engine.memctl


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        pytest.param([], ["new", "of another", "old"], id="everything"),
        pytest.param(["--agent", "build_agent"], ["new", "old"], id="one agent"),
        pytest.param(["--active"], ["new", "of another"], id="active memories"),
        pytest.param(["--archived"], ["old"], id="archived memories"),
        pytest.param(["--type", "context"], ["old"], id="a type"),
        pytest.param(["--type", "task:blocker"], ["of another"], id="a type of another program"),
        pytest.param(["--type", "preference"], [], id="a type without memories"),
        pytest.param(["--since", "7d"], ["new", "of another"], id="since a duration"),
        pytest.param(["--until", "2026-11-02T09:43:58Z"], ["old"], id="until a time"),
        pytest.param(["--until", "2026-11-02T09:43:57Z"], [], id="until the second before"),
        pytest.param(["--limit", "1", "--quiet"], ["new"], id="the first"),
        pytest.param(["--offset", "1"], ["of another", "old"], id="without the first"),
    ],
)
def test_a_search_is_limited_by_options(
    found_anywhere: Memctl, options: list[str], ids: list[str]
) -> None:
    answer = found_anywhere.ok("search", "the tool", *options)

    assert [memory["id"] for memory in answer.json] == ids
    assert answer.err == ""


def test_a_record_has_all_columns_of_both_tables(found_anywhere: Memctl) -> None:
    active, _, archived = found_anywhere.ok("search", "the tool").json
    (listed,) = found_anywhere.ok("list", "build_agent").json
    (kept,) = found_anywhere.ok("archived", "build_agent").json

    more = {"found_in": "value", "excerpt": "cache the toolchain"}
    nothing = {"archive_id": None, "archived_reason": None, "run_id": None}
    assert active == listed | nothing | {"state": "active"} | more
    assert archived == kept | {"state": "archived"} | more
    assert list(active) == list(archived)


def test_every_form_prints_the_same_memories(found_anywhere: Memctl) -> None:
    whole = found_anywhere.ok("search", "k").json

    lines = found_anywhere.ok("search", "k", "--nl").out.splitlines()
    records = list(csv.DictReader(io.StringIO(found_anywhere.ok("search", "k", "--csv").out)))
    table = found_anywhere.ok("search", "k", "--table").out.splitlines()

    assert [json.loads(line) for line in lines] == whole
    assert [list(record) for record in records] == [list(memory) for memory in whole]
    assert [record["key"] for record in records] == [memory["key"] for memory in whole]
    assert table[0].split() == [
        *("id", "agent", "type", "key", "state", "importance", "found", "in", "excerpt"),
    ]
    assert len(table) == 4


def test_finding_nothing_is_an_empty_list(found_anywhere: Memctl) -> None:
    answer = found_anywhere.ok("search", "elephant")

    assert (answer.out, answer.err) == ("[]\n", "")
    assert on_a_terminal(found_anywhere, "search", "elephant", "--table") == (
        "search: no memory contains 'elephant'\r\n"
    )


def test_a_limited_list_reports_how_many_there_are(found_anywhere: Memctl) -> None:
    answer = found_anywhere.ok("search", "k", "--limit", "1")
    last = found_anywhere.ok("search", "k", "--limit", "1", "--offset", "2")

    assert answer.err == ("search: the list shows 1 of 3 memories; see --limit and --offset\n")
    assert last.err == ""


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param([""], "the text to find is empty; `memctl list` lists all memories", id="''"),
        pytest.param(
            ["a", "--active", "--archived"],
            "--active and --archived cannot be used together; omit both for all",
            id="both states",
        ),
        pytest.param(
            ["a", "--type", "lerning"],
            "there is no type 'lerning'; use context, learning, preference, error_pattern,"
            " success_pattern",
            id="no type",
        ),
        pytest.param(
            ["a", "--since", "lately"],
            "'lately' is not a time; use a format such as 2026-11-22 or 2026-11-22T09:43:58Z, or a"
            " duration such as 7d",
            id="no time",
        ),
    ],
)
def test_an_invalid_search_is_a_usage_error(
    found_anywhere: Memctl, words: list[str], complaint: str
) -> None:
    answer = found_anywhere("search", *words)

    assert (answer.exit_code, answer.out, answer.err) == (2, "", f"memctl: {complaint}\n")


def test_a_misspelt_agent_is_an_error(found_anywhere: Memctl) -> None:
    answer = found_anywhere("search", "k", "--agent", "biuld_agent")

    assert (answer.exit_code, answer.out) == (1, "")
    assert answer.err == (
        "memctl: agent 'biuld_agent' has no memories; did you mean 'build_agent'?\n"
    )


@pytest.mark.parametrize("text", [b"--help", b"-", b"\xf0\x9f", b"\xff"])
def test_any_text_is_searched_for_after_two_dashes(
    migrated: Memctl, db: sqlite3.Connection, text: bytes
) -> None:
    insert_memory(db, id="m", key=b"before " + text + b" after")
    db.execute("UPDATE agent_memory SET key = CAST(key AS TEXT)")

    answer = migrated.ok("search", "--csv", "--", text)

    assert len(answer.out.splitlines()) == 2


def test_a_table_contains_no_control_characters(migrated: Memctl, db: sqlite3.Connection) -> None:
    insert_memory(db, id="m", key="k", value=f"needle {DANGEROUS}")

    printed = on_a_terminal(migrated, "search", "needle", "--table", columns=200)

    assert printed.replace("\r\n", "").isprintable()
    assert "[bold]red[/]" in printed


@pytest.mark.parametrize(
    ("value", "excerpt"),
    [
        pytest.param("needle", "needle", id="all of it"),
        pytest.param("two\n\tneedles ", "two needles", id="on one line"),
        pytest.param("x" * 16 + "NEEDLE", f"{'x' * 16}NEEDLE", id="near the beginning"),
        pytest.param("x" * 17 + "NEEDLE", f"…{'x' * 8}NEEDLE", id="the end"),
        pytest.param("needle" + "x" * 100, f"needle{'x' * 74}…", id="the beginning"),
        pytest.param("ß" * 50 + "needle", f"…{'ß' * 8}needle", id="after longer letters"),
        pytest.param("e\u0301" * 50 + "needle", f"…{'é' * 8}needle", id="after accents"),
        pytest.param("x" * 9999 + "needle" + "x" * 99, f"…{'x' * 8}needle{'x' * 66}…", id="long"),
    ],
)
def test_the_excerpt_shows_the_text_with_what_surrounds_it(value: str, excerpt: str) -> None:
    assert SearchedText("Needle").excerpt(value) == excerpt


def test_the_excerpt_of_a_key_is_the_beginning_of_the_value(engine: Engine) -> None:
    engine.insert(key="needle", value="what to do", metadata="{}")
    engine.insert(key="other", value="what to do", metadata='{"n": "needle"}')

    found = engine.memctl.ok("search", "needle").json

    assert [memory["excerpt"] for memory in found] == ["what to do", '{"n": "needle"}']


CHANGED_BY_JOBS = ("agent_memory", "archived_memories", "memory_events")


def test_a_search_changes_nothing(found_anywhere: Memctl, engine: Engine) -> None:
    before = [engine.rows(table) for table in CHANGED_BY_JOBS]

    found_anywhere.ok("search", "k")

    assert [engine.rows(table) for table in CHANGED_BY_JOBS] == before


# Beside programs that write


class Meanwhile(SearchedText):
    """A text to find, which does something after it was compared with one memory."""

    def __init__(self, text: str, act: Callable[[], object], *, after: bytes) -> None:
        super().__init__(text)
        self._act = act
        self._after = after

    def match(self, key: bytes, value: bytes, metadata: bytes | None) -> Any:
        """Compare one memory, and act after the right one, once."""
        found = super().match(key, value, metadata)
        if key == self._after:
            self._after = b""
            self._act()
        return found


@pytest.mark.parametrize("after", [b"k0", b"k4", b"archived"])
@pytest.mark.parametrize("moved", ["archived", "restored", "replaced"])
def test_a_memory_that_moves_during_a_search_is_found_once(
    migrated: Memctl,
    db: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    moved: str,
    after: bytes,
) -> None:
    monkeypatch.setattr(search_module, "PORTION_SECONDS", 0)
    for number in range(5):
        insert_memory(db, id=f"m-{number}", key=f"k{number}")
    insert_memory(db, id="archived", key="archived")
    insert_memory(db, id="restored", key="the restored one")
    migrated.ok("archive", "build_agent", "archived", "restored")
    actions: dict[str, tuple[str, ...]] = {
        "archived": ("archive", "build_agent", "m-2"),
        "restored": ("restore", "build_agent", "restored"),
        "replaced": ("remember", "build_agent", "learning", "k2", "the toolchain, replaced"),
    }

    with closing(connect(migrated.database)) as reader:
        text = Meanwhile("toolchain", lambda: migrated.ok(*actions[moved]), after=after)
        found = search_memories(reader, text, MemoryFilter(), limit=99).memories

    keys = sorted(memory.memory.key for memory in found)
    assert keys == ["archived", "k0", "k1", "k2", "k3", "k4", "the restored one"]


def test_a_memory_that_was_deleted_or_changed_after_it_was_found_is_left_out(
    migrated: Memctl, db: sqlite3.Connection
) -> None:
    for key in ("deleted", "changed", "last"):
        insert_memory(db, key=key)

    def change() -> None:
        db.execute("DELETE FROM agent_memory WHERE key = 'deleted'")
        db.execute("UPDATE agent_memory SET value = 'new' WHERE key = 'changed'")

    with closing(connect(migrated.database)) as reader:
        text = Meanwhile("toolchain", change, after=b"last")
        found = search_memories(reader, text, MemoryFilter(), limit=99).memories

    assert [memory.memory.key for memory in found] == ["last"]


def test_a_search_reads_in_short_views_that_let_checkpoints_complete(
    migrated: Memctl, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "PORTION_SECONDS", 0)
    for key in ("first", "second", "third"):
        insert_memory(db, key=key, value="old")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    checkpoints = []

    def write_and_checkpoint() -> None:
        db.execute("UPDATE agent_memory SET value = 'new' WHERE key = 'third'")

    def checkpoint() -> None:
        # The view that reads the second memory began after the write.
        checkpoints.extend(db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())

    class Twice(Meanwhile):
        def match(self, key: bytes, value: bytes, metadata: bytes | None) -> Any:
            if key == b"second":
                checkpoint()
            return super().match(key, value, metadata)

    with closing(connect(migrated.database)) as reader:
        text = Twice("new", write_and_checkpoint, after=b"first")
        found = search_memories(reader, text, MemoryFilter(), limit=9).memories

    ((busy, in_log, moved),) = checkpoints
    assert (busy, moved) == (0, in_log)
    assert in_log > 0
    assert [memory.memory.key for memory in found] == ["third"]


def test_rows_with_the_least_and_the_greatest_number_are_found(
    migrated: Memctl, db: sqlite3.Connection
) -> None:
    for row in (-(2**63), -1, 0, 5_000_000_000, 2**63 - 1):
        insert_memory(db, rowid=row, key=str(row))

    found = migrated.ok("search", "toolchain").json

    assert [int(memory["key"]) for memory in found] == [2**63 - 1, 5_000_000_000, 0, -1, -(2**63)]
