"""Times for people: `22 Nov 2026, 09:43 UTC`."""

import re
from datetime import date, datetime

from memctl.errors import UsageError
from memctl.storage.times import parse_moment

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


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def readable_stored_time(text: object) -> str:
    """Return a time for people that a memory has in any format of the service."""
    try:
        return readable_moment(parse_moment(str(text)))
    except UsageError:  # beyond the years that Python knows, such as +011533
        return "after the year 9999"


def with_readable_times(sentence: str) -> str:
    """Return a sentence with memctl's own times in it made readable."""
    return OUR_TIMES.sub(lambda found: readable_stored_time(found[0]), sentence)
