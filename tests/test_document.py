"""Invalid documents: one clear line, exit code 13, and nothing changed."""

import gzip
import json
import resource
import subprocess
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from memctl.documents.staging import AgentSelection
from memctl.errors import DocumentError
from tests.support.database import connect, memory_tables
from tests.support.documents import (
    ALL,
    Text,
    copy_of,
    export_from,
    import_into,
    packed,
    put,
    signed,
    stored_rows,
    without_time,
)
from tests.support.program import PROGRAM, Memctl, complaint
from tests.support.service import Service

Document = dict[str, Any]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with two active and two archived memories, to copy."""
    memctl = Memctl(tmp_path_factory.mktemp("documents") / "harness.db")
    Service(memctl.database).close()
    memctl.ok("migrate", "--no-backup")
    common = {"agent_id": "a", "type": "context", "value": "v"}
    for number in (1, 2):
        active = {"id": f"active {number}", "key": f"k{number}", **common}
        archived = {**active, "id": f"archived {number}"}
        archived |= {"archived_at": "2026-11-01T00:00:00Z", "archived_reason": "expired"}
        put(memctl.database, "agent_memory", [{**active, "metadata": '"\x7f\N{ROBOT FACE}"'}])
        put(memctl.database, "archived_memories", [archived])
    put(
        memctl.database,
        "memory_promotions",
        [
            {
                "agent_id": Text(b"a"),
                "type": "context",
                "key": "k1",
                "entry_id": "e",
                "content_hash": "h",
                "promoted_at": "2026-11-01T00:00:00Z",
            }
        ],
    )
    return memctl.database


@pytest.fixture
def target(template: Path, tmp_path: Path) -> Path:
    """A copy of the template."""
    return copy_of(template, tmp_path, "harness.db")


@pytest.fixture(scope="session")
def exported(template: Path) -> bytes:
    """The document of the template."""
    return export_from(template, agent="a")


def problem_of(target: Path, document: bytes, selection: AgentSelection = ALL) -> str:
    """Return the error for a document that is refused, and check that nothing has changed."""
    before = memory_tables(target)
    with pytest.raises(DocumentError) as refusal:
        import_into(target, document, selection=selection, allow_invalid=False)
    assert memory_tables(target) == before
    assert refusal.value.exit_code == 13
    return refusal.value.message


def change(section: str, number: int, **columns: Any) -> Callable[[Document], None]:
    """Return a function that changes columns of a row."""

    def apply(document: Document) -> None:
        document[section][number - 1] |= columns

    return apply


def drop(section: str, number: int, column: str) -> Callable[[Document], None]:
    """Return a function that removes a column of a row."""

    def apply(document: Document) -> None:
        del document[section][number - 1][column]

    return apply


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        pytest.param(
            change("active", 2, importance=True),
            "active row 2, importance: invalid value True",
            id="a boolean for a number",
        ),
        pytest.param(
            change("active", 1, importance=2**63),
            "active row 1, importance: invalid value 9223372036854775808",
            id="more than 64 bits",
        ),
        pytest.param(
            change("archived", 2, key=None),
            "archived row 2, key: invalid value None",
            id="null where a value is required",
        ),
        pytest.param(
            change("active", 1, value=7),
            "active row 1, value: invalid value 7",
            id="a number for a text",
        ),
        pytest.param(
            change("active", 1, value=["v"]),
            "active row 1, value: invalid value ['v']",
            id="a list",
        ),
        pytest.param(
            change("active", 1, value="half \ud800"),
            "active row 1, value: has an unpaired surrogate",
            id="half a surrogate pair",
        ),
        pytest.param(
            change("active", 1, value={"base64": "?"}),
            "active row 1, value: is not base64",
            id="invalid base64",
        ),
        pytest.param(
            change("active", 1, value={"base64": "AA==", "more": 1}),
            "active row 1, value: invalid value {'base64': 'AA==', 'more': 1}",
            id="an unknown object",
        ),
        pytest.param(
            change("active", 1, importance={"real": "nan"}),
            "active row 1, importance: invalid value {'real': 'nan'}",
            id="not a number",
        ),
        pytest.param(
            drop("active", 2, "metadata"), "active row 2, metadata: is missing", id="missing"
        ),
        pytest.param(
            change("promotions", 1, more=1), "promotions row 1, more: is unknown", id="unknown"
        ),
        pytest.param(
            change("archived", 1, archived_reason=None),
            "archived row 1, archived_reason: invalid value None",
            id="archived without a reason",
        ),
        pytest.param(
            change("active", 2, id="active 1"),
            "active row 2: has the id of another active row",
            id="an id twice",
        ),
        pytest.param(
            change("active", 2, key="k1"),
            "active row 2: has agent, type and key of another active row",
            id="a key twice",
        ),
        pytest.param(
            change("archived", 1, id="active 2"),
            "archived row 1: has the id of an active row",
            id="active and archived",
        ),
        pytest.param(
            lambda document: document["promotions"].append(document["promotions"][0]),
            "promotions row 2: has agent, type and key of another promotion",
            id="a promotion twice",
        ),
        pytest.param(
            change("archived", 2, agent_id="b"),
            "archived row 2: has another agent than the document",
            id="another agent",
        ),
        pytest.param(
            lambda document: document["active"].__setitem__(0, [1]),
            "active row 1: is not an object",
            id="a row that is a list",
        ),
    ],
)
def test_an_invalid_row_is_named_with_its_column(
    target: Path, exported: bytes, damage: Callable[[Document], None], problem: str
) -> None:
    document = json.loads(exported)
    counts = dict(document["counts"])
    damage(document)
    try:
        content = signed(document)
    except TypeError:  # a value that is not a row cannot be signed
        content = json.dumps({**document, "counts": counts}).encode()

    assert problem_of(target, content) == problem


NEW = {"id": "new", "key": "new"}  # rows that are already stored are not checked again
ARCHIVED_NEW = {"id": "new archived", "value": "new"}
PROMOTED_NEW = {"key": "new"}
TIME = "must be a time such as 2026-11-22T09:43:58Z"

INVALID = [
    ("active", {**NEW, "type": "rumour"}, "type: is not one of the known types"),
    ("active", {**NEW, "id": None}, "id: must be non-empty text"),
    ("active", {**NEW, "id": ""}, "id: must be non-empty text"),
    ("active", {**NEW, "key": ""}, "key: must be non-empty text"),
    ("active", {**NEW, "key": {"blob_base64": "AA=="}}, "key: must be non-empty text"),
    ("active", {**NEW, "value": {"blob_base64": "AA=="}}, "value: must be text"),
    *[
        ("active", {**NEW, "metadata": metadata}, "metadata: must be JSON")
        for metadata in ("", "{", "{'a': 1}", "NaN", "{}\0", "{} {}", {"blob_base64": "e30="})
    ],
    *[
        ("active", {**NEW, "importance": importance}, "importance: must be a number from 0 to 10")
        for importance in (999, 10.5, -3, "high", "", {"real": "inf"})
    ],
    *[
        ("active", {**NEW, "access_count": count}, "access_count: must be an integer of at least 0")
        for count in (-1, 1.5, "many")
    ],
    *[
        (section, {**new, column: time}, f"{column}: {TIME}")
        for section, new, columns in (
            (
                "active",
                NEW,
                "last_accessed created_at expires_at archived_at last_decay_at promoted_at",
            ),
            ("archived", ARCHIVED_NEW, "archived_at created_at"),
            ("promotions", PROMOTED_NEW, "promoted_at"),
        )
        for column in columns.split()
        for time in ("", "soon", "2026-02-30")
    ],
    *[
        (
            "active",
            {**NEW, "importance_decay_rate": rate},
            "importance_decay_rate: must be a number of at least 0",
        )
        for rate in (-0.1, "fast", {"real": "inf"})
    ],
    ("archived", {**ARCHIVED_NEW, "access_count": -1}, "access_count: must be an integer of at"),
    (
        "archived",
        {**ARCHIVED_NEW, "archived_reason": ""},
        "archived_reason: must be non-empty text",
    ),
    (
        "archived",
        {**ARCHIVED_NEW, "run_id": "7"},
        None,
    ),  # the column's affinity converts it to a number
    ("archived", {**ARCHIVED_NEW, "run_id": "last"}, "run_id: must be an integer"),
    ("promotions", {**PROMOTED_NEW, "entry_id": ""}, "entry_id: must be non-empty text"),
]


@pytest.mark.parametrize(("section", "columns", "problem"), INVALID)
def test_an_invalid_row_is_imported_unchanged_only_when_allowed(
    target: Path, exported: bytes, section: str, columns: Document, problem: str | None
) -> None:
    document = json.loads(exported)
    document[section][0] |= columns
    content = signed(document)

    if problem:
        assert problem_of(target, content).startswith(f"{section} row 1, {problem}")
    result = import_into(target, content, allow_invalid=problem is not None)

    assert getattr(result, section).inserted == 1


def test_invalid_rows_come_back_byte_for_byte(template: Path, tmp_path: Path) -> None:
    first, second = (copy_of(template, tmp_path, name) for name in ("first.db", "second.db"))
    with closing(connect(first)) as db:
        for table, columns in (
            ("agent_memory", "importance, access_count, metadata, created_at, expires_at"),
            ("archived_memories", "importance, access_count, metadata, created_at, archived_at"),
        ):
            db.execute(f"UPDATE {table} SET ({columns}) = ('high', -1, '{{', 'soon', '2026-02-30')")
        db.execute("UPDATE agent_memory SET id = NULL, importance_decay_rate = -1")
    document = export_from(first, agent="a")
    with closing(connect(second)) as db:
        for table in ("agent_memory", "archived_memories", "memory_promotions"):
            db.execute(f"DELETE FROM {table}")

    import_into(second, document)

    assert without_time(export_from(second, agent="a")) == without_time(document)
    assert stored_rows(second) == stored_rows(first)


def test_the_error_names_the_option_that_imports_invalid_rows(
    target: Path, exported: bytes, tmp_path: Path
) -> None:
    document = json.loads(exported)
    document["active"][0] |= {**NEW, "importance": 999, "access_count": -1}
    document["archived"][0] |= {**ARCHIVED_NEW, "archived_at": "?"}
    file = tmp_path / "odd.json"
    file.write_bytes(signed(document))

    refused = Memctl(target)("import", "a", str(file))
    allowed = Memctl(target)("import", "a", str(file), "--allow-invalid")

    assert (refused.exit_code, allowed.exit_code) == (13, 0)
    assert complaint(refused) == (
        "memctl: active row 1, importance: must be a number from 0 to 10; "
        "active row 1, access_count: must be an integer of at least 0; "
        f"archived row 1, archived_at: {TIME}; "
        "use --allow-invalid to import such rows unchanged; nothing was changed"
    )


def edit(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Return a function that replaces some bytes of a document, which must be there."""

    def apply(document: bytes) -> bytes:
        assert old in document
        return document.replace(old, new, 1)

    return apply


