"""What PostgreSQL can store of a document: rules for staged values, and the form of their times.

Unlike SQLite, it stores text only if it is UTF-8 without NUL, numbers only in numeric columns, and
times only as moments. Times are read by the SQL that reads them everywhere; they are staged in the
form in which the server's are read, so that equal moments are equal texts.
"""

from sqlite3 import Connection

from memctl.storage.sqlite.row_rules import (
    InvalidValue,
    Rule,
    Rules,
    StagedTable,
    note_invalid_rows,
)
from memctl.storage.sqlite.row_rules import find_invalid_values as find_broken
from memctl.storage.sqlite.times import unix_seconds

REQUIRED_TEXTS = ("id", "agent_id", "type", "key", "value")
OPTIONAL_TEXTS = ("metadata", "archived_reason")
PROMOTION_TEXTS = ("agent_id", "type", "key", "entry_id", "content_hash")

# https://www.postgresql.org/docs/current/btree-implementation.html: a third of a page, with headers
MOST_NAME_BYTES = 2600

GREATEST_EXACT = 2**53  # the integers that a double stores exactly
FIRST_SECOND, LAST_SECOND = -62135596800, 253402300799  # of the years 1 to 9999

SECONDS_FORM = "%Y-%m-%d %H:%M:%S"
EXPIRY_FORM = "%Y-%m-%dT%H:%M:%fZ"
OUR_FORM = "%Y-%m-%dT%H:%M:%SZ"

# The columns with times, and the forms in which they are read from the server.
TIMES: dict[StagedTable, dict[str, str]] = {
    "incoming": {
        "last_accessed": SECONDS_FORM,
        "created_at": SECONDS_FORM,
        "expires_at": EXPIRY_FORM,
        "archived_at": OUR_FORM,
        "last_decay_at": OUR_FORM,
        "promoted_at": OUR_FORM,
    },
    "incoming_promotions": {"promoted_at": OUR_FORM},
}


def create_functions(db: Connection) -> None:
    """Create the functions that the rules use."""
    db.create_function("is_utf8", 1, _is_utf8, deterministic=True)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_in_form(column: str, form: str) -> str:
    """Return SQL that is true for a time of the years 1 to 9999 in a form of strftime()."""
    return f"""ifnull(
        {column} = strftime('{form}', {column}, '+0 days') AND {column} > '0001', FALSE
    )"""


def _text(column: str, *, required: bool) -> tuple[Rule, ...]:
    allowed = "'text'" if required else "'text', 'null'"
    not_text = f"typeof({column}) NOT IN ({allowed})"
    content = f"CAST({column} AS BLOB)"
    return (
        Rule(column, not_text, "must be text"),
        Rule(
            column,
            f"typeof({column}) = 'text' AND instr({content}, x'00') > 0",
            "contains NUL, which PostgreSQL cannot store",
        ),
        Rule(
            column,
            f"typeof({column}) = 'text' AND NOT is_utf8({content})",
            "is invalid UTF-8, which PostgreSQL cannot store",
        ),
    )


def _time(column: str, form: str) -> Rule:
    readable = f"{unix_seconds(column)} BETWEEN {FIRST_SECOND} AND {LAST_SECOND}"
    valid = f"{is_in_form(column, form)} OR ifnull({readable}, FALSE)"
    return Rule(
        column,
        f"{column} IS NOT NULL AND NOT ({valid})",
        "must be a time in the years 1 to 9999 for PostgreSQL",
    )


def is_real(column: str) -> str:
    """Return SQL that is true for a number that a double stores exactly; infinity is none."""
    return f"""(
        typeof({column}) = 'real' AND abs({column}) < 9e999
        OR typeof({column}) = 'integer' AND (
            {column} BETWEEN -{GREATEST_EXACT} AND {GREATEST_EXACT}
            OR {column} = CAST({column} AS REAL)
        )
    )"""


def is_integer(column: str) -> str:
    """Return SQL that is true for an integer."""
    return f"typeof({column}) = 'integer'"


