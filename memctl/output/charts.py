"""Charts as inline SVG, without scripts, fonts or other files.

Colours are CSS classes of the surrounding page, which has a light and a dark scheme. Text is
escaped here; the caller spells out unprintable characters.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 24  # around the plot
LINE = 24  # height of a horizontal bar and its label
LABEL = 132  # width of the labels of horizontal bars
LONGEST_LABEL = 20
LETTER = 7  # width of a letter below the plot
STEPS = 4  # of the vertical axis, at most


class Series(NamedTuple):
    """One colour of stacked bars: a value for each label."""

    name: str
    colour: str
    values: Sequence[int]


def line_chart(name: str, labels: Sequence[str], values: Sequence[int | None]) -> str:
    """Draw values as a line over an area; None is a gap."""
    step, top = _scale(max((value for value in values if value is not None), default=0))
    across = (WIDTH - LEFT - RIGHT) / max(len(values) - 1, 1)
    floor = HEIGHT - BOTTOM
    radius = 2.5 if len(values) < 40 else 1
    shapes: list[str] = []
    for stretch in _stretches(values):
        points = [
            (LEFT + number * across, floor - (values[number] or 0) * (floor - TOP) / top)
            for number in stretch
        ]
        path = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        shapes.append(
            f'<path class="area" d="M{points[0][0]:.1f} {floor} L{path} '
            f'L{points[-1][0]:.1f} {floor} Z"/><path class="line" d="M{path}"/>'
        )
        for number, (x, y) in zip(stretch, points, strict=True):
            label = f"{labels[number]}: {values[number]:,}"
            shapes.append(
                f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
                f"{_tooltip(label)}</circle>"
            )
    return _svg(name, [*_axis(step, top), *_names(labels, first=0, across=across), *shapes])


def _stretches(values: Sequence[int | None]) -> list[list[int]]:
    """Return the indexes of the values, grouped by the gaps between them."""
    stretches: list[list[int]] = []
    for number, value in enumerate(values):
        if value is None:
            continue
        if number and values[number - 1] is not None:
            stretches[-1].append(number)
        else:
            stretches.append([number])
    return stretches


def stacked_bars(name: str, labels: Sequence[str], series: Sequence[Series]) -> str:
    """Draw a bar for each label, with a segment for each series."""
    sums = [sum(column) for column in zip(*(one.values for one in series), strict=True)]
    step, top = _scale(max(sums, default=0))
    floor = HEIGHT - BOTTOM
    across = (WIDTH - LEFT - RIGHT) / max(len(labels), 1)
    width = max(min(across * 0.7, 36), 1)
    shapes = []
    for number, label in enumerate(labels):
        x = LEFT + (number + 0.5) * across - width / 2
        y = float(floor)
        for one in series:
            height = one.values[number] * (floor - TOP) / top
            y -= height
            if height:
                tooltip = _tooltip(f"{label}: {one.values[number]:,} {one.name}")
                shapes.append(_bar(one.colour, x, y, width, height, tooltip))
    return _svg(
        name, [*_axis(step, top), *_names(labels, first=across / 2, across=across), *shapes]
    )


def horizontal_bars(name: str, labels: Sequence[str], values: Sequence[int]) -> str:
    """Draw a row for each label: its name, a bar, and the value."""
    top = max([*values, 1])
    room = WIDTH - LABEL - 56
    shapes = []
    for number, (label, value) in enumerate(zip(labels, values, strict=True)):
        y = number * LINE
        cut = label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
        width = max(value * room / top, 1)
        shapes += [
            f'<text x="{LABEL - 8}" y="{y + 16}" text-anchor="end">{escape(cut)}</text>',
            _bar("one", LABEL, y + 5, width, LINE - 9, _tooltip(f"{label}: {value:,}")),
            f'<text x="{LABEL + width + 6:.1f}" y="{y + 16}">{value:,}</text>',
        ]
    return _svg(name, shapes, height=max(len(labels), 1) * LINE)


def _bar(colour: str, x: float, y: float, width: float, height: float, inside: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{colour}" {place}>{inside}</rect>'


def _tooltip(text: str) -> str:
    """Return the text that a browser shows when the pointer is over a shape."""
    return f"<title>{escape(text)}</title>"


def _svg(name: str, shapes: Sequence[str], *, height: int = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(name)}">'
        f"{''.join(shapes)}</svg>"
    )


def _scale(most: int) -> tuple[int, int]:
    """Return a round step for the vertical axis, and its upper end, at least `most`."""
    step = 1
    while step * STEPS < most:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return step, step * max(-(-most // step), 1)


def _axis(step: int, top: int) -> list[str]:
    """Return the grid lines and numbers of the vertical axis."""
    floor = HEIGHT - BOTTOM
    lines = []
    for value in range(0, top + 1, step):
        y = floor - value * (floor - TOP) / top
        lines.append(
            f'<path class="grid" d="M{LEFT} {y:.1f} H{WIDTH - RIGHT}"/>'
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,}</text>'
        )
    return lines


def _names(labels: Sequence[str], *, first: float, across: float) -> list[str]:
    """Return the labels below the plot: all of them if there is room, else the first and the last.

    The first is placed at `first`, each other one `across` units further.
    """
    room = across >= LETTER * max(map(len, labels), default=0)
    names = []
    for number in range(len(labels)) if room else {0, len(labels) - 1}:
        anchor = "middle"
        if not room:
            anchor = "end" if number else "start"
        elif not first and len(labels) > 1:
            anchor = {0: "start", len(labels) - 1: "end"}.get(number, "middle")
        x = LEFT + first + number * across
        names.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">'
            f"{escape(labels[number])}</text>"
        )
    return names
