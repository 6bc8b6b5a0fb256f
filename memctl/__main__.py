"""The entry point of `memctl` and `python -m memctl`."""

import gc
import os
import sys

from memctl import __version__


def main() -> None:
    """Run the command line; answer `--version` before anything heavy is imported."""
    if sys.argv[1:] in (["--version"], ["-V"]) and sys.stdout:
        try:
            # Not through sys.stdout, whose buffer would keep what cannot be written.
            os.write(sys.stdout.fileno(), f"memctl {__version__}\n".encode())
            return
        except OSError:  # the command line reports it
            pass
    from memctl.signals import raise_again

    sys.unraisablehook = raise_again
    gc.disable()  # a short-lived process makes little garbage; collecting it slows the start by 9 %
    try:
        from memctl.cli.program import main as run_command_line

        run_command_line()
    except KeyboardInterrupt:  # during the imports; Typer handles later ones
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
