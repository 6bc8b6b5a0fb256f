"""Records as JSON, NDJSON, CSV and tables.

Text that is stored is spelled out where a terminal or a spreadsheet would interpret it.
"""

import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from memctl.output.terminal import is_styled, json_text, on_terminal, rendered, visible, write

Format = Literal["json", "nl", "csv", "table"]
Cell = str | int | float | None


class Column(NamedTuple):
    """A column of a table; the highest rank is dropped first, and rank 0 never."""

    heading: str
    numeric: bool = False
    rank: int = 0


# Spreadsheets evaluate a cell that starts with one of these or its full-width form; see OWASP,
# "CSV Injection". Control characters, which they evaluate too, are spelled out anyway.
BEGIN_A_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")

LEAST_CELLS = 6  # to which a narrow table shortens a text


def show_rows(rows: Iterable[Mapping[str, object]], form: Format) -> None:
    """Print records as a JSON array, as one JSON object per line, as CSV, or as a table."""
    if form == "nl":
        for row in rows:
            write(sys.stdout, json_text(row) + "\n")
    elif form == "json":
        lines = ",\n".join(f" {json_text(row)}" for row in rows)
        write(sys.stdout, f"[\n{lines}\n]\n" if lines else "[]\n")
    elif form == "csv":
        _show_csv(rows)
    else:
        _show_table(list(rows))


def show_facts(facts: Mapping[str, object]) -> None:
    """Print names and values, one pair per line."""
    from rich.cells import cell_len, set_cell_size

    width = max(cell_len(visible(name)) for name in facts)
    for name, fact in facts.items():
        write(sys.stdout, f"{set_cell_size(visible(name), width)}  {_plain(fact)}\n")


def _show_csv(rows: Iterable[Mapping[str, object]]) -> None:
    import csv

    for number, row in enumerate(rows):
        line = io.StringIO()
        writer = csv.writer(line, lineterminator="\n")
        if number == 0:
            writer.writerow(row)
        writer.writerow(_csv_cell(value) for value in row.values())
        write(sys.stdout, line.getvalue())


def _csv_cell(value: object) -> str:
    """Return a cell that a spreadsheet does not evaluate: a formula is prefixed with `'`."""
    cell = _plain(value)
    return f"'{cell}" if isinstance(value, str) and cell.startswith(BEGIN_A_FORMULA) else cell


def _show_table(rows: Sequence[Mapping[str, object]]) -> None:
    if not rows:
        return
    columns = [
        Column(
            name,
            numeric=all(isinstance(row[name], int | float | None) for row in rows),
            rank=int(all(row[name] in (None, "") for row in rows)),
        )
        for name in rows[0]
    ]
    show_table(columns, [[_plain(value) for value in row.values()] for row in rows])


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table; a narrow terminal drops the columns that have a rank."""
    import shutil

    # Off a terminal, the table is as wide as necessary.
    width = shutil.get_terminal_size().columns if on_terminal() else None
    write(sys.stdout, table_text(columns, rows, width=width, styled=is_styled()))


def table_text(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    width: int | None = None,
    styled: bool = False,
) -> str:
    """Return a table as text, `width` cells wide if possible; `styled` adds escape codes.

    A narrow table truncates text, but not numbers and times, which would be misleading; it is then
    wider than the terminal.
    """
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    lines = [column.heading.split("\n") for column in columns]
    texts = [[_plain(value) for value in row] for row in rows]
    wanted = [
        max(map(cell_len, (*lines[number], *(row[number] for row in texts))))
        for number in range(len(columns))
    ]
    widths = dict(enumerate(wanted)) if width is None else _fitted(columns, wanted, width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, cells in widths.items():
        column = columns[number]
        table.add_column(
            column.heading,
            justify="right" if column.numeric else "left",
            vertical="bottom",
            no_wrap=True,
            width=cells,
        )
    for row in texts:
        table.add_row(*(Text(row[number]) for number in widths))
    printed = rendered(table, styled=styled, width=sum(widths.values()) + 2 * len(widths))
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


def _fitted(columns: Sequence[Column], wanted: Sequence[int], width: int) -> dict[int, int]:
    """Return the width of each column that fits into a table of `width` cells, by its number."""
    widths = dict(enumerate(wanted))

    def is_too_wide() -> bool:
        return sum(widths.values()) + 2 * (len(widths) - 1) > width

    while is_too_wide():
        last = max(widths, key=lambda number: columns[number].rank)
        if not columns[last].rank:
            break
        del widths[last]
    texts = [
        number
        for number in widths
        if not columns[number].numeric and not re.search("(^|_)at$", columns[number].heading)
    ]
    for number in texts:
        widths[number] = min(widths[number], width)
    while is_too_wide() and texts:
        widest = max(texts, key=widths.__getitem__)
        if widths[widest] <= LEAST_CELLS:
            break
        widths[widest] -= 1
    return widths


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping | list):
        return json_text(value)
    return visible(value if isinstance(value, str) else str(value))


def only_columns(
    columns: Sequence[str], rows: Iterable[Mapping[str, object]]
) -> Iterator[dict[str, object]]:
    """Select columns of records."""
    return ({name: row[name] for name in columns} for row in rows)
