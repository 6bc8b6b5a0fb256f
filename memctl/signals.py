"""Exceptions of signals that Python drops: in destructors, and in functions that SQLite calls.

A signal that ends memctl raises an exception. If Python drops it, it is raised again after a
moment, or at once, in place of the error with which SQLite reports that a function failed.
"""

import sys

RETRY_SECONDS = 0.05

_dropped: BaseException | None = None


def raise_again(lost: "sys.UnraisableHookArgs") -> None:
    """Arrange to raise the exception of a signal again; the program's `sys.unraisablehook`."""
    global _dropped
    if lost.exc_type not in (KeyboardInterrupt, SystemExit):
        sys.__unraisablehook__(lost)
        return
    import signal

    _dropped = lost.exc_value or lost.exc_type()
    signal.signal(signal.SIGALRM, lambda _number, _frame: raise_dropped())
    signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)


def raise_dropped() -> None:
    """Raise the exception of a signal that was dropped, if there is one."""
    global _dropped
    if _dropped is not None:
        import signal

        signal.setitimer(signal.ITIMER_REAL, 0)
        dropped, _dropped = _dropped, None
        raise dropped from None