DEEP = b"[" * 100_000
MANY = b'{"format": "memctl.export", "active": [' + b"[]," * 3_000_000


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        pytest.param(lambda _: b"", "the document is empty, at the beginning", id="empty"),
        pytest.param(
            lambda _: b" \n ", "the document ends unexpectedly, at the beginning", id="blank"
        ),
        pytest.param(
            lambda _: b"note\n",
            "the document is not valid JSON near 'note\\n', at the beginning",
            id="a word",
        ),
        pytest.param(
            lambda _: b"[]",
            "the document is not valid JSON near '[]', at the beginning",
            id="a list",
        ),
        pytest.param(
            lambda _: b'{"name": "memctl"}',
            "the document has an unknown or repeated 'name', at the beginning",
            id="another object",
        ),
        pytest.param(
            edit(b"memctl.export", b"memory.dump"),
            "format: this is not a memctl export",
            id="another format",
        ),
        pytest.param(
            edit(b'"version": 1', b'"version": 3'),
            "version: this memctl reads versions 1 and 2, not 3",
            id="another version",
        ),
        pytest.param(
            edit(b'"version": 1', b'"version": true'),
            "version: invalid value True",
            id="a version that only looks like 1",
        ),
        pytest.param(edit(b'"version": 1, ', b""), "version: is missing", id="no version"),
        pytest.param(
            edit(b'"active": 2', b'"active": 3'),
            "counts: active is 3, but the document has 2 such rows",
            id="another count",
        ),
        pytest.param(
            edit(b'"counts": {', b'"counts": {"more": 1, '),
            "counts.more: is unknown",
            id="a count of an unknown section",
        ),
        pytest.param(
            edit(b'"v"', b'"w"'),
            "sha256: the rows differ from those that were exported",
            id="an edited value",
        ),
        pytest.param(
            lambda document: document[: len(document) // 2],
            "the document ends unexpectedly, at archived row 1",
            id="cut off in the middle",
        ),
        pytest.param(
            lambda document: document[:-3],
            "the document ends unexpectedly, at promotions row 1",
            id="cut off at the end",
        ),
        pytest.param(
            lambda document: document + document,
            "the document has content after its end, at line 2",
            id="two in one",
        ),
        pytest.param(
            edit(b'{"id"', b'{"id": "x", "id"'),
            "'id' occurs twice in one object, at active row 1",
            id="a name twice",
        ),
        pytest.param(
            edit(b'"version": 1', b'"version": 1, "version": 1'),
            "the document has an unknown or repeated 'version', at the beginning",
            id="a version twice",
        ),
        pytest.param(
            edit(b'"active": [', b'"archived": [],\n"active": ['),
            "the document has the section archived twice, at active row 2",
            id="an empty section and then a full one",
        ),
        pytest.param(
            edit(b'"archived": [', b'"active": ['),
            "the document has the section active twice, at active row 2",
            id="a section twice",
        ),
        pytest.param(
            edit(b'"importance": 5', b'"importance": NaN'),
            "NaN is not valid in JSON, at active row 1",
            id="NaN",
        ),
        pytest.param(
            edit(b'"importance": 5', b'"importance": 1e999'),
            "active row 1, importance: invalid value inf",
            id="an infinite number",
        ),
        pytest.param(
            edit(b'"importance": 5', b'"importance": ' + b"9" * 5000),
            "the document has a number with thousands of digits, at active row 1",
            id="a number with thousands of digits",
        ),
        pytest.param(
            edit(b'"importance": 5', b'"importance": ' + DEEP),
            "the document is nested too deeply, at active row 1",
            id="nested too deeply",
        ),
        pytest.param(
            lambda _: DEEP,
            "the document is not valid JSON near '[[[[[[[[[[[[[[[[[[[[', at the beginning",
            id="only nesting",
        ),
        pytest.param(
            lambda _: b'{"format": ' + DEEP,
            "the document is nested too deeply, at the beginning",
            id="nesting in the header",
        ),
        pytest.param(
            edit(b'"value": "v"', b'"value": "' + b"\xff" + b'"'),
            "the document is not UTF-8, at active row 1",
            id="not UTF-8",
        ),
        pytest.param(
            lambda document: document.decode().encode("utf-16"),
            "the document is not UTF-8, at the beginning",
            id="UTF-16",
        ),
        pytest.param(
            lambda document: packed(document)[:-20],
            "the gzip data is truncated or damaged (Compressed file ended before the end-of-stream"
            " marker was reached), at the beginning",
            id="gzip cut off",
        ),
        pytest.param(
            lambda document: packed(document)[:40] + b"damage" + packed(document)[46:],
            None,
            id="gzip damaged",
        ),
        pytest.param(
            lambda document: edit(b'"active": [', b'"active": [,')(document),
            'the document is not valid JSON near \',\\n{"id": "active 1",\', at active row 1',
            id="a comma too many",
        ),
        pytest.param(
            lambda document: edit(b"null}\n],", b"null},\n],")(document),
            None,
            id="a comma at the end of a list",
        ),
    ],
)
def test_a_file_that_is_not_a_document_is_refused_with_a_reason(
    target: Path, exported: bytes, damage: Callable[[bytes], bytes], problem: str | None
) -> None:
    found = problem_of(target, damage(exported))

    assert found == problem or (problem is None and found)


