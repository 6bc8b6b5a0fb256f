"""Errors that a user can cause and correct.

A class exists where cron or a script would act differently; it carries the exit code.
Any other exception is a bug and keeps its traceback.
"""

import errno
import re
from collections.abc import Collection, Iterable

LONGEST_TEXT = 800  # bytes of a message or a hint, which may contain a name of any length
LONGEST_NAME = 200  # characters; the search for similar names is slow for longer ones


def shortened(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text, without its middle if it has more than `longest` bytes of UTF-8."""
    content = text.encode("utf-8", "surrogatepass")
    if len(content) <= longest:
        return text
    ends = content[: longest // 2], content[-(longest // 2) :]
    return "…".join(end.decode("utf-8", "replace") for end in ends)


# In a URL that is mistyped, or given in place of another word, and in the options of a URL.
PASSWORD_IN_URL = re.compile(r"(\bpostgres(?:ql)?(?:\+\w+)?:?/+[^\s:@/]*:)\S*@", re.IGNORECASE)
PASSWORD_OPTION = re.compile(r"(\bpassword\s*=\s*)[^\s&]+", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """Return a text in which the passwords of databases are replaced by ***."""
    return PASSWORD_OPTION.sub(r"\1***", PASSWORD_IN_URL.sub(r"\1***@", text))


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as `1 memory` or `2,048 memories`."""
    if count == 1:
        return f"1 {noun}"
    ends_in_consonant_y = noun.endswith("y") and noun[-2] not in "aeiou"
    return f"{count:,} {noun[:-1]}ies" if ends_in_consonant_y else f"{count:,} {noun}s"


def readable_bytes(count: int) -> str:
    """Return a number of bytes for people: `1.2 MB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def name_like(wanted: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to an unknown one, or None."""
    import difflib  # slow to import, and needed only for an error

    if len(wanted) > LONGEST_NAME:
        return None
    names = (name for name in known if len(name) <= LONGEST_NAME)
    return next(iter(difflib.get_close_matches(wanted, list(names), n=1)), None)


def did_you_mean(wanted: str, known: Collection[str], *, otherwise: str) -> str:
    """Return the hint for an unknown name; `otherwise` if no known name is similar."""
    close = name_like(wanted, known)
    return f"did you mean {close}?" if close else otherwise


class MemctlError(Exception):
    """The command failed; the message says what happened, the hint what to do next."""

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = shortened(without_passwords(message))
        self.hint = shortened(without_passwords(hint))
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class NotFoundError(MemctlError):
    """The agent, memory or run does not exist, or belongs to another agent."""

    code = "not_found"


class UsageError(MemctlError):
    """An option or a setting has an invalid value."""

    exit_code = 2
    code = "usage"


class RefusedError(MemctlError):
    """The change might do harm; nothing, or only the harmless part, was done."""

    exit_code = 3
    code = "refused"


class ClockLeapError(RefusedError):
    """The clock is far ahead of every time in the database."""


class NoDatabaseError(MemctlError):
    """There is no database at the path."""

    exit_code = 10
    code = "no_database"


class LockedError(MemctlError):
    """Another process held a lock for longer than the time to wait."""

    exit_code = 11
    code = "locked"


class LeasedError(LockedError):
    """Another process, perhaps on another machine, runs jobs on the same server."""


class SchemaError(MemctlError):
    """The schema has pending steps, is newer than this program, or was changed."""

    exit_code = 12
    code = "schema"


class DocumentError(RefusedError):
    """A document to import is invalid, or conflicts with the database."""

    exit_code = 13
    code = "document"


# Errors of the operating system that are not bugs of memctl.
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
    """Return the error to report for a lack of memory, disk or permission; None for a bug."""
    if isinstance(error, MemoryError):
        return MemctlError(
            "out of memory",
            "the interrupted step was rolled back; raise the memory limit and run the command"
            " again",
        )
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return MemctlError(
            f"too many open files ({error.strerror})", "raise the limit (see `ulimit -n`)"
        )
    if error.errno in REFUSALS:
        return MemctlError(
            f"{error.filename or 'a file'} cannot be read or written ({error.strerror})",
            "check the disk and the permissions, then run the command again",
        )
    if isinstance(error, FileNotFoundError) and error.filename is None:  # as os.getcwd() raises it
        return MemctlError("the current directory no longer exists", "change to another directory")
    return None


def is_bug(error: Exception) -> bool:
    """Return whether an exception is neither a MemctlError nor caused by a lack of resources."""
    return not isinstance(error, MemctlError) and shortage(error) is None


def explained(error: Exception) -> MemctlError:
    """Return the error to report for any exception, including a bug."""
    known = error if isinstance(error, MemctlError) else shortage(error)
    return known or MemctlError(f"{type(error).__name__}: {error}", "this is a bug of memctl")


def ledger_text(error: BaseException | None) -> str | None:
    """Return the error of a run as the ledger records it."""
    if error is None:
        return None
    if isinstance(error, (KeyboardInterrupt, SystemExit)):
        return "stopped by a signal"
    return str(error) if isinstance(error, MemctlError) else f"{type(error).__name__}: {error}"
