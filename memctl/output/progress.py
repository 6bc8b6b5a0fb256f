"""Progress on a terminal: one line on stderr, shown after a second and erased at the end.

A thread draws it. The work only counts: a slow terminal neither delays it nor makes it hold a lock
for longer, and SQLite need not call back during a statement. The cursor stays visible, so that
nothing has to be restored after a kill.
"""

import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from memctl.output.terminal import is_styled, set_line_eraser
from memctl.storage.progress import Progress

if TYPE_CHECKING:  # slow to import, and needed only after a second
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn

SHOWN_AFTER = 1.0  # seconds
REDRAWN_EVERY = 0.2
MOST_SECONDS_TO_END = 1.0  # for a terminal that takes no output
LONGEST_BAR = 40
SHORTEST_BAR = 8
ERASE_REST = "\x1b[K"  # of the line
ERASE = f"\r{ERASE_REST}"
USUAL_COLUMNS = 80  # of a terminal that does not know its size
SWITCH_SECONDS = 0.0005  # drawing must not keep the work from its next statement for longer


class Phase:
    """A phase of the work, which the drawing thread reads while the work counts."""

    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.done = 0
        self.begun = time.monotonic()


class TerminalProgress(Progress):
    """The progress of one command, shown while the block runs."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._phase = Phase("", None, "")
        self._drawing = threading.Lock()
        self._ended = threading.Event()
        self._shown = False

    def begin(self, task: str) -> None:
        self._task = task

    def phase(self, name: str, *, total: int | None = None, unit: str = "rows") -> None:
        self._phase = Phase(name, total, unit)

    def advance(self, count: int = 1) -> None:
        self._phase.done += count

    def reach(self, done: int, total: int | None) -> None:
        self._phase.done, self._phase.total = done, total

    def __enter__(self) -> Self:
        set_line_eraser(self.erased)
        threading.Thread(target=self._draw_until_end, daemon=True).start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._ended.set()
        set_line_eraser(None)
        if self._drawing.acquire(timeout=MOST_SECONDS_TO_END):
            self._erase()
            self._drawing.release()

    @contextmanager
    def erased(self) -> Iterator[None]:
        """Erase the line, and let the block print something else in its place."""
        with self._drawing:
            self._erase()
            yield

    def _erase(self) -> None:
        if self._shown:
            self._shown = False
            with suppress(OSError):  # the terminal no longer exists
                _write(ERASE)

    def _draw_until_end(self) -> None:
        """Draw the line again and again, in the thread."""
        import signal

        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # the main thread's
        if self._ended.wait(SHOWN_AFTER):
            return
        sys.setswitchinterval(SWITCH_SECONDS)
        line = ProgressLine()
        with suppress(OSError):  # the terminal no longer exists
            while not self._ended.is_set():
                columns = os.get_terminal_size(sys.stderr.fileno()).columns or USUAL_COLUMNS
                text = line.text(self._task, self._phase, width=columns - 1)
                with self._drawing:
                    if self._ended.is_set():
                        return
                    self._shown = True
                    _write(f"\r{text}{ERASE_REST}")
                self._ended.wait(REDRAWN_EVERY)


class ProgressLine:
    """The text of the line, with rates and bars by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        class Buffer(io.StringIO):
            encoding = sys.stderr.encoding  # rich draws bars with ASCII if it must

        self._buffer = Buffer()
        self._styled = is_styled(sys.stderr)
        self._console = Console(
            file=self._buffer,
            force_terminal=True,
            color_system="standard" if self._styled else None,
            legacy_windows=False,
        )
        self._bar, self._text = BarColumn, TextColumn
        self._make = Progress
        self._phase: Phase | None = None
        self._progress: RichProgress

    def text(self, task: str, phase: Phase, *, width: int) -> str:
        """Return the line, which has at most `width` cells."""
        if phase is not self._phase:
            self._phase = phase
            self._progress = self._make(console=self._console, auto_refresh=False)
            self._progress.add_task("", total=phase.total)
        (shown,) = self._progress.tasks
        self._progress.update(shown.id, completed=phase.done, total=phase.total)
        name = f"{task}: {phase.name}" if phase.name else task
        done = f"{phase.done:,}" if phase.total is None else f"{phase.done:,}/{phase.total:,}"
        texts = [f"{done} {phase.unit}", *self._speed_and_time(phase)]
        if phase.total is None and not phase.done:
            texts = texts[-1:]
        while texts and len(name) + sum(len(text) + 1 for text in texts) > width:
            texts.pop(-2 if len(texts) > 2 else -1)
        room = width - len(name) - sum(len(text) + 1 for text in texts) - 1
        columns: list[ProgressColumn] = [self._text("{task.description}", markup=False)]
        if room >= SHORTEST_BAR:
            columns.append(self._bar(bar_width=min(room, LONGEST_BAR)))
        columns += [self._text(text, markup=False) for text in texts]
        self._progress.columns = tuple(columns)
        self._progress.update(shown.id, description=name[:width])
        self._console.width = width
        self._buffer.seek(0)
        self._buffer.truncate()
        self._console.print(self._progress.get_renderable(), end="", soft_wrap=False)
        return self._buffer.getvalue().partition("\n")[0]

    def _speed_and_time(self, phase: Phase) -> list[str]:
        """Return the rate, and the time left or else the time since the phase began."""
        (shown,) = self._progress.tasks
        rate = [f"{shown.speed:,.0f}/s"] if shown.speed else []
        if shown.time_remaining is not None and phase.total:
            return [*rate, f"{_clock(shown.time_remaining)} left"]
        return [*rate, _clock(time.monotonic() - phase.begun)]


def _clock(seconds: float) -> str:
    """Return a duration such as 0:07 or 1:02:03."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _write(text: str) -> None:
    """Write to the terminal past sys.stderr, which Python could not flush while a write blocks."""
    os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding, "backslashreplace"))