NOT_REAL = "must be a number, and not too large, for PostgreSQL"
NOT_INTEGER = "must be an integer for PostgreSQL"


def _number(column: str, is_valid: str, problem: str) -> Rule:
    return Rule(column, f"{column} IS NOT NULL AND NOT {is_valid}", problem)


def _names(*columns: str) -> Rule:
    together = " + ".join(f"length(CAST({column} AS BLOB))" for column in columns)
    return Rule(
        columns[-1],
        f"{together} > {MOST_NAME_BYTES}",
        f"has more than {MOST_NAME_BYTES:,} bytes, together with {' and '.join(columns[:-1])}",
    )


STORABLE: Rules = {
    "incoming": (
        *(rule for column in REQUIRED_TEXTS for rule in _text(column, required=True)),
        *(rule for column in OPTIONAL_TEXTS for rule in _text(column, required=False)),
        _names("agent_id", "id"),
        _names("agent_id", "type", "key"),
        _number("importance", is_real("importance"), NOT_REAL),
        _number("access_count", is_integer("access_count"), NOT_INTEGER),
        _number("importance_decay_rate", is_real("importance_decay_rate"), NOT_REAL),
        _number("run_id", is_integer("run_id"), NOT_INTEGER),
        *(_time(column, form) for column, form in TIMES["incoming"].items()),
    ),
    "incoming_promotions": (
        *(rule for column in PROMOTION_TEXTS for rule in _text(column, required=True)),
        _names("agent_id", "type", "key"),
        *(_time(column, form) for column, form in TIMES["incoming_promotions"].items()),
    ),
}


def find_unstorable(db: Connection, *, limit: int) -> list[InvalidValue]:
    """Return the first values that PostgreSQL cannot store."""
    note_invalid_rows(db, STORABLE)
    every_row: dict[StagedTable, str] = {"incoming": "TRUE", "incoming_promotions": "TRUE"}
    found = find_broken(db, every_row, limit=limit, rules=STORABLE)
    holds = db.execute("SELECT number FROM incoming_holds ORDER BY number LIMIT ?", (limit,))
    return [
        *found,
        *(InvalidValue("holds", row, "agent_id", "PostgreSQL has no holds") for (row,) in holds),
    ]


def _microseconds(column: str) -> str:
    """Return SQL for the six digits after the seconds of a time, of which there may be more."""
    point = f"instr(replace({column}, ',', '.'), '.')"
    rest = f"substr({column}, {point} + 1)"
    digits = f"substr({rest}, 1, length({rest}) - length(ltrim({rest}, '0123456789')))"
    return f"substr(iif({point}, {digits}, '') || '000000', 1, 6)"


def _in_form(seconds: str, micros: str, form: str) -> str:
    """Return SQL for a moment as it is read from the server."""
    if form == EXPIRY_FORM:
        milliseconds = (
            f"substr({micros}, 1, 3) || iif({micros} LIKE '___000', '', substr({micros}, 4))"
        )
        start, fraction, end = "%Y-%m-%dT%H:%M:%S", f"'.' || {milliseconds}", "Z"
    else:
        start, end = form.removesuffix("Z"), "Z" if form.endswith("Z") else ""
        fraction = f"iif({micros} = '000000', '', '.' || {micros})"
    return f"strftime('{start}', {seconds}, 'unixepoch') || {fraction} || '{end}'"


def write_times_alike(db: Connection) -> None:
    """Write all times as they are read from the server; each means the same moment as before."""
    for table, columns in TIMES.items():
        for column, form in columns.items():
            db.execute(
                f"""
                UPDATE {table} SET {column} = (
                    SELECT {_in_form("seconds", "micros", form)} FROM (
                        SELECT {unix_seconds(column)} AS seconds, {_microseconds(column)} AS micros
                        LIMIT -1
                    )
                )
                WHERE {column} IS NOT NULL AND NOT {is_in_form(column, form)}
                """
            )
