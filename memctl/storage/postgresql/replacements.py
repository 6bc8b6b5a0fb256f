"""What `import --lossy` stores in place of staged values that PostgreSQL cannot store.

Each replacement is an UPDATE of the rows that break a rule of `row_rules`, and is counted.
"""

import json
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from sqlite3 import Connection

from memctl.storage.postgresql.row_rules import (
    FIRST_SECOND,
    LAST_SECOND,
    OPTIONAL_TEXTS,
    PROMOTION_TEXTS,
    REQUIRED_TEXTS,
    TIMES,
    is_in_form,
    is_integer,
    is_real,
)
from memctl.storage.sqlite.row_rules import StagedTable
from memctl.storage.sqlite.sections import ARCHIVED
from memctl.storage.sqlite.times import unix_seconds
from memctl.storage.text import encodable
from memctl.storage.times import to_text

KINDS = ("nul", "invalid_utf8", "blobs", "numbers", "times", "ids", "holds")

TEXTS: Mapping[StagedTable, tuple[str, ...]] = {
    "incoming": (*REQUIRED_TEXTS, *OPTIONAL_TEXTS),
    "incoming_promotions": PROMOTION_TEXTS,
}
# The columns whose time must not be NULL, in rows that meet a condition.
REQUIRED_TIMES = {
    ("incoming", "archived_at"): "archived_reason IS NOT NULL",
    ("incoming_promotions", "promoted_at"): "TRUE",
}
EARLIEST, LATEST = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"


def replace_unstorable(db: Connection, *, now: datetime) -> Mapping[str, int]:
    """Replace the staged values that PostgreSQL cannot store; returns how many, by kind."""
    replaced = Counter(dict.fromkeys(KINDS, 0))
    replaced["holds"] = db.execute("DELETE FROM incoming_holds").rowcount
    replaced["numbers"] = _replace_numbers(db)
    replaced["ids"] = _add_ids(db)
    for table, columns in TEXTS.items():
        for column in columns:
            replaced += _replace_texts(db, table, column)
    for table, times in TIMES.items():
        for column, form in times.items():
            replaced["times"] += _replace_times(db, table, column, form, now=now)
    return {kind: replaced[kind] for kind in KINDS}


def _replace_texts(db: Connection, table: StagedTable, column: str) -> Counter[str]:
    """Decode BLOBs, and replace invalid bytes by U+FFFD and NUL by U+2400, its symbol."""
    db.create_function("decoded", 1, lambda content: content.decode("utf-8", "replace"))
    db.create_function("without_nul", 1, lambda content: content.decode().replace("\0", "\u2400"))
    content = f"CAST({column} AS BLOB)"
    changes = {
        "blobs": (f"CAST({column} AS TEXT)", f"typeof({column}) = 'blob'"),
        "invalid_utf8": (f"decoded({content})", f"NOT is_utf8({content})"),
        "nul": (f"without_nul({content})", f"instr({content}, x'00') > 0"),
    }
    return Counter(
        {
            kind: db.execute(
                f"UPDATE {table} SET {column} = {value} WHERE {column} IS NOT NULL AND {condition}"
            ).rowcount
            for kind, (value, condition) in changes.items()
        }
    )


def _replace_numbers(db: Connection) -> int:
    """Round numbers that are too exact or not whole, and clear what is no number.

    A count that is no number becomes 0, since clients add to it.
    """
    changes = {
        "importance": (_nearest("importance"), is_real("importance")),
        "importance_decay_rate": (
            _nearest("importance_decay_rate"),
            is_real("importance_decay_rate"),
        ),
        "access_count": (
            "iif(typeof(access_count) = 'real', CAST(access_count AS INTEGER), 0)",
            is_integer("access_count"),
        ),
        "run_id": ("NULL", is_integer("run_id")),
    }
    return sum(
        db.execute(
            f"UPDATE incoming SET {column} = {value} WHERE {column} IS NOT NULL AND NOT {is_valid}"
        ).rowcount
        for column, (value, is_valid) in changes.items()
    )


def _nearest(column: str) -> str:
    """Return SQL for the double that is nearest to an integer; NULL for anything else."""
    return f"iif({is_integer(column)}, CAST({column} AS REAL), NULL)"


def _add_ids(db: Connection) -> int:
    """Give ids to memories without one, by their content, so that a second import knows them."""

    def id_of(*columns: object) -> str:
        content = json.dumps([encodable(column) for column in columns])
        return str(uuid.uuid5(uuid.NAMESPACE_OID, content))

    others = ", ".join(
        f"CAST({column} AS BLOB)" for column in ARCHIVED.columns if column not in ("id", "run_id")
    )
    db.create_function("id_of", -1, id_of)
    return db.execute(f"UPDATE incoming SET id = id_of({others}) WHERE id IS NULL").rowcount


def _replace_times(
    db: Connection, table: StagedTable, column: str, form: str, *, now: datetime
) -> int:
    """Clear times that cannot be read, and move others into the years that PostgreSQL prints."""
    required = REQUIRED_TIMES.get((table, column), "FALSE")
    seconds = unix_seconds(column)
    return db.execute(
        f"""
        UPDATE {table} SET {column} = (
            SELECT CASE
                WHEN seconds < {FIRST_SECOND} THEN '{EARLIEST}'
                WHEN seconds > {LAST_SECOND} THEN '{LATEST}'
                WHEN {required} THEN :now
            END
            FROM (SELECT {seconds} AS seconds LIMIT -1)
        )
        WHERE {column} IS NOT NULL AND NOT {is_in_form(column, form)}
            AND NOT ifnull({seconds} BETWEEN {FIRST_SECOND} AND {LAST_SECOND}, FALSE)
        """,
        {"now": to_text(now)},
    ).rowcount
