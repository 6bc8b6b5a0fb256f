"""What rows of a document must hold; --allow-invalid imports the others exactly as they are.

Other programs may have stored anything, and a document must be able to bring that back. What is
more likely a mistake is named instead of imported.
"""

from collections.abc import Mapping
from sqlite3 import Connection
from typing import NamedTuple

from memctl.documents.document import PROBLEMS_SHOWN
from memctl.storage.sqlite.database import GREATEST_REAL
from memctl.storage.sqlite.memories import TYPES
from memctl.storage.times import unix_seconds


class Rule(NamedTuple):
    """What a column must hold, and SQL that is true for a row in which it does not."""

    column: str
    broken: str
    problem: str


def _text(column: str) -> Rule:
    return Rule(column, f"typeof({column}) <> 'text'", "must be text")


def _name(column: str) -> Rule:
    broken = f"typeof({column}) <> 'text' OR {column} = ''"
    return Rule(column, broken, "must be text, and not empty")


def _time(column: str) -> Rule:
    return Rule(
        column, f"{unix_seconds(column)} IS NULL", "must be a time such as 2026-11-22T09:43:58Z"
    )


def _number(column: str, greatest: str, problem: str) -> Rule:
    is_number = f"typeof({column}) IN ('integer', 'real')"
    return Rule(column, f"NOT ({is_number} AND {column} BETWEEN 0 AND {greatest})", problem)


def _optional(rule: Rule) -> Rule:
    return rule._replace(broken=f"{rule.column} IS NOT NULL AND ({rule.broken})")


KNOWN_TYPES = ", ".join(f"'{kind}'" for kind in TYPES)
UNKNOWN_TYPE = f"type NOT IN ({KNOWN_TYPES})"

NO_JSON = """
    CASE
        WHEN typeof(metadata) <> 'text' OR instr(metadata, char(0)) THEN TRUE
        ELSE NOT json_valid(metadata)
    END
"""

# By the table in which a document is laid out; what is active has no archived_reason and run_id.
RULES = {
    "incoming": (
        _name("id"),
        _text("agent_id"),
        Rule("type", UNKNOWN_TYPE, "is none of the known ones"),
        _name("key"),
        _text("value"),
        _optional(Rule("metadata", NO_JSON, "must be JSON")),
        _optional(_number("importance", "10", "must be a number from 0 to 10")),
        _optional(
            Rule(
                "access_count",
                "typeof(access_count) <> 'integer' OR access_count < 0",
                "must be an integer of at least 0",
            )
        ),
        _optional(_time("last_accessed")),
        _optional(_time("created_at")),
        _optional(_time("expires_at")),
        _optional(_time("archived_at")),
        _optional(
            _number("importance_decay_rate", GREATEST_REAL, "must be a number of at least 0")
        ),
        _optional(_time("last_decay_at")),
        _optional(_time("promoted_at")),
        _optional(_name("archived_reason")),
        _optional(Rule("run_id", "typeof(run_id) <> 'integer'", "must be an integer")),
    ),
    "incoming_promotions": (
        _text("agent_id"),
        _name("type"),
        _name("key"),
        _name("entry_id"),
        _name("content_hash"),
        _time("promoted_at"),
    ),
}

# In which section of the document a row of each table stood.
SECTION_OF_ROW = {
    "incoming": "iif(archived_reason IS NULL, 'active', 'archived')",
    "incoming_promotions": "'promotions'",
}

BROKEN_ROWS = """
    SELECT {section}, number, {place}, '{column}', '{problem}' FROM {table}
    WHERE rowid IN (SELECT invalid_row FROM invalid_{table}) AND {condition} AND ({broken})
"""


def note_invalid_rows(db: Connection) -> None:
    """Find the rows that break a rule, in one pass over all; nothing is refused yet."""
    for table, rules in RULES.items():
        any_broken = " OR ".join(f"({rule.broken})" for rule in rules)
        db.execute(
            f"CREATE TEMP TABLE invalid_{table} AS"
            f" SELECT rowid AS invalid_row FROM {table} WHERE {any_broken}"
        )


def problems_of_rows(db: Connection, conditions: Mapping[str, str]) -> list[str]:
    """Say what is wrong with the first noted rows; each table has a condition on its rows."""
    queries = [
        BROKEN_ROWS.format(
            section=SECTION_OF_ROW[table],
            place=place,
            column=rule.column,
            problem=rule.problem,
            table=table,
            condition=conditions[table],
            broken=rule.broken,
        )
        for table, rules in RULES.items()
        for place, rule in enumerate(rules)
    ]
    found = db.execute(f"{' UNION ALL '.join(queries)} ORDER BY 1, 2, 3 LIMIT {PROBLEMS_SHOWN + 1}")
    return [
        f"{section} row {number}, {column}: {problem}"
        for section, number, _, column, problem in found
    ]
