"""Records as JSON, NDJSON, CSV and tables.

Text that is stored is spelled out where a terminal or a spreadsheet would interpret it.
"""

import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

from memctl.output.fields import FIELDS, Field, Ranks, cell_text
from memctl.output.terminal import (
    is_styled,
    json_text,
    on_terminal,
    rendered,
    show_notice,
    visible,
    write,
)

Format = Literal["json", "nl", "csv", "table"]
Cell = str | int | float | None


class Output(NamedTuple):
    """How records are printed: the format, and the fields if not those of the format."""

    form: Format
    now: datetime  # which relative times refer to
    columns: Sequence[str] | None = None
    wide: bool = False  # a table with every field
    if_empty: str = ""  # what a terminal shows instead of an empty table


class Column(NamedTuple):
    """A column of a table. A narrow table leaves out the highest ranks, but never rank 0."""

    heading: str
    numeric: bool = False
    rank: int = 0
    whole: bool = False  # never shortened; numbers are not, either
    least: int = Field().least  # cells below which the column is left out


# Spreadsheets evaluate a cell that starts with one of these or its full-width form; see OWASP,
# "CSV Injection". Control characters, which they evaluate too, are spelled out anyway.
BEGIN_A_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")

BETWEEN = 2  # cells between columns
LAST_USUAL_RANK = 1  # the prose of these columns comes before columns of higher ranks
COMFORTABLE = 24  # cells of prose
MOST_PADDING = 1000  # cells off a terminal, where one long text must not make every line as long


def show_records(records: Iterable[Mapping[str, object]], ranks: Ranks, output: Output) -> None:
    """Print records in the chosen format, and with the chosen fields.

    `ranks` are the fields of the table in their order.
    """
    if output.columns and output.form != "table":
        records = ({name: record[name] for name in output.columns} for record in records)
    if output.form == "nl":
        for record in records:
            write(sys.stdout, json_text(record) + "\n")
    elif output.form == "json":
        lines = ",\n".join(f" {json_text(record)}" for record in records)
        write(sys.stdout, f"[\n{lines}\n]\n" if lines else "[]\n")
    elif output.form == "csv":
        _show_csv(records)
    else:
        _show_records_table(list(records), ranks, output)


def _show_records_table(
    records: Sequence[Mapping[str, object]], ranks: Ranks, output: Output
) -> None:
    if not records:
        show_notice(output.if_empty, quiet=not output.if_empty, only_on_terminal=True)
        return
    if output.columns:
        ranks = dict.fromkeys(output.columns, 0)
    elif output.wide:
        ranks = dict.fromkeys(records[0], 0)
    else:  # without the fields that are always empty
        ranks = {
            name: rank
            for name, rank in ranks.items()
            if any(record.get(name) not in (None, "", {}) for record in records)
        }
    fields = {name: FIELDS.get(name, Field()) for name in ranks}
    columns = [
        Column(
            field.heading or name.replace("_", " "),
            numeric=_is_numeric(name, field, records),
            rank=ranks[name],
            whole=field.kind != "prose",
            least=field.least,
        )
        for name, field in fields.items()
    ]
    rows = [
        [_plain(cell_text(name, record.get(name), now=output.now)) for name in fields]
        for record in records
    ]
    show_table(columns, rows)


def _is_numeric(name: str, field: Field, records: Sequence[Mapping[str, object]]) -> bool:
    if field.kind == "prose":
        return all(isinstance(record.get(name), int | float) for record in records)
    return field.kind in ("number", "count", "average", "bytes", "duration")


def show_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Print names and values, a pair per line; a terminal wraps long values."""
    pairs = [(visible(name), _plain(fact)) for name, fact in facts]
    if pairs:
        write(sys.stdout, "".join(f"{line}\n" for line in _beside(pairs, terminal_width())))


def _beside(
    pairs: Sequence[tuple[str, str]], width: int | None, *, style: str = ""
) -> Iterator[str]:
    """Yield the lines of names and texts beside them, wrapped to `width` cells.

    A name that takes more than half of the line is above its text.
    """
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    margin = _margin((name for name, _ in pairs), width)
    room = None if width is None else max(width - margin, 1)
    for name, text in pairs:
        first, *others = wrapped(text, room)
        *above, beside = [name] if cell_len(name) < margin else [*wrapped(name, width), ""]
        shown = [*above, set_cell_size(beside, margin)]
        if style:
            shown = [rendered(Text(line, style=style), styled=True).rstrip("\n") for line in shown]
        shown[-1] += first
        yield from (line.rstrip() for line in shown)
        yield from (" " * margin + line for line in others)


def _margin(names: Iterable[str], width: int | None) -> int:
    """Return the cells of the names that take at most half of a line, and of the gap after them."""
    from rich.cells import cell_len

    taken = (cell_len(name) + BETWEEN for name in names)
    return max((cells for cells in taken if width is None or cells <= width // 2), default=BETWEEN)


def wrapped(text: str, width: int | None) -> list[str]:
    """Return the lines of a text that is wrapped between words, or in words that are too long."""
    from rich.cells import cell_len, chop_cells

    if width is None or cell_len(text) <= width:
        return [text]
    lines = [""]
    for word in text.split(" "):
        line = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(line) <= width:
            lines[-1] = line
            continue
        if lines[-1]:
            lines.append("")
        pieces = chop_cells(word, width) or [""]
        lines[-1:] = pieces
    return lines


def terminal_width() -> int | None:
    """Return the number of cells of a line of the terminal, or None off a terminal."""
    import shutil

    return max(shutil.get_terminal_size().columns, 1) if on_terminal() else None


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
    cell = _plain(json_text(value) if isinstance(value, bool) else value)
    return f"'{cell}" if isinstance(value, str) and cell.startswith(BEGIN_A_FORMULA) else cell


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table that fits the terminal; off a terminal, it is as wide as necessary."""
    write(sys.stdout, table_text(columns, rows, width=terminal_width(), styled=is_styled()))


