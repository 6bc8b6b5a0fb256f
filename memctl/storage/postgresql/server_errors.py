"""Errors of a PostgreSQL server that a user can cause and correct, as errors with advice."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from memctl.errors import LockedError, MemctlError, NoDatabaseError, SchemaError, UsageError
from memctl.storage.addresses import ServerAddress

OTHER_TABLES = (
    SchemaError,
    "the tables in {address} differ from those of this memctl ({reason})",
    "see `memctl check`, and run `memctl status`",
)
OTHER_PROGRAM = (
    SchemaError,
    "a constraint, trigger or rule of another program in {address} prevents this ({reason})",
    "the interrupted step was rolled back; remove it",
)

# By SQLSTATE, or its class; others are bugs.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
SERVER_ERRORS: dict[str, tuple[type[MemctlError], str, str]] = {
    "0A": OTHER_PROGRAM,  # a rule excludes some kinds of statements
    "08": (
        MemctlError,
        "the connection to {address} was lost",
        "finished batches are kept; run the command again to complete it",
    ),
    "22003": (
        MemctlError,
        "a number in {address} is too great ({reason})",
        "the interrupted step was rolled back; correct it with UPDATE",
    ),
    "23": OTHER_PROGRAM,
    "23505": (
        LockedError,
        "another program has written the same memories in {address}",
        "the interrupted step was rolled back; run the command again",
    ),
    "25006": (
        MemctlError,
        "{address} is read-only, such as a standby server",
        "connect to the primary server",
    ),
    "25P03": (
        LockedError,
        "memctl was stopped for too long while it changed {address}",
        "the interrupted step was rolled back; run the command again",
    ),
    "28": (
        MemctlError,
        "the server rejected the user or the password for {address}",
        "check the user, and the password in PGPASSFILE or ~/.pgpass",
    ),
    "3D000": (
        NoDatabaseError,
        "there is no database at {address}",
        "check --db, or create it with `createdb`",
    ),
    "3F": (
        SchemaError,
        "none of the schemas in the search_path of {address} exists",
        "create it with CREATE SCHEMA, or correct the option",
    ),
    "40": (
        LockedError,
        "other transactions have repeatedly conflicted with this one in {address}",
        "the interrupted step was rolled back; run the command again",
    ),
    "42501": (
        MemctlError,
        "the user has no permission for this in {address} ({reason})",
        "grant it, or connect as the owner of the tables",
    ),
    "42P01": (
        SchemaError,
        "{address} lacks tables of memctl ({reason})",
        "run `memctl migrate`; if it has nothing to do, see `memctl check`",
    ),
    "42703": OTHER_TABLES,  # a column is missing
    "42804": OTHER_TABLES,  # a column has another type
    "42883": OTHER_TABLES,  # a column has another type, which is not compared with ours
    "42P10": OTHER_TABLES,  # a key is missing
    "53100": (
        MemctlError,
        "the disk of {address} is full",
        "the interrupted step was rolled back; free some space and run the command again",
    ),
    "53": (
        MemctlError,
        "{address} lacks resources ({reason})",
        "run the command again later",
    ),
    "54000": (
        UsageError,
        "the server cannot store this ({reason})",
        "keys and names must have less than 2.6 kB",
    ),
    "44": OTHER_PROGRAM,  # WITH CHECK OPTION of a view
    "55P03": (
        LockedError,
        "memories in {address} are locked by another program",
        "the interrupted step was rolled back; run the command again",
    ),
    "57014": (
        MemctlError,
        "{address} cancelled a statement ({reason})",
        "finished batches are kept; increase statement_timeout with ALTER ROLE",
    ),
    "57": (
        MemctlError,
        "{address} ended the connection ({reason})",
        "finished batches are kept; run the command again to complete it",
    ),
    "P0": OTHER_PROGRAM,  # a function of a trigger raised it
}

# In messages of a server that will probably accept the connection later.
NOT_NOW = ("too many", "connection slots", "starting up", "shutting down", "recovery mode")


@contextmanager
def translate_errors(address: ServerAddress) -> Iterator[None]:
    """Translate errors of the server in the block into MemctlError, if a user can correct them."""
    try:
        yield
    except psycopg.Error as error:
        known = known_error(error, address)
        if known is None:
            raise
        raise known from None


def known_error(error: psycopg.Error, address: ServerAddress) -> MemctlError | None:
    """Return the error to report, or None for a bug."""
    state = error.sqlstate or ""
    if not state and isinstance(error, psycopg.OperationalError):
        state = "08000"  # the connection is gone: there is no answer of the server
    found = SERVER_ERRORS.get(state) or SERVER_ERRORS.get(state[:2])
    if found is None:
        return None
    kind, message, hint = found
    reason = address.without_secrets(first_line(error))
    return kind(message.format(address=address, reason=reason), hint)


def connection_error(error: psycopg.Error, address: ServerAddress) -> MemctlError:
    """Return the error to report for a connection that could not be made.

    There is no SQLSTATE before a connection exists, and messages may be in any language: in the
    others, the database and the password cannot be told apart, and both are named.
    """
    text = address.without_secrets(str(error))
    reason = text.strip().splitlines()[0].removeprefix("connection failed: ")
    if isinstance(error, psycopg.ProgrammingError):
        # The reason may quote a part of a password.
        why = "" if address.has_password else f" ({reason})"
        return UsageError(
            f"the URL of the database is invalid{why}",
            "check its options, and write special characters as %XX",
        )
    if "does not exist" in text and 'database "' in text:
        return NoDatabaseError(
            f"there is no database at {address}", "check --db, or create it with `createdb`"
        )
    if any(words in text for words in NOT_NOW):
        return MemctlError(
            f"{address} does not accept connections now ({reason})", "run the command again later"
        )
    if "FATAL" in text or "password" in text:
        return MemctlError(
            f"the server rejected the connection to {address} ({reason})",
            "check the user, and the password in PGPASSFILE or ~/.pgpass",
        )
    return NoDatabaseError(
        f"no server answers at {address} ({reason})", "check --db, and that the server runs"
    )


def first_line(error: psycopg.Error) -> str:
    """Return the first line of an error of the server, without its position and hints."""
    return str(error.diag.message_primary or error).strip().splitlines()[0]


def is_conflict(error: psycopg.Error) -> bool:
    """Return whether the same transaction may succeed when it is repeated."""
    conflicts = errors.SerializationFailure, errors.DeadlockDetected, errors.LockNotAvailable
    return isinstance(error, conflicts)
