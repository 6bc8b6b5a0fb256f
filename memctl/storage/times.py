"""Times as memctl, the service and SQLite write them, and those that a user enters.

memctl writes RFC 3339 in UTC with a precision of seconds.
"""

import re
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

from memctl.errors import UsageError
from memctl.storage.sqlite.times import unix_seconds

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
LONGEST_DURATION = timedelta(days=36500)

# What memctl and the service write; SQLite, which knows all other forms, takes longer.
PLAIN_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{3})?Z?")


def is_possible(moment: datetime) -> bool:
    """Return whether a clock may return this time: the SQL relies on years of four digits."""
    return 1970 < moment.year < 9000


def require_clock_time(now: datetime) -> datetime:
    """Return a time that a clock has returned. Raises UsageError if it is impossible."""
    if not isinstance(now, datetime) or now.tzinfo is None:
        raise UsageError(f"the clock returned {now}, without an offset", "return an aware datetime")
    if not is_possible(now):
        raise UsageError(f"the clock returned {now}", "return a time in the years 1971 to 8999")
    return now


def to_text(moment: datetime) -> str:
    """Return a time as memctl writes it: `2026-11-22T09:43:58Z`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def to_day(moment: datetime) -> str:
    """Return the day of a moment in UTC: `2026-11-22`."""
    return to_text(moment)[:10]


def to_service_text(moment: datetime) -> str:
    """Return a time as the service writes an expiry: `2026-11-22T09:43:58.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_sqlite_text(moment: datetime) -> str:
    """Return a time as SQLite's datetime() writes it: `2026-11-22 09:43:58`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", timespec="seconds")


def to_unix(moment: datetime) -> int:
    """Return whole seconds since 1970, rounded down."""
    return int(moment.timestamp() // 1)


def parse_moment(text: str) -> datetime:
    """Parse `2026-11-22`, `2026-11-22T09:43:58Z` and all other forms of stored times.

    Raises UsageError for anything else.
    """
    if PLAIN_TIME.fullmatch(text):
        with suppress(ValueError):
            return datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
    query = f"SELECT {unix_seconds('text')} FROM (SELECT CAST(? AS TEXT) AS text)"
    with closing(sqlite3.connect(":memory:")) as db:
        (seconds,) = db.execute(query, (text.encode("utf-8", "surrogatepass"),)).fetchone()
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError):  # not a time, or beyond the years 1-9999
        raise UsageError(
            f"'{text}' is not a time", "use a format such as 2026-11-22 or 2026-11-22T09:43:58Z"
        ) from None


def parse_duration(text: str) -> timedelta:
    """Parse `90d`, `12h`, `30m`, `2w` or `45s`, above zero and at most 100 years.

    Raises UsageError for anything else.
    """
    match = re.fullmatch(r"([0-9]{1,12})([smhdw])", text.strip())
    if not match:
        raise UsageError(
            f"'{text}' is not a duration",
            "use a whole number and a unit (s, m, h, d or w), such as 90d, 12h or 30m",
        )
    seconds = int(match[1]) * SECONDS[match[2]]
    if not 0 < seconds <= LONGEST_DURATION.total_seconds():
        raise UsageError(
            f"'{text}' is out of range", "a duration must be above zero and at most 100 years"
        )
    return timedelta(seconds=seconds)


def parse_past(text: str, *, now: datetime) -> datetime:
    """Parse a time, or a duration before `now`.

    Raises UsageError for anything else.
    """
    if re.fullmatch(r"[0-9]+[smhdw]", text.strip()):
        return now - parse_duration(text)
    try:
        return parse_moment(text)
    except UsageError as error:
        raise UsageError(error.message, f"{error.hint}, or a duration such as 7d") from None