def table_text(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    width: int | None = None,
    styled: bool = False,
) -> str:
    """Return a table as text, at most `width` cells wide; `styled` adds escape codes.

    A narrow table leaves out columns by their rank and shortens prose. If not even the columns of
    rank 0 fit, each row is a block of lines, as psql's expanded display is.
    """
    texts = [[_plain(value) for value in row] for row in rows]
    widths = _widths(columns, texts, width)
    if widths is None:
        return _blocks_text(columns, texts, width=width or 1, styled=styled)
    if width is None:
        return _unlimited_text(columns, texts, widths, styled=styled)
    from rich.table import Table
    from rich.text import Text

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
    printed = rendered(table, styled=styled, width=sum(widths.values()) + BETWEEN * len(widths))
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


def _unlimited_text(
    columns: Sequence[Column],
    texts: Sequence[Sequence[str]],
    widths: Mapping[int, int],
    *,
    styled: bool,
) -> str:
    """Return a table with whole texts; the lines of those that are very long are not aligned."""
    from rich.text import Text

    headings = [column.heading.split("\n") for column in columns]
    height = max(map(len, headings))
    padded = [[""] * (height - len(heading)) + heading for heading in headings]
    heads = [_aligned(columns, [lines[row] for lines in padded], widths) for row in range(height)]
    if styled:
        heads = [rendered(Text(head, style="bold"), styled=True).rstrip("\n") for head in heads]
    lines = (*heads, *(_aligned(columns, row, widths) for row in texts))
    return "".join(f"{line}\n" for line in lines)


def _aligned(columns: Sequence[Column], cells: Sequence[str], widths: Mapping[int, int]) -> str:
    """Return a line of a table."""
    from rich.cells import cell_len

    aligned = []
    for number, cells_wide in widths.items():
        gap = " " * (min(cells_wide, MOST_PADDING) - cell_len(cells[number]))
        aligned += [gap + cells[number] if columns[number].numeric else cells[number] + gap]
    return (" " * BETWEEN).join(aligned).rstrip()


def _widths(
    columns: Sequence[Column], texts: Sequence[Sequence[str]], width: int | None
) -> dict[int, int] | None:
    """Return the width of each column that is shown, by its number; None if they do not fit."""
    from rich.cells import cell_len

    wanted = [
        max(map(cell_len, (*column.heading.split("\n"), *(row[number] for row in texts))))
        for number, column in enumerate(columns)
    ]
    if width is None:
        return dict(enumerate(wanted))
    least = [
        cells
        if column.whole or column.numeric
        else min(cells, max(column.least, *map(cell_len, column.heading.split("\n")), 0))
        for column, cells in zip(columns, wanted, strict=True)
    ]
    widths: dict[int, int] = {}
    left = width + BETWEEN
    for number in sorted(range(len(columns)), key=lambda number: columns[number].rank):
        if columns[number].rank > LAST_USUAL_RANK:
            left -= _widen(widths, [min(cells, COMFORTABLE) for cells in wanted], left)
        if least[number] + BETWEEN <= left:
            widths[number] = least[number]
            left -= least[number] + BETWEEN
        elif not columns[number].rank:
            return None
    _widen(widths, wanted, left)
    return {number: widths[number] for number in sorted(widths)} or None


def _widen(widths: dict[int, int], wanted: Sequence[int], left: int) -> int:
    """Share out at most `left` cells among columns narrower than wanted; return how many."""
    used = 0
    while growing := [number for number in widths if widths[number] < wanted[number]]:
        for number in growing[: left - used]:
            widths[number] += 1
            used += 1
        if used >= left:
            break
    return used


def _blocks_text(
    columns: Sequence[Column], texts: Sequence[Sequence[str]], *, width: int, styled: bool
) -> str:
    """Return each row as a block with a line for each column; only prose is shortened."""
    from rich.cells import cell_len, set_cell_size

    headings = [column.heading.replace("\n", " ") for column in columns]
    room = max(width - _margin(headings, width), 2)
    blocks = []
    for row in texts:
        pairs = [
            (heading, text)
            if column.whole or column.numeric or cell_len(text) <= room
            else (heading, set_cell_size(text, room - 1) + "…")
            for column, heading, text in zip(columns, headings, row, strict=True)
        ]
        lines = _beside(pairs, width, style="bold" if styled else "")
        blocks.append("".join(f"{line}\n" for line in lines))
    return "\n".join(blocks)


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping | list):
        return json_text(value)
    return visible(value if isinstance(value, str) else str(value))
