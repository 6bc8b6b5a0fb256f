"""Charts as inline SVG, without scripts, fonts or other files.

Colours and font sizes are CSS classes of the surrounding page, which has a light and a dark
scheme. A chart is as wide as its place: 400 units are about 340 pixels on a phone and 500 on a
desktop, and the page uses larger text on a phone. Text is escaped here; the caller spells out
unprintable characters.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 44, 26, 12, 26  # around the plot
LINE = 40  # height of a name and the horizontal bar below it
VALUE = 70  # width of the number after a horizontal bar
LABEL = 26  # width of a name in ems, the height of its letters; a phone has room for 28
LETTER = 8  # width of a letter below the plot
STEPS = 4  # of the vertical axis, at most


class Chart(NamedTuple):
    """The title of a chart, and a sentence that describes it; `id` is unique on a page."""

    id: str
    title: str
    description: str = ""


class Series(NamedTuple):
    """One colour of stacked bars: a value for each label."""

    name: str
    colour: str
    values: Sequence[int]


def line_chart(chart: Chart, labels: Sequence[str], values: Sequence[int | None]) -> str:
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
    return _svg(chart, [*_axis(step, top), *_names(labels, first=0, across=across), *shapes])


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


def stacked_bars(chart: Chart, labels: Sequence[str], series: Sequence[Series]) -> str:
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
        chart, [*_axis(step, top), *_names(labels, first=across / 2, across=across), *shapes]
    )


def horizontal_bars(chart: Chart, labels: Sequence[str], values: Sequence[int]) -> str:
    """Draw two rows for each label: its name, then a bar with the value."""
    top = max([*values, 1])
    room = WIDTH - VALUE
    shapes = []
    for number, (label, value) in enumerate(zip(labels, values, strict=True)):
        y = number * LINE
        width = max(value * room / top, 1)
        shapes += [
            f'<text x="0" y="{y + 15}">{escape(_cut(label))}</text>',
            _bar("one", 0, y + 20, width, 13, _tooltip(f"{label}: {value:,}")),
            f'<text x="{width + 6:.1f}" y="{y + 31}">{value:,}</text>',
        ]
    return _svg(chart, shapes, height=max(len(labels), 1) * LINE)


def _cut(label: str) -> str:
    """Return a label that fits above its bar."""
    room = float(LABEL)
    for number, letter in enumerate(label):
        room -= 0.64 if letter.isascii() and not letter.isupper() and letter not in "mw%@" else 1
        if room < 0:
            return f"{label[:number]}…"
    return label


def _bar(colour: str, x: float, y: float, width: float, height: float, inside: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{colour}" {place}>{inside}</rect>'


def _tooltip(text: str) -> str:
    """Return the text that a browser shows when the pointer is over a shape."""
    return f"<title>{escape(text)}</title>"


def _svg(chart: Chart, shapes: Sequence[str], *, height: int = HEIGHT) -> str:
    names = f"{chart.id}-title {chart.id}-desc"
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{names}">'
        f'<title id="{chart.id}-title">{escape(chart.title)}</title>'
        f'<desc id="{chart.id}-desc">{escape(chart.description)}</desc>'
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
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{_short(value)}</text>"
        )
    return lines


def _short(value: int) -> str:
    """Return a round number for the axis, which is narrow: `9,500`, `20k`, `1.5M`."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= max(size, 10_000):
            return f"{value / size:g}{unit}"
    return f"{value:,}"


def _names(labels: Sequence[str], *, first: float, across: float) -> list[str]:
    """Return the labels below the plot, or as many of them as there is room for.

    The first is placed at `first`, each other one `across` units further.
    """
    widest = LETTER * max(map(len, labels), default=0)
    step = int(widest // across) + 1
    return [
        f'<text class="tick" x="{LEFT + first + number * across:.1f}" y="{HEIGHT - 7}"'
        f' text-anchor="middle">{escape(labels[number])}</text>'
        for number in range(0, len(labels), step)
    ]
