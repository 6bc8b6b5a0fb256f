"""The rules for the values in the rows of a document to import.

Other programs may have stored any value, and a document must be able to restore it: the import
refuses the rows that break a rule, unless --allow-invalid imports them unchanged.
"""

from collections.abc import Mapping
from sqlite3 import Connection
from typing import Literal, NamedTuple

from memctl.storage.memory import TYPES
from memctl.storage.sqlite.database import GREATEST_REAL
from memctl.storage.sqlite.times import unix_seconds

StagedTable = Literal["incoming", "incoming_promotions"]


class Rule(NamedTuple):
    """A rule for a column: SQL that is true for a row that breaks it, and the message for it."""

    column: str
    broken: str
    problem: str


class InvalidValue(NamedTuple):
    """A value that breaks a rule: its section, the number of its row there, and its column."""

    section: str
    row: int
    column: str
    problem: str


def _text(column: str) -> Rule:
    return Rule(column, f"typeof({column}) <> 'text'", "must be text")


def _name(column: str) -> Rule:
    broken = f"typeof({column}) <> 'text' OR {column} = ''"
    return Rule(column, broken, "must be non-empty text")


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

NOT_JSON = """
    CASE
        WHEN typeof(metadata) <> 'text' OR instr(metadata, char(0)) THEN TRUE
        ELSE NOT json_valid(metadata)
    END
"""

Rules = Mapping[StagedTable, tuple[Rule, ...]]

# Active memories have neither archived_reason nor run_id.
RULES: Rules = {
    "incoming": (
        _name("id"),
        _text("agent_id"),
        Rule("type", UNKNOWN_TYPE, "is not one of the known types"),
        _name("key"),
        _text("value"),
        _optional(Rule("metadata", NOT_JSON, "must be JSON")),
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

# SQL for the section of a row.
SECTION_OF_ROW: dict[StagedTable, str] = {
    "incoming": "iif(archived_reason IS NULL, 'active', 'archived')",
    "incoming_promotions": "'promotions'",
}


def note_invalid_rows(db: Connection, rules: Rules = RULES) -> None:
    """Note the rows that break a rule, in one pass over all rows, and forget earlier ones."""
    for table, of_table in rules.items():
        any_broken = " OR ".join(f"({rule.broken})" for rule in of_table)
        db.execute(f"DROP TABLE IF EXISTS temp.invalid_{table}")
        db.execute(
            f"CREATE TEMP TABLE invalid_{table} AS"
            f" SELECT rowid AS invalid_row FROM {table} WHERE {any_broken}"
        )


def find_invalid_values(
    db: Connection,
    conditions: Mapping[StagedTable, str],
    *,
    limit: int,
    rules: Rules = RULES,
) -> list[InvalidValue]:
    """Return the first invalid values in the rows noted for these rules.

    Each table has a condition on its rows.
    """
    queries = [
        _invalid_values(table, place, rule, conditions[table])
        for table, of_table in rules.items()
        for place, rule in enumerate(of_table)
    ]
    found = db.execute(f"{' UNION ALL '.join(queries)} ORDER BY 1, 2, 3 LIMIT {limit}")
    return [
        InvalidValue(section, number, column, problem)
        for section, number, _, column, problem in found
    ]


def _invalid_values(table: StagedTable, place: int, rule: Rule, condition: str) -> str:
    """Return SQL for the rows that break a rule, with the place of the rule in their order."""
    return f"""
        SELECT {SECTION_OF_ROW[table]}, number, {place}, '{rule.column}', '{rule.problem}'
        FROM {table}
        WHERE rowid IN (SELECT invalid_row FROM invalid_{table})
            AND {condition} AND ({rule.broken})
    """
