"""The options of lists mean the same in every list and in every format."""

import csv
import io
import json
import sqlite3
from datetime import timedelta

import pytest

from tests.support.database import insert_memory
from tests.support.program import NOW, Memctl, complaint
from tests.support.terminal import on_a_terminal

DAY = timedelta(days=1)
FORMATS = ["", "--nl", "--csv", "--table"]

# Each list, and the field of its numbers.
LISTS = {
    "list build_agent": "id",
    "archived build_agent": "archive_id",
    "events": "event_id",
    "runs": "run_id",
}


@pytest.fixture
def lists(db: sqlite3.Connection, migrated: Memctl) -> Memctl:
    """Four runs on four days, each of which archived a memory; four active memories."""
    for days in (4, 3, 2, 1):
        insert_memory(db, id=f"old-{days}", expires_at="2020-01-01")
        migrated.at(NOW - days * DAY).ok("cleanup")
        insert_memory(db, id=f"{days}", importance=days, metadata='{"a": [1, 2]}')
    return migrated


def numbers(memctl: Memctl, words: str, form: str = "") -> list[str]:
    """Return the numbers of the records that a list prints, whatever the format."""
    field = next(field for start, field in LISTS.items() if words.startswith(start))
    out = memctl.ok(*words.split(), *form.split(), "--columns", field).out
    if form == "--table":
        return [line.strip() for line in out.splitlines()[1:]]
    if form == "--csv":
        return [row[field] for row in csv.DictReader(io.StringIO(out))]
    records = [json.loads(line) for line in out.splitlines()] if form else json.loads(out)
    assert all(list(record) == [field] for record in records)
    return [str(record[field]) for record in records]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("list build_agent", "4 3 2 1", id="list"),
        pytest.param("list build_agent --limit 2", "4 3", id="list, the first"),
        pytest.param("archived build_agent", "4 3 2 1", id="archived"),
        pytest.param("archived build_agent --limit 2", "4 3", id="archived, the first"),
        pytest.param("archived build_agent --limit 2 --offset 1", "3 2", id="archived, a page"),
        pytest.param("archived build_agent --since 2d", "4 3", id="archived, since"),
        pytest.param("archived build_agent --until 2d", "3 2 1", id="archived, until"),
        pytest.param("archived build_agent --since 3d --until 2d", "3 2", id="archived, between"),
        pytest.param("archived build_agent --offset 9", "", id="archived, none"),
        pytest.param("events", "1 2 3 4 5 6 7 8", id="events"),
        pytest.param("events --limit 2", "7 8", id="events, the newest"),
        pytest.param("events --limit 2 --offset 1", "6 7", id="events, a page"),
        pytest.param("events --since 0 --limit 2 --offset 1", "2 3", id="events, a page after"),
        pytest.param("events --since 2d", "5 6 7 8", id="events, since"),
        pytest.param("events --until 2d", "1 2 3 4 5 6", id="events, until"),
        pytest.param("events --since 3d --until 2d", "3 4 5 6", id="events, between"),
        pytest.param("events --since 8", "", id="events, none"),
        pytest.param("runs", "4 3 2 1", id="runs"),
        pytest.param("runs --limit 2", "4 3", id="runs, the first"),
        pytest.param("runs --limit 2 --offset 1", "3 2", id="runs, a page"),
        pytest.param("runs --since 2d", "4 3", id="runs, since"),
        pytest.param("runs --until 2d", "3 2 1", id="runs, until"),
        pytest.param("runs --since 3d --until 2d", "3 2", id="runs, between"),
        pytest.param("runs --offset 9", "", id="runs, none"),
    ],
)
def test_a_page_and_a_period_are_the_same_in_each_format(
    lists: Memctl, words: str, expected: str, form: str
) -> None:
    assert numbers(lists, words, form) == expected.split()


@pytest.mark.parametrize("words", LISTS)
def test_each_format_has_the_chosen_columns_in_their_order(lists: Memctl, words: str) -> None:
    whole = lists.ok(*words.split()).json
    last, first = list(whole[0])[-1], LISTS[words]
    wanted = [{last: record[last], first: record[first]} for record in whole]
    columns = ("--columns", f" {last} , {first},{last}")  # blanks and repetitions do not matter

    printed = {form: lists.ok(*words.split(), *form.split(), *columns).out for form in FORMATS}

    rows = list(csv.reader(io.StringIO(printed["--csv"])))
    table = printed["--table"].splitlines()
    assert printed[""] == "[\n" + ",\n".join(f" {json.dumps(one)}" for one in wanted) + "\n]\n"
    assert printed["--nl"] == "".join(f"{json.dumps(one)}\n" for one in wanted)
    assert (rows[0], [row[1] for row in rows[1:]]) == ([last, first], numbers(lists, words))
    assert [line.split()[-1] for line in table[1:]] == numbers(lists, words)


