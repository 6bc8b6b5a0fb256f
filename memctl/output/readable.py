"""Times, durations and numbers in the forms that people read."""

import re
from datetime import date, datetime

from memctl.errors import UsageError
from memctl.errors import readable_bytes as readable_bytes  # jobs name sizes in errors, too
from memctl.storage.times import parse_moment

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Units of relative times: seconds in each, and from how many of it on the next one is used.
UNITS = (
    ("s", 1, 60),
    ("min", 60, 60),
    ("h", 3600, 48),
    ("d", 86400, 1000),
    ("y", 31_557_600, 10_000),
)

OUR_TIMES = re.compile(r"(?<![\w-])[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z(?!\w)")


def readable_moment(moment: datetime) -> str:
    """Return a time in UTC for people."""
    return f"{readable_day(moment.date())}, {moment:%H:%M} UTC"


def readable_day(day: date | str) -> str:
    """Return a day, or its text `2026-11-22`, for people."""
    day = date.fromisoformat(day) if isinstance(day, str) else day
    return f"{short_day(day)} {day.year}"


def short_day(day: date | str) -> str:
    """Return a day without its year, for people."""
    day = date.fromisoformat(day) if isinstance(day, str) else day
    return f"{day.day} {MONTHS[day.month - 1]}"


def readable_stored_time(text: object) -> str:
    """Return a time for people that a memory has in any format of the service."""
    try:
        return readable_moment(parse_moment(str(text)))
    except UsageError:  # beyond the years that Python knows, such as +011533
        return "after the year 9999"


def with_readable_times(sentence: str) -> str:
    """Return a sentence with memctl's own times in it made readable."""
    return OUR_TIMES.sub(lambda found: readable_stored_time(found[0]), sentence)


def relative_time(moment: datetime, *, now: datetime) -> str:
    """Return how far away a time is, in one unit: `5 min ago`, `in 3 d`."""
    seconds = round((now - moment).total_seconds())
    if not seconds:
        return "now"
    unit, length = next(
        (unit, length) for unit, length, most in UNITS if abs(seconds) < most * length
    )
    text = f"{abs(seconds) // length:,} {unit}"
    return f"in {text}" if seconds < 0 else f"{text} ago"


def readable_duration(milliseconds: float) -> str:
    """Return a duration for people: `12 ms`, `3.4 s`, `2 min 5 s`."""
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:,} min {rest} s"


def readable_average(average: float | None) -> str | None:
    """Return an average for people; None if there is none."""
    return None if average is None else f"{average:,.1f}"


def signed(difference: int) -> str:
    """Return a difference with its sign."""
    return f"{difference:+,}" if difference else "0"
