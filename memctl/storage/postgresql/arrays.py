"""Statements that write many rows at once, passed as one array for each column."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from memctl.storage.postgresql.copied_tables import CopiedTable
from memctl.storage.postgresql.database import Database


def insert_rows(
    db: Database,
    table: CopiedTable,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    replacing: bool,
) -> None:
    """Insert rows; if `replacing`, in place of those that have the same key.

    Times are texts in UTC, with or without a Z at the end.
    """
    if not rows:
        return
    others = [column for column in columns if column not in table.key]
    excluded = ", ".join(f"{column} = excluded.{column}" for column in others)
    or_replace = f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {excluded}"
    db.execute(
        f"INSERT INTO {table.name} ({', '.join(columns)})"
        f" SELECT * FROM {_arrays(table, columns)} {or_replace if replacing else ''}",
        _parameters(table, columns, rows),
    )


def delete_rows(
    db: Database, table: CopiedTable, keys: Collection[Sequence[Any]], *, agent: str | None
) -> None:
    """Delete the rows with these keys, all of one agent if the table has agents."""
    if not keys:
        return
    of_agent = "" if agent is None else f"{table.name}.agent_id = %(agent)s AND"
    same = " AND ".join(f"{table.name}.{column} = gone.{column}" for column in table.key)
    gone = f"{_arrays(table, table.key)} AS gone ({', '.join(table.key)})"
    db.execute(
        f"DELETE FROM {table.name} USING {gone} WHERE {of_agent} {same}",
        {"agent": agent, **_parameters(table, table.key, list(keys))},
    )


def moment(text: str | None) -> str | None:
    """Return a time for the server, whatever the time zone of the session is."""
    return text if text is None or text.endswith("Z") else f"{text}Z"


def _arrays(table: CopiedTable, columns: Sequence[str]) -> str:
    """Return SQL for the rows that the parameters contain."""
    arrays = (f"%({column})s::{table.type_of(column)}[]" for column in columns)
    return f"unnest({', '.join(arrays)})"


def _parameters(
    table: CopiedTable, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        convert = CONVERSIONS.get(table.type_of(column))
        found[column] = [*map(convert, values)] if convert else list(values)
    return found


def _real(number: float | None) -> float | None:
    """Return a number as a float: the values of an array must be of one type."""
    return None if number is None else float(number)


CONVERSIONS: Mapping[str, Callable[[Any], object]] = {
    "timestamptz": moment,
    "double precision": _real,
}
