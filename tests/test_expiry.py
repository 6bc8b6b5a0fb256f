"""Expiry is exact for every format: against an oracle that reads times with nothing of SQLite."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from memctl.timestamps import is_before, to_unix, unix_seconds
from tests.conftest import NOW

TIME = re.compile(
    r"(?P<year>[0-9]{4}|[-+][0-9]{6})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?:[ T](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?"
    r"(?:\ *(?P<zone>[Zz]|[-+][0-9]{2}:[0-9]{2}))?\ *)?"
)
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def days_since_1970(year: int, month: int, day: int) -> int:
    """Count days of the proleptic Gregorian calendar, one year at a time if need be."""
    cycles, year = divmod(year - 1970, 400)
    days = cycles * 146097
    for passed in range(1970, 1970 + year):
        days += 366 if is_leap(passed) else 365
    for passed in range(1, month):
        days += days_of(1970 + year, passed)
    return days + day - 1


def is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_of(year: int, month: int) -> int:
    return 29 if month == 2 and is_leap(year) else MONTH_DAYS[month - 1]


def oracle(text: str) -> int | None:
    """Return the seconds since 1970 that a text means, rounded down, or None."""
    match = TIME.fullmatch(text)
    if not match:
        return None
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if not (1 <= month <= 12 and 1 <= day <= days_of(year, month)):
        return None
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    if hour > 24 or minute > 59 or second > 59:
        return None
    seconds = days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
    zone = match["zone"]
    if zone and zone not in "Zz":
        offset_hours, offset_minutes = int(zone[1:3]), int(zone[4:6])
        if offset_hours > 14 or offset_minutes > 59:
            return None
        offset = offset_hours * 3600 + offset_minutes * 60
        seconds += -offset if zone[0] == "+" else offset
    return seconds


@pytest.fixture(scope="module")
def memory() -> Iterator[sqlite3.Connection]:
    """A database without tables: only SQLite's own reading of values is at stake."""
    with closing(sqlite3.connect(":memory:")) as db:
        yield db


moments = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001
    max_value=datetime(9998, 12, 31),  # noqa: DTZ001
)
around_now = st.integers(-3 * 86400, 3 * 86400).map(
    lambda seconds: (NOW + timedelta(seconds=seconds)).replace(tzinfo=None)
)
separators = st.sampled_from(["T", " "])
zones = st.one_of(
    st.sampled_from(["", "Z", "+00:00", "-00:00", "+14:00", "-14:00", "+05:45", "-03:30"]),
    st.builds(
        "{}{:02}:{:02}".format, st.sampled_from("+-"), st.integers(0, 15), st.integers(0, 61)
    ),
)
clocks = st.sampled_from(["%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%H:%M:%S.000"])


@st.composite
def good_times(draw: st.DrawFn) -> str:
    """A time as some program might write it, mostly near NOW, where mistakes show."""
    moment = draw(st.one_of(around_now, moments))
    date = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
    if draw(st.booleans()) and draw(st.booleans()):
        sign = draw(st.sampled_from("+-"))
        year = draw(st.one_of(st.just(moment.year), st.integers(0, 275760)))
        date = f"{sign}{year:06}-{moment.month:02}-{moment.day:02}"
    if not draw(st.integers(0, 9)):
        return date
    return date + draw(separators) + moment.strftime(draw(clocks)) + draw(zones)


@st.composite
def broken_times(draw: st.DrawFn) -> str:
    """A time with one character changed, dropped or added."""
    text = draw(good_times())
    place = draw(st.integers(0, len(text)))
    end = place + draw(st.integers(0, 2))
    return text[:place] + draw(st.text("0123456789-+:.TZ x\0", max_size=2)) + text[end:]


GARBAGE = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["now", "12:00", "2461366.8", "", "0", "1795340638", "today", "2026", "null", "never"]
    ),
    st.builds("{:04}-{:02}-{:02}".format, st.integers(0, 9999), st.integers(), st.integers(0, 40)),
)
# SQLite rounds to milliseconds, so what the last half of one means is not asked.
TEXTS = st.one_of(good_times(), broken_times(), GARBAGE).filter(
    lambda text: not re.search(r"\.999[0-9]", text)
)


@settings(max_examples=3000, deadline=None)
@given(text=TEXTS)
@example(text="2026-11-22T09:43:57.999Z")
@example(text="2026-11-22 09:43:58")
@example(text="2026-11-22T23:43:57+14:00")
@example(text="2026-11-21T19:43:57-14:00")
@example(text="+011533-07-07T00:00:00.000Z")
@example(text="-000192-09-06T00:00:00.000Z")
@example(text="+002026-11-22T09:43:57.000Z")
@example(text="-000400-02-29")
@example(text="-000300-02-29")
@example(text="2026-02-30")
@example(text="2026-02-29 12:00:00")
@example(text="2026-11-21 24:00:00")
@example(text="2026-11-21 12:00:00\0garbage")
@example(text="2026-11-21T12:00:00Zgarbage")
def test_a_stored_time_is_read_as_the_oracle_reads_it(
    text: str, memory: sqlite3.Connection
) -> None:
    query = f"SELECT {unix_seconds('stored')} FROM (SELECT ? AS stored)"

    (read,) = memory.execute(query, (text.encode("utf-8", "surrogatepass").decode(),)).fetchone()

    assert read == oracle(text)


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(TEXTS, max_size=20), cutoff=around_now)
def test_exactly_the_times_before_the_cutoff_have_expired(
    texts: list[str], cutoff: datetime, memory: sqlite3.Connection
) -> None:
    now = to_unix(cutoff.replace(tzinfo=UTC))
    memory.execute("CREATE TEMP TABLE IF NOT EXISTS times (expires_at TEXT)")
    memory.execute("CREATE INDEX IF NOT EXISTS temp.by_time ON times (expires_at)")
    memory.execute("DELETE FROM times")
    memory.executemany("INSERT INTO times VALUES (?)", [(text,) for text in texts])

    found = memory.execute(
        f"SELECT expires_at FROM times WHERE {is_before('expires_at', ':now')} ORDER BY rowid",
        {"now": now},
    ).fetchall()

    expected = [text for text in texts if (meant := oracle(text)) is not None and meant < now]
    assert [text for (text,) in found] == expected


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(None, id="NULL"),
        pytest.param(1, id="a number"),
        pytest.param(2461366.8, id="a Julian day"),
        pytest.param(b"2026-01-01 00:00:00", id="a BLOB"),
        pytest.param(b"\xff\xfe", id="a BLOB that is no text"),
    ],
)
def test_what_is_not_text_is_not_a_time(stored: object, memory: sqlite3.Connection) -> None:
    query = f"SELECT {unix_seconds('stored')} FROM (SELECT ? AS stored)"

    (read,) = memory.execute(query, (stored,)).fetchone()

    assert read is None