@pytest.mark.parametrize("words", LISTS)
def test_wide_is_a_table_with_every_field_in_the_order_of_the_json_form(
    lists: Memctl, words: str
) -> None:
    fields = ",".join(lists.ok(*words.split()).json[0])

    wide = lists.ok(*words.split(), "--wide").out

    assert wide == lists.ok(*words.split(), "--wide", "--table").out
    assert wide == lists.ok(*words.split(), "--table", "--columns", fields).out
    assert len(wide.splitlines()) > len(lists.ok(*words.split()).json)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param("{like}x", "there is no column '{like}x'; did you mean {like}?", id="typo"),
        pytest.param("{like},nonsense", "there is no column 'nonsense'; use one of ", id="unknown"),
        pytest.param("", "there is no column ''; use one of ", id="empty"),
        pytest.param("{like},", "there is no column ''; use one of ", id="an empty one"),
        pytest.param("{upper}", "there is no column '{upper}'; ", id="upper case"),
    ],
)
def test_an_unknown_column_is_refused_with_a_suggestion(
    lists: Memctl, columns: str, message: str, form: str
) -> None:
    for words, like in LISTS.items():
        names = {"like": like, "upper": like.upper()}

        answer = lists(*words.split(), *form.split(), "--columns", columns.format(**names))

        assert answer.exit_code == 2
        assert complaint(answer).startswith(f"memctl: {message.format(**names)}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param("--wide --csv", "--json, --table, --csv and --nl cannot be", id="wide, CSV"),
        pytest.param("--wide --json", "--json, --table, --csv and --nl cannot be", id="wide, JSON"),
        pytest.param("--table --nl", "--json, --table, --csv and --nl cannot be", id="two formats"),
        pytest.param("--wide --columns id", "--wide and --columns cannot be", id="wide, columns"),
    ],
)
def test_options_that_exclude_each_other_are_refused_by_each_list(
    lists: Memctl, options: str, message: str
) -> None:
    for words in LISTS:
        answer = lists(*words.split(), *options.split())

        text = answer.err if "--json" not in options else json.loads(answer.err)["error"]["message"]
        assert (answer.exit_code, answer.out) == (2, "")
        assert message in text


@pytest.mark.parametrize("words", ["archived build_agent", "events", "runs"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param("--limit 0", "invalid value for '--limit'", id="no rows"),
        pytest.param("--offset -1", "invalid value for '--offset'", id="a negative offset"),
        pytest.param("--since soon", "'soon' is not a time", id="since what is no time"),
        pytest.param("--until soon", "'soon' is not a time", id="until what is no time"),
        pytest.param("--since 1d --until 2d", "--until is before --since", id="swapped"),
    ],
)
def test_an_invalid_page_or_period_is_refused(
    lists: Memctl, words: str, options: str, message: str
) -> None:
    answer = lists(*words.split(), *options.split())

    assert answer.exit_code == 2
    assert complaint(answer).startswith(f"memctl: {message}")


@pytest.mark.parametrize("words", ["archived build_agent", "runs"])
def test_a_list_reports_that_there_are_more_rows(lists: Memctl, words: str) -> None:
    name = words.split()[0]

    for form in FORMATS:
        cut = lists.ok(*words.split(), *form.split(), "--limit", "3")
        whole = lists.ok(*words.split(), *form.split(), "--limit", "4")
        quiet = lists.ok(*words.split(), *form.split(), "--limit", "3", "--quiet")

        assert cut.err == f"{name}: there are more than 3 rows; see --limit and --offset\n"
        assert (whole.err, quiet.err, quiet.out) == ("", "", cut.out)


def test_an_empty_table_says_so_on_a_terminal_only(migrated: Memctl) -> None:
    words = ("runs", "--job", "decay", "--table")

    shown = on_a_terminal(migrated, *words)
    quiet = on_a_terminal(migrated, *words, "--quiet")
    piped = migrated.ok(*words)

    assert (shown, quiet, piped.out, piped.err) == ("nothing found\r\n", "", "", "")


def test_a_list_of_one_row_reports_that_there_are_more(lists: Memctl) -> None:
    cut = lists.ok("runs", "--limit", "1")

    assert cut.err == "runs: there is more than 1 row; see --limit and --offset\n"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("runs --job cleanpu", "memctl: there is no job 'cleanpu'; did you mean cleanup?\n"),
        (
            "archived build_agent --type learnign",
            "memctl: there is no type 'learnign'; use context, learning, preference,"
            " error_pattern, success_pattern\n",
        ),
    ],
)
def test_an_unknown_name_is_refused_and_not_taken_for_an_empty_list(
    lists: Memctl, words: str, complaint: str
) -> None:
    answer = lists(*words.split())

    assert (answer.exit_code, answer.out, answer.err) == (2, "", complaint)
