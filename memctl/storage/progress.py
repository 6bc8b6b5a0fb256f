"""The progress of long work; by default, reports are ignored.

A display runs in a thread of its own. Reporting therefore costs next to nothing, and is allowed
while a lock is held.
"""

WAITING = "waiting for another memctl process"  # the phase before each change


class Progress:
    """The progress of a command, which consists of tasks, such as jobs, and their phases."""

    def begin(self, task: str) -> None:
        """Report that a task has begun."""

    def phase(self, name: str, *, total: int | None = None, unit: str = "rows") -> None:
        """Report that a phase has begun; `total` is None if its amount of work is unknown."""

    def advance(self, count: int = 1) -> None:
        """Report that more of the phase is done."""

    def reach(self, done: int, total: int | None) -> None:
        """Report how much of the phase is done, and how much that is of, if it is known yet."""


NO_PROGRESS = Progress()
