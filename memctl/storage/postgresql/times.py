"""Times and keys as the server stores them, and as memctl reads them.

Queries return times as text in the form of the service, or of memctl, so that neither the time
zone nor the date style of a session matters.
"""

import os
import time
from collections.abc import Callable
from uuid import UUID


def _in_utc(column: str, form: str, precise: str, unit: str) -> str:
    """Return SQL for a time as text. The infinities and years BC, which no form contains, differ.

    The server reads each text again as the same time.
    """
    return f"""CASE
        WHEN {column} < '0001-01-01T00:00:00Z' AND isfinite({column})
        THEN to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.USZ BC')
        WHEN isfinite({column})
        THEN to_char({column} AT TIME ZONE 'UTC', CASE
            WHEN {column} = date_trunc('{unit}', {column}) THEN '{form}' ELSE '{precise}' END)
        WHEN {column} > '9999-12-31T23:59:59Z' THEN 'infinity'
        WHEN {column} < '0001-01-01T00:00:00Z' THEN '-infinity'
    END"""


def our_text(column: str) -> str:
    """Return SQL for a time as memctl writes it: `2026-11-22T09:43:58Z`."""
    return _in_utc(column, 'YYYY-MM-DD"T"HH24:MI:SS"Z"', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', "second")


def sqlite_text(column: str) -> str:
    """Return SQL for a time as SQLite's datetime() writes it: `2026-11-22 09:43:58`."""
    return _in_utc(column, "YYYY-MM-DD HH24:MI:SS", "YYYY-MM-DD HH24:MI:SS.US", "second")


def expiry_text(column: str) -> str:
    """Return SQL for a time as the service writes an expiry: `2026-11-22T09:43:58.000Z`."""
    return _in_utc(
        column, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', "milliseconds"
    )


class KeyMaker:
    """Makes UUIDs of version 7, each greater than the one before.

    https://www.rfc-editor.org/rfc/rfc9562#name-uuid-version-7
    """

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> str:
        """Return the next one: 48 bits of milliseconds, 74 bits that are random, then count up.

        Of the 48 bits at its end, the highest begins as 0, so that these can be counted up alone.
        """
        random = int.from_bytes(os.urandom(9)) >> 1 & ~(1 << 47)
        self._last = max(self._last + 1, (time.time_ns() // 1_000_000) << 74 | random)
        return _key(self._last)

    def numbered(self, count: int) -> dict[str, str | int]:
        """Return the parameters of `numbered_key` for the next so many."""
        key = self()
        self._last += count - 1
        return {"beginning_of_keys": key[:24], "end_of_first_key": int(key[24:], 16)}


def _key(place: int) -> str:
    """Return the key of a place in their order."""
    milliseconds, rest = place >> 74, place & (2**74 - 1)
    number = milliseconds << 80 | 7 << 76 | (rest >> 62) << 64 | 2 << 62 | rest & (2**62 - 1)
    return str(UUID(int=number))


def keys_of_document(sha256: str, at: float) -> Callable[[int], str]:
    """Return what returns the keys for the rows of a document, by their numbers.

    They are the same whenever it is imported; `at` is when it was exported, in seconds since 1970.
    """
    first = int(at * 1000) << 74 | int(sha256[:18], 16)
    return lambda number: _key(first + number)


def first_key(at: float) -> str:
    """Return a key that precedes all that are made at a moment, in seconds since 1970, or later."""
    return _key(int(at * 1000) << 74)


def numbered_key(number: str) -> str:
    """Return SQL for one of the keys of `KeyMaker.numbered`, whose number from 0 is SQL."""
    end = f"lpad(to_hex(%(end_of_first_key)s::bigint + {number}), 12, '0')"
    return f"(%(beginning_of_keys)s || {end})::uuid"


new_key = KeyMaker()
