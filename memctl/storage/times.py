"""Times: those that memctl writes, those that a user enters, and those of other programs.

memctl writes RFC 3339 in UTC with a precision of seconds. Other times may be SQLite's text, ISO
8601, years beyond 0-9999, or invalid; the SQL of `unix_seconds` reads all of them.
"""

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

from memctl.errors import UsageError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
LONGEST_DURATION = timedelta(days=36500)


def is_possible(moment: datetime) -> bool:
    """Return whether a clock may return this time: the SQL relies on years of four digits."""
    return 1970 < moment.year < 9000


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


def _any_of(text: str, *patterns: str) -> str:
    """Return SQL that is true for a text that matches a pattern; 0 stands for any digit."""
    return " OR ".join(f"{text} GLOB '{pattern.replace('0', '[0-9]')}'" for pattern in patterns)


def _without_spaces(text: str) -> str:
    """Return SQL for a text without the white space at its end."""
    return f"rtrim({text}, char(9, 10, 11, 12, 13, 32))"


# The steps in which SQL parses a text; each uses the columns of earlier ones. The calendar repeats
# every 400 years, so that each year is read as the equivalent one of the years 2000-2399, its twin.
READING_STEPS = (
    f"""
        CASE WHEN {_any_of("stored", "0000-00-00*")} THEN 10
            WHEN {_any_of("stored", "00000000*")} THEN 8
            WHEN {_any_of("stored", "[-+]000000-00-00*")} THEN 13
            WHEN {_any_of("stored", "[-+]0000000000*")} THEN 11
        END AS width
    """,
    f"""
        substr(stored, 1, 1) || replace(substr(stored, 2, width - 1), '-', '') AS day,
        {_without_spaces("substr(stored, width + 1)")} AS rest
    """,
    """
        CAST(substr(day, 1, length(day) - 4) AS INTEGER) AS year,
        CASE WHEN rest = '' THEN '00+00'
            WHEN rest NOT GLOB '[Tt ]*' THEN NULL
            WHEN rest GLOB '*[Zz]' THEN substr(rest, 2, length(rest) - 2) || '+00'
            WHEN rest GLOB '*[-+]*' THEN substr(rest, 2)
            ELSE substr(rest, 2) || '+00'
        END AS time
    """,
    """
        (year % 400 + 400) % 400 + 2000 AS twin,
        instr(replace(time, '-', '+'), '+') AS sign
    """,
    f"""
        printf('%d-%s-%s', twin, substr(day, -4, 2), substr(day, -2)) AS date,
        replace({_without_spaces("substr(time, 1, sign - 1)")}, ',', '.') AS clock,
        substr(time, sign, 1) || '1' AS direction,
        substr(time, sign + 1) AS zone
    """,
    f"""
        CASE WHEN ({_any_of("clock", "00:00:00.0*", "000000.0*")}) AND clock NOT GLOB '*.*[^0-9]*'
            THEN substr(clock, 1, instr(clock, '.') - 1)
            ELSE clock
        END AS whole
    """,
    """
        substr(replace(whole, ':', '') || '0000', 1, 6) AS hhmmss,
        replace(zone, ':', '') || '00' AS offset
    """,
)

# A leap second is the first second after it, as it is in Unix time.
IS_TIME = f"""
    date(date, '+0 days') = date
    AND ({_any_of("whole", "00:00:00", "00:00", "00", "000000", "0000")})
    AND hhmmss <= '240000' AND substr(hhmmss, 3, 2) <= '59' AND substr(hhmmss, 5) <= '60'
    AND ({_any_of("zone", "00:00", "0000", "00")})
    AND offset < '24' AND substr(offset, 3, 2) <= '59'
"""

SECONDS_OF_STEPS = """
    unixepoch(date) + (year - twin) / 400 * 12622780800
    + substr(hhmmss, 1, 2) * 3600 + substr(hhmmss, 3, 2) * 60 + substr(hhmmss, 5)
    - direction * (substr(offset, 1, 2) * 3600 + substr(offset, 3, 2) * 60)
"""


def unix_seconds(column: str) -> str:
    """Return SQL for the whole seconds since 1970 (rounded down) that a stored time means.

    A time is a calendar date, alone or with a time of day, in any form of ISO 8601 except week
    dates and ordinal dates; without an offset it is in UTC. The result is NULL for anything else.

    The usual forms are parsed by SQLite's own function, which is faster. Because that also accepts
    `now`, `12:00`, plain numbers and 30 February, and rounds to milliseconds, it is used only for a
    text that begins with a date and a time of day that are valid in every month, or that SQLite
    returns unchanged.
    """
    start = f"substr({column}, 1, 19)"
    steps = [f"step_0 AS (SELECT {column} AS stored)"]
    for number, step in enumerate(READING_STEPS):
        # LIMIT -1 keeps SQLite from merging the steps, which would repeat each of them many times.
        steps.append(f"step_{number + 1} AS (SELECT *, {step} FROM step_{number} LIMIT -1)")
    reading = f"SELECT {SECONDS_OF_STEPS} FROM step_{len(READING_STEPS)} WHERE {IS_TIME}"
    return f"""CASE WHEN typeof({column}) = 'text' AND NOT instr({column}, char(0)) THEN coalesce(
        CASE WHEN {column} GLOB '????-??-??[ T]??:??:??*' AND {column} NOT GLOB '*.999[0-9]*'
            AND (
                substr({column}, 9, 2) < '29' AND substr({column}, 12, 2) < '24'
                OR datetime({start}, '+0 days') = replace({start}, 'T', ' ')
            )
            THEN unixepoch({column})
        END,
        (WITH {", ".join(steps)} {reading})
    ) END"""


def is_our_text(column: str) -> str:
    """Return SQL that is true for a time in our own form, as `to_text` writes it."""
    return f"ifnull({column} = strftime('%Y-%m-%dT%H:%M:%SZ', {column}, '+0 days'), FALSE)"


def is_before(column: str, moment: str) -> str:
    """Return SQL that is true when a stored time lies before `moment`, a parameter in unix seconds.

    An index on the column serves it by two coarse ranges of texts, which allow for any offset (less
    than a day) and what comes after the date. Years beyond 0-9999 sort below all digits. The second
    range is the basic format in the year of the bound, which sorts above the extended format.
    """
    bound = f"{moment}, 'unixepoch', '+2 days'"
    return f"""(
            {column} < strftime('%Y-%m-%d', {bound})
            OR {column} BETWEEN strftime('%Y0', {bound}) AND strftime('%Y%m%d', {bound})
        )
        AND {unix_seconds(column)} < {moment}"""
