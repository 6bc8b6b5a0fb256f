"""The programs of an administrator that memctl runs: the alert command and the hooks.

Each reads a JSON document from stdin. It is started without a shell, and killed after a time limit
or when a signal ends memctl. If such a program runs memctl, that memctl runs no programs.
"""

import os
import signal
from collections.abc import Sequence

from memctl.errors import MemctlError

PROGRAM_SECONDS = 10.0
STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
UNDER_MEMCTL = "MEMCTL_UNDER_ALERT"  # set in the environment of the programs


def is_run_by_memctl() -> bool:
    """Return whether one of these programs has started this process."""
    return UNDER_MEMCTL in os.environ


def run_program(
    command: Sequence[str],
    document: str,
    *,
    name: str,
    table: str,
    seconds: float | None = None,
) -> None:
    """Run a program, without a shell, with a document (ASCII) on its stdin, and wait for its end.

    After `seconds` (by default PROGRAM_SECONDS), or when a signal ends the wait, it is killed with
    all its child processes.
    Raises MemctlError if it cannot be run, fails, or takes too long; the error calls the program by
    its `name`, and refers to its `table` in the configuration.
    """
    import subprocess

    if seconds is None:
        seconds = PROGRAM_SECONDS
    advice = f"check [{table}] in the configuration"
    # A signal between the start of the program and the `try` would leave it running.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        with subprocess.Popen(  # noqa: S603  the command is from the configuration
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, UNDER_MEMCTL: "1"},
            start_new_session=True,  # so that its child processes can be killed, too
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask),
        ) as process:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                process.communicate(document.encode("ascii"), timeout=seconds)
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
    except subprocess.TimeoutExpired:
        raise MemctlError(f"{name} was stopped after {seconds:.3g} s", advice) from None
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise MemctlError(f"{name} cannot be run ({reason})", advice) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if process.returncode < 0:
        raise MemctlError(f"{name} was ended by signal {-process.returncode}", advice)
    if process.returncode:
        raise MemctlError(f"{name} ended with {process.returncode}", advice)
