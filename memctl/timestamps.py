"""Moments in time: ours, the user's, and those that other programs stored.

Our own text is RFC 3339 in UTC to the second. What the service stored may be SQLite's text,
ISO 8601 with or without an offset, years beyond 0-9999, or garbage; SQL made here reads it exactly.
"""

import re
from datetime import UTC, datetime, timedelta

from memctl.errors import UsageError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
LONGEST_DURATION = timedelta(days=36500)


def is_possible(moment: datetime) -> bool:
    """Tell whether a clock may say that: SQL counts on years of four digits, before and after."""
    return 1970 < moment.year < 9000


def to_text(moment: datetime) -> str:
    """Return our form of a moment: `2026-11-22T09:43:58Z`."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def to_day(moment: datetime) -> str:
    """Return the day of a moment in UTC: `2026-11-22`."""
    return to_text(moment)[:10]


def to_service_text(moment: datetime) -> str:
    """Return the form in which the service writes an expiry: `2026-11-22T09:43:58.000Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_sqlite_text(moment: datetime) -> str:
    """Return the form of SQLite's own datetime(): `2026-11-22 09:43:58`."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", timespec="seconds")


def to_unix(moment: datetime) -> int:
    """Return whole seconds since 1970, rounded down."""
    return int(moment.timestamp() // 1)


def parse_moment(text: str) -> datetime:
    """Read `2026-11-22`, `2026-11-22T09:43:58Z` and the like; without an offset it is UTC.

    Raises UsageError for anything else.
    """
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"'{text}' is not a time", "write it like 2026-11-22 or 2026-11-22T09:43:58Z"
        ) from None
    return moment.replace(microsecond=0)


def parse_duration(text: str) -> timedelta:
    """Read `90d`, `12h`, `30m`, `2w` or `45s`; it must be above zero and at most 100 years.

    Raises UsageError for anything else.
    """
    match = re.fullmatch(r"([0-9]{1,12})([smhdw])", text.strip())
    if not match:
        raise UsageError(
            f"'{text}' is not a duration",
            "write a whole number and s, m, h, d or w, like 90d, 12h or 30m",
        )
    seconds = int(match[1]) * SECONDS[match[2]]
    if not 0 < seconds <= LONGEST_DURATION.total_seconds():
        raise UsageError(
            f"'{text}' is out of range", "a duration is above zero and below 100 years"
        )
    return timedelta(seconds=seconds)


def parse_past(text: str, *, now: datetime) -> datetime:
    """Read a moment, or a duration counted back from `now`.

    Raises UsageError for anything else.
    """
    if re.fullmatch(r"[0-9]+[smhdw]", text.strip()):
        return now - parse_duration(text)
    try:
        return parse_moment(text)
    except UsageError as error:
        raise UsageError(error.message, f"{error.hint}, or a duration ago like 7d") from None


def unix_seconds(column: str) -> str:
    """Return SQL for the whole seconds since 1970 (rounded down) that a stored time means.

    NULL for whatever is not a time. The shape is demanded first, because SQLite reads `now`,
    `12:00` and plain numbers as times too, needs nothing between date and time, and rolls
    30 February over. Years beyond 0-9999, which JavaScript writes as `+011533-…` and `-000192-…`,
    are read in the year of the same place in the 400-year cycle of the calendar and moved by
    whole cycles.
    SQLite rounds to milliseconds: of longer fractions the last half a millisecond of a second
    counts as the next second.
    """
    year = f"CAST(substr({column}, 1, 7) AS INTEGER)"
    twin_year = f"(({year} % 400 + 400) % 400 + 2000)"
    twin = f"(printf('%04d', {twin_year}) || substr({column}, 8))"
    cycles = f"(({year} - {twin_year}) / 400)"
    return f"""CASE
        WHEN instr({column}, char(0)) THEN NULL
        WHEN {column} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'
        THEN CASE WHEN {_is_date_and_time(column)} THEN unixepoch({column}) END
        WHEN {column} GLOB '[-+][0-9][0-9][0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*'
        THEN CASE WHEN {_is_date_and_time(twin)} THEN unixepoch({twin}) + {cycles} * 12622780800 END
    END"""


def is_our_text(column: str) -> str:
    """Return SQL that is true for a time in our own form, as `to_text` writes it."""
    return f"ifnull({column} = strftime('%Y-%m-%dT%H:%M:%SZ', {column}, '+0 days'), FALSE)"


def common_unix_seconds(column: str) -> str:
    """Return short SQL for the same, exact for what SQLite and JavaScript write in our days.

    It takes 30 February for a day of March, and years beyond 0-9999 for garbage.
    """
    return f"CASE WHEN {column} GLOB '????-??-??*' THEN unixepoch({column}) END"


def _is_date_and_time(text: str) -> str:
    """Return SQL that is true for a real date, alone or followed by what looks like a time."""
    return f"""(substr({text}, 11) = '' OR substr({text}, 11) GLOB '[T ][0-9][0-9]:[0-9][0-9]*')
            AND date(substr({text}, 1, 10), '+0 days') = substr({text}, 1, 10)"""


def is_before(column: str, moment: str) -> str:
    """Return SQL that is true when a stored time lies before `moment`, a parameter in unix seconds.

    An index on the column serves it: as text, any past time of the years 0-9999 sorts below the
    coarse bound, whatever its offset (at most 14 hours) and separator, and signed years sort
    below all digits.
    """
    return f"""{column} IS NOT NULL
        AND {column} < strftime(
            '%Y-%m-%dT%H:%M:%S', {moment}, 'unixepoch', '+14 hours', '+1 second'
        )
        AND {unix_seconds(column)} < {moment}"""