@pytest.mark.parametrize(
    "change_layout",
    [
        pytest.param(lambda document: b"\xef\xbb\xbf" + document, id="a byte order mark"),
        pytest.param(lambda document: document.replace(b"\n", b"\r\n"), id="Windows line ends"),
        pytest.param(lambda document: json.dumps(json.loads(document)).encode(), id="one line"),
        pytest.param(
            lambda document: json.dumps(json.loads(document), indent=4, sort_keys=True).encode(),
            id="indented and sorted",
        ),
        pytest.param(
            lambda document: json.dumps(json.loads(document), ensure_ascii=False).encode(),
            id="not only ASCII",
        ),
        pytest.param(packed, id="gzip"),
        pytest.param(
            lambda document: packed(document[:99]) + packed(document[99:]), id="two gzips"
        ),
    ],
)
def test_a_document_may_be_reformatted(
    target: Path, exported: bytes, change_layout: Callable[[bytes], bytes]
) -> None:
    result = import_into(target, change_layout(exported))

    assert (result.active.unchanged, result.archived.unchanged) == (2, 2)


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        pytest.param("id", 7_000_000, 19, id="as many as fit into a message"),
        pytest.param("n", 7, 20, id="at most twenty"),
    ],
)
def test_an_error_names_as_many_problems_as_fit(
    target: Path, exported: bytes, column: str, value: int, named: int
) -> None:
    document = json.loads(exported)
    document["active"] = [{**document["active"][0], column: value} for _ in range(50)]
    reason = "is unknown" if column == "n" else f"invalid value {value}"

    problem = problem_of(target, json.dumps(document).encode())

    assert problem == "; ".join(
        [f"active row {number}, {column}: {reason}" for number in range(1, named + 1)]
        + ["and more"]
    )


