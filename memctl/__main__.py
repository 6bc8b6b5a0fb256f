"""The program's way in: `memctl` and `python -m memctl`."""

import gc
import os
import sys

from memctl import __version__


def main() -> None:
    """Run the command line; answer `--version` before anything heavy is imported."""
    if sys.argv[1:] == ["--version"] and sys.stdout:
        try:
            # Not through sys.stdout: what cannot be written would stay in its buffer and fail again.
            os.write(sys.stdout.fileno(), f"memctl {__version__}\n".encode())
            return
        except OSError:  # the command line reports it
            pass
    gc.disable()  # a short-lived process makes little garbage; collecting it slows the start by 9 %
    try:
        from memctl.cli import main as run_command_line

        run_command_line()
    except KeyboardInterrupt:  # while still importing; later Typer sees to it
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
