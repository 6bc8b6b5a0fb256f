"""Connections to a PostgreSQL server, and short transactions on them.

Statements outside of a transaction are committed one by one. Nothing is kept in the state of a
session: a pool such as pgbouncer may give each transaction to another one.
"""

import logging
import random
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

from memctl.errors import UsageError
from memctl.storage.addresses import ServerAddress
from memctl.storage.postgresql.server_errors import (
    connection_error,
    is_conflict,
    translate_errors,
)
from memctl.storage.text import is_unicode

Result = TypeVar("Result")

# The driver warns of errors that follow from the one that is reported; programs may still log them.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

CONNECT_SECONDS = 10
MOST_ATTEMPTS = 10
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0  # at most so many seconds before a transaction is repeated

# A stopped process must not block others: the server ends its transaction. One that waits for a
# lock of another program gives up its own locks before the server would look for a deadlock, which
# it could end at the expense of the other program (`deadlock_timeout`, 1 s).
BEGIN = """
    BEGIN;
    SET LOCAL lock_timeout = '500ms';
    SET LOCAL idle_in_transaction_session_timeout = '2s'
"""
ONE_VIEW = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Database:
    """An open connection; errors are those of psycopg unless they are translated."""

    def __init__(self, connection: "psycopg.Connection[Any]", address: ServerAddress) -> None:
        self.connection = connection
        self.address = address

    @property
    def is_connected(self) -> bool:
        """Whether the server has not closed the connection, which must be idle."""
        if not self.connection.closed:
            arrived = select.poll()
            arrived.register(self.connection.fileno(), select.POLLIN)
            return not arrived.poll(0)  # an idle server sends only that it ends the connection
        return False

    def rows(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """Return the rows of a query, or those that a statement returns."""
        return self._execute(query, parameters).fetchall()

    def stream(self, query: str, parameters: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """Yield the rows of a query as they arrive; meanwhile, nothing else can be executed."""
        with self.connection.cursor() as cursor:
            yield from cursor.stream(query, parameters)

    def row(self, query: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Return the first row of a query; None if there is none."""
        return self._execute(query, parameters).fetchone()

    def value(self, query: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """Return the first value of the first row of a query; None if there is none."""
        row = self.row(query, parameters)
        return None if row is None else row[0]

    def execute(self, statement: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Run a statement and return how many rows it changed."""
        return self._execute(statement, parameters).rowcount

    def transaction(self, work: Callable[[], Result], *, first: str = "") -> Result:
        """Call a function in a transaction, and commit it; returns what the function returns.

        If other transactions conflict with it, the transaction is repeated. `first` is a
        statement that begins it, sent together with BEGIN; its rows are discarded.
        """
        for attempt in range(MOST_ATTEMPTS):
            try:
                with self._in_transaction(f"{BEGIN}; {first}" if first else BEGIN):
                    return work()
            except psycopg.Error as error:
                if not is_conflict(error) or attempt == MOST_ATTEMPTS - 1:
                    raise
                pause = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
                time.sleep(random.uniform(0, pause))  # noqa: S311  not a secret
        raise AssertionError

    @contextmanager
    def one_view(self) -> Iterator[None]:
        """Let the block read one consistent state; it should be short."""
        with self._in_transaction(ONE_VIEW):
            yield

    @contextmanager
    def _in_transaction(self, begin: str) -> Iterator[None]:
        try:  # a signal may arrive immediately after BEGIN
            self._execute(begin)
            yield
            self._execute("COMMIT")
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Roll back an open transaction, if the connection still exists."""
        if not self.connection.closed:
            status = self.connection.info.transaction_status
            if status != psycopg.pq.TransactionStatus.IDLE:
                self.connection.rollback()

    def _execute(
        self, statement: str, parameters: Mapping[str, Any] | None = None
    ) -> "psycopg.Cursor[Any]":
        return self.connection.execute(statement, parameters)


@contextmanager
def open_database(
    address: ServerAddress, *, connect_seconds: int = CONNECT_SECONDS
) -> Iterator[Database]:
    """Connect to a database, waiting for each of its hosts for up to `connect_seconds`.

    Raises NoDatabaseError if there is no such server or database; errors of the server in the
    block become MemctlError.
    """
    options = {"connect_timeout": str(connect_seconds), "application_name": "memctl"}
    if "," in address.hosts:
        options["target_session_attrs"] = "read-write"  # the primary, not a standby
    given: dict[str, Any] = {
        name: value for name, value in options.items() if name not in address.options
    }
    try:
        connection = psycopg.connect(
            address.url, autocommit=True, prepare_threshold=None, client_encoding="UTF8", **given
        )
    except psycopg.Error as error:
        raise connection_error(error, address) from None
    try:
        with translate_errors(address):
            yield Database(connection, address)
    finally:
        connection.close()


def is_storable(value: str) -> bool:
    """Return whether the server can store a text: without NUL, and valid UTF-8."""
    return "\0" not in value and is_unicode(value)


def text(value: str) -> str:
    """Return a text that the server can store. Raises UsageError for NUL and invalid UTF-8."""
    if not is_storable(value):
        raise UsageError(
            "PostgreSQL stores neither NUL nor invalid UTF-8 in text", "remove it from the argument"
        )
    return value


def texts(values: Sequence[str]) -> list[str]:
    """Return texts that the server can store, as `text` does."""
    return [text(value) for value in values]
