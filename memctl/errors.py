"""What can go wrong for a reason the user can mend.

A class exists where cron or a script would act differently: it carries the exit code.
Anything else is a bug and keeps its traceback.
"""

import errno
from collections.abc import Iterable

LONGEST_TEXT = 800  # bytes of a message or a hint: a name in it may be as long as anybody likes
LONGEST_NAME = 200  # to look for similar ones, which takes long for longer ones


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text without its middle if it is too long: what it is about is at both ends."""
    content = text.encode("utf-8", "surrogatepass")
    if len(content) <= longest:
        return text
    ends = content[: longest // 2], content[-(longest // 2) :]
    return "…".join(end.decode("utf-8", "replace") for end in ends)


def name_like(wanted: str, known: Iterable[str]) -> str | None:
    """Return the known name that a wrong one was probably meant to be."""
    import difflib  # only a mistake needs it, and every start would pay for it

    if len(wanted) > LONGEST_NAME:
        return None
    names = (name for name in known if len(name) <= LONGEST_NAME)
    return next(iter(difflib.get_close_matches(wanted, list(names), n=1)), None)


class MemctlError(Exception):
    """The command failed; the message says what happened, the hint what to do next."""

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = shortened(message)
        self.hint = shortened(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class NotFoundError(MemctlError):
    """The agent, memory or run that was named does not exist, or belongs to another agent."""

    code = "not_found"


class UsageError(MemctlError):
    """An option or a setting has a value that makes no sense."""

    exit_code = 2
    code = "usage"


class RefusedError(MemctlError):
    """Doing it might harm; nothing, or only the harmless part, was done."""

    exit_code = 3
    code = "refused"


class ClockLeapError(RefusedError):
    """The clock is far ahead of everything that the database knows of."""


class NoDatabaseError(MemctlError):
    """There is no database at the path."""

    exit_code = 10
    code = "no_database"


class LockedError(MemctlError):
    """Another process held a lock for longer than we were told to wait."""

    exit_code = 11
    code = "locked"


class SchemaError(MemctlError):
    """The schema is pending, newer than this program, or not what the ledger of migrations says."""

    exit_code = 12
    code = "schema"


class DocumentError(RefusedError):
    """A document to import is not what it should be, or is in conflict with the database."""

    exit_code = 13
    code = "document"


# What a machine refuses to a program that is in order.
REFUSALS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.ENOLCK,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
}


def shortage(error: Exception) -> MemctlError | None:
    """Return what to say when the machine refuses what memctl needs, which is no bug."""
    if isinstance(error, MemoryError):
        return MemctlError(
            "there is not enough memory",
            "the interrupted step was rolled back: raise the limit, then run the command again",
        )
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return MemctlError(
            f"too many files are open ({error.strerror})", "raise the limit, see `ulimit -n`"
        )
    if error.errno in REFUSALS:
        return MemctlError(
            f"{error.filename or 'a file'} cannot be read or written ({error.strerror})",
            "check the disk and the permissions, then run the command again",
        )
    if isinstance(error, FileNotFoundError) and error.filename is None:  # as os.getcwd() raises it
        return MemctlError("the current directory no longer exists", "change to another directory")
    return None
