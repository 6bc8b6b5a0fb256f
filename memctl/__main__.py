"""The entry point of `memctl` and `python -m memctl`."""

import gc
import os
import sys

from memctl import __version__

RETRY_SECONDS = 0.05


def main() -> None:
    """Run the command line; answer `--version` before anything heavy is imported."""
    if sys.argv[1:] == ["--version"] and sys.stdout:
        try:
            # Not through sys.stdout, whose buffer would keep what cannot be written.
            os.write(sys.stdout.fileno(), f"memctl {__version__}\n".encode())
            return
        except OSError:  # the command line reports it
            pass
    sys.unraisablehook = _raise_again
    gc.disable()  # a short-lived process makes little garbage; collecting it slows the start by 9 %
    try:
        from memctl.cli.program import main as run_command_line

        run_command_line()
    except KeyboardInterrupt:  # during the imports; Typer handles later ones
        raise SystemExit(130) from None


def _raise_again(lost: "sys.UnraisableHookArgs") -> None:
    """Raise a signal's exception again if Python has dropped it.

    Python drops exceptions in callbacks and destructors, which run in every import.
    """
    if lost.exc_type not in (KeyboardInterrupt, SystemExit):
        sys.__unraisablehook__(lost)
        return
    import signal

    def raise_it(_number: int, _frame: object) -> None:
        raise lost.exc_value or lost.exc_type

    signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)


if __name__ == "__main__":
    main()