@pytest.mark.parametrize(
    ("selection", "problem"),
    [
        pytest.param(
            AgentSelection(),
            "the document contains the memories of all agents",
            id="all agents, not requested",
        ),
        pytest.param(
            AgentSelection("b"), "the document has no memory of 'b'", id="an agent without any"
        ),
    ],
)
def test_a_document_of_all_agents_needs_a_selection(
    template: Path, target: Path, selection: AgentSelection, problem: str
) -> None:
    assert problem_of(target, export_from(template), selection) == problem


def test_a_document_of_another_agent_is_refused(target: Path, exported: bytes) -> None:
    assert problem_of(target, exported, AgentSelection("b")) == (
        "the document contains the agent 'a', not 'b'"
    )


def test_the_program_prints_one_line_and_ends_with_13(
    target: Path, exported: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "edited.json"
    file.write_bytes(exported.replace(b'"v"', b'"w"', 1))
    before = memory_tables(target)

    plain = Memctl(target)("import", "a", str(file))
    as_json = Memctl(target)("import", "a", str(file), "--json")

    assert (plain.exit_code, as_json.exit_code) == (13, 13)
    assert complaint(plain) == (
        "memctl: sha256: the rows differ from those that were exported; nothing was changed"
    )
    assert json.loads(as_json.err) == {
        "error": {
            "code": "document",
            "exit_code": 13,
            "message": "sha256: the rows differ from those that were exported",
            "hint": "nothing was changed",
        }
    }
    assert memory_tables(target) == before


def test_a_document_written_by_hand_needs_only_the_required_columns(
    target: Path,
) -> None:
    written = {"agent_id": "hand", "type": "learning", "key": "k", "value": "v"}
    content = json.dumps({"active": [written]}).encode()

    with pytest.raises(DocumentError) as refusal:
        import_into(target, content)
    first = import_into(target, content, no_checksum=True, allow_invalid=False)
    (stored,) = json.loads(export_from(target, agent="hand"))["active"]
    second = import_into(target, content, no_checksum=True)

    assert refusal.value.hint == (
        "use --no-checksum to import an incomplete document; nothing was changed"
    )
    assert (first.active.inserted, second.active.skipped) == (1, 1)
    assert uuid.UUID(stored.pop("id")).version == 4
    assert {name: value for name, value in stored.items() if value is not None} == {
        **written,
        "importance": 5,
        "access_count": 0,
        "last_accessed": "2026-11-22 09:43:58",
        "created_at": "2026-11-22 09:43:58",
    }


def test_an_archived_memory_without_an_id_is_imported_once(target: Path) -> None:
    written = {
        "agent_id": "hand",
        "type": "learning",
        "key": "k",
        "value": "v",
        "archived_at": "2026-11-01T00:00:00Z",
        "archived_reason": "manual",
    }
    content = json.dumps({"archived": [written]}).encode()
    other = AgentSelection(new_agent="other")

    results = [
        import_into(target, content, selection=selection, no_checksum=True)
        for selection in (ALL, ALL, other, other)
    ]

    assert [result.archived.inserted for result in results] == [1, 0, 1, 0]


def test_a_document_without_an_agent_is_of_the_only_agent_in_it(target: Path) -> None:
    row = {"agent_id": "hand", "type": "learning", "key": "k", "value": "v"}
    of_two = {"active": [row, {**row, "agent_id": "other"}]}
    of_odd = {"active": [{**row, "agent_id": {"base64": "/w=="}}]}
    undecided = AgentSelection()

    with pytest.raises(DocumentError) as refusal:
        import_into(target, json.dumps(of_two).encode(), selection=undecided, no_checksum=True)
    results = [
        import_into(target, json.dumps(document).encode(), selection=undecided, no_checksum=True)
        for document in ({"active": [row]}, of_odd)
    ]

    assert refusal.value.message == "the document contains the memories of all agents"
    assert [result.active.inserted for result in results] == [1, 1]


def test_memories_can_be_imported_for_an_agent_of_any_name(target: Path) -> None:
    written = {"agent_id": "a", "type": "learning", "key": "k", "value": "v"}
    content = json.dumps({"active": [written]}).encode()

    answer = Memctl(target)("import", "-", "--reassign-agent", "", given=content)

    assert (answer.exit_code, answer.err) == (
        2,
        "memctl: --reassign-agent is empty; specify an agent\n",
    )


def test_without_a_checksum_everything_else_is_still_checked(target: Path, exported: bytes) -> None:
    document = json.loads(exported)
    document["active"][0] |= {**NEW, "value": "edited"}
    unsigned = {name: part for name, part in document.items() if name != "sha256"}
    miscounted = {**unsigned, "counts": {**unsigned["counts"], "active": 3}}
    unknown = {**unsigned, "active": [{**document["active"][0], "colour": "red"}]}

    problems = []
    for damaged in (document, miscounted, unknown):
        with pytest.raises(DocumentError) as refusal:
            import_into(target, json.dumps(damaged).encode(), no_checksum=True)
        problems.append(refusal.value.message)
    result = import_into(target, json.dumps(unsigned).encode(), no_checksum=True)

    assert problems == [
        "sha256: the rows differ from those that were exported",
        "counts: active is 3, but the document has 2 such rows",
        "active row 1, colour: is unknown",
    ]
    assert (result.active.inserted, result.active.unchanged) == (1, 1)


MEMORY = 600 << 20  # bytes of address space; an idle memctl with pydantic takes a quarter of it

HOSTILE = {
    "a gigabyte of one text": (b'{"format": "memctl.export", "active": [{"id": "', b"x", 1 << 30),
    "a gigabyte of space": (b'{"format": "memctl.export",', b" ", 1 << 30),
    "a gigabyte of lists": (b'{"format": "memctl.export", "active": [[', b"[],", 1 << 30),
    "a gigabyte of rows": (b'{"active": [', b"{}, ", 1 << 30),
    "a gigabyte of names": (b'{"active": [{', b'"a": 1, ', 1 << 30),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("in_gzip", [False, True], ids=["plain", "gzip"])
def test_a_hostile_file_is_refused_in_bounded_memory(
    target: Path, kind: str, in_gzip: bool
) -> None:
    opening, again, size = HOSTILE[kind]
    process = subprocess.Popen(
        [PROGRAM, "import", "--all", "-"],
        env=Memctl(target).environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    assert process.stdin is not None

    pack = gzip.compress if in_gzip else bytes  # several gzip members in a row are one file, too
    chunk = again * ((1 << 20) // len(again))
    packed_chunk = pack(chunk)
    try:
        process.stdin.write(pack(opening))
        for _ in range(size // len(chunk)):
            process.stdin.write(packed_chunk)
    except BrokenPipeError:  # it has read enough
        pass
    _, complained = process.communicate()

    assert process.returncode == 13
    assert complained.count(b"\n") == 1
    assert complained.startswith(b"memctl: ")
