"""Expiry is exact for every format, compared with an oracle that reads times without SQLite."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from memctl.errors import UsageError
from memctl.jobs.cleanup import cleanup
from memctl.jobs.engine import JobRequest, perform
from memctl.storage.sqlite.cleanup import expired_memories
from memctl.storage.sqlite.selection import ALL_ROWS
from memctl.storage.sqlite.times import is_before, unix_seconds
from memctl.storage.times import parse_moment, to_unix
from tests.support.database import memory_row
from tests.support.engines import Engine
from tests.support.program import NOW
from tests.support.properties import examples

YEAR = r"(?P<year>[0-9]{4}|[-+][0-9]{6})"
DATES = (
    rf"{YEAR}-(?P<month>[0-9]{{2}})-(?P<day>[0-9]{{2}})",
    rf"{YEAR}(?P<month>[0-9]{{2}})(?P<day>[0-9]{{2}})",
)
CLOCKS = (
    r"(?P<hour>[0-9]{2})",
    r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,][0-9]+)?)?",
    r"(?P<hour>[0-9]{2})(?P<minute>[0-9]{2})(?:(?P<second>[0-9]{2})(?:[.,][0-9]+)?)?",
)
ZONE = r"(?:[Zz]|(?P<sign>[-+])(?P<zone_hour>[0-9]{2})(?::?(?P<zone_minute>[0-9]{2}))?)"
FORMS = [
    re.compile(rf"{date}(?:[Tt ]{clock}(?:\s*{ZONE})?)?\s*", re.ASCII)
    for date in DATES
    for clock in CLOCKS
]
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
    match = next((match for form in FORMS if (match := form.fullmatch(text))), None)
    if not match:
        return None
    parts = match.groupdict()
    sign = -1 if parts["sign"] == "-" else 1
    year, month, day, hour, minute, second, zone_hour, zone_minute = (
        int(parts.get(name) or 0)
        for name in ["year", "month", "day", "hour", "minute", "second", "zone_hour", "zone_minute"]
    )
    if not (1 <= month <= 12 and 1 <= day <= days_of(year, month)):
        return None
    if (hour, minute, second) > (24, 0, 0) or minute > 59 or second > 60:
        return None
    if zone_hour > 23 or zone_minute > 59:
        return None
    seconds = days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
    return seconds - sign * (zone_hour * 3600 + zone_minute * 60)


@pytest.fixture(scope="module")
def memory() -> Iterator[sqlite3.Connection]:
    """A database without tables: only SQLite's conversion of values is tested."""
    with closing(sqlite3.connect(":memory:")) as db:
        yield db


moments = st.datetimes(
    min_value=datetime(2, 1, 1),  # noqa: DTZ001
    max_value=datetime(9998, 12, 31),  # noqa: DTZ001
)
around_now = st.integers(-3 * 86400, 3 * 86400).map(
    lambda seconds: (NOW + timedelta(seconds=seconds)).replace(tzinfo=None)
)
separators = st.sampled_from(["T", " ", "t"])
zones = st.one_of(
    st.sampled_from(["", "Z", "z", " Z", "+00:00", "-00:00", "+14:00", "-14:00", "+05:45", "+00"]),
    st.builds(
        "{}{}{:02}{}{:02}".format,
        st.sampled_from(["", " "]),
        st.sampled_from("+-"),
        st.integers(0, 25),
        st.sampled_from([":", ""]),
        st.integers(0, 61),
    ),
    st.builds("{}{:02}".format, st.sampled_from("+-"), st.integers(0, 25)),
)
clocks = st.sampled_from(
    [
        *("%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%H:%M:%S.000", "%H:%M:%S,%f", "%H:%M:%S.9999999"),
        *("%H", "%H%M", "%H%M%S", "%H%M%S.%f", "%H:%M:60", "24:00", "240000"),
    ]
)


@st.composite
def good_times(draw: st.DrawFn) -> str:
    """A time in a format that programs use, mostly near NOW, where errors show."""
    moment = draw(st.one_of(around_now, moments))
    date = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
    if draw(st.booleans()) and draw(st.booleans()):
        sign = draw(st.sampled_from("+-"))
        year = draw(st.one_of(st.just(moment.year), st.integers(0, 275760)))
        date = f"{sign}{year:06}-{moment.month:02}-{moment.day:02}"
    if not draw(st.integers(0, 3)):
        date = date[0] + date[1:].replace("-", "")
    if not draw(st.integers(0, 9)):
        return date
    return date + draw(separators) + moment.strftime(draw(clocks)) + draw(zones)


@st.composite
def broken_times(draw: st.DrawFn) -> str:
    """A time with one character changed, dropped or added."""
    text = draw(good_times())
    place = draw(st.integers(0, len(text)))
    end = place + draw(st.integers(0, 2))
    return text[:place] + draw(st.text("0123456789-+:.,TZtz x\n\0", max_size=2)) + text[end:]


GARBAGE = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["now", "12:00", "2461366.8", "", "0", "1795340638", "today", "2026", "null", "never"]
    ),
    st.builds("{:04}-{:02}-{:02}".format, st.integers(0, 9999), st.integers(), st.integers(0, 40)),
)
TEXTS = st.one_of(good_times(), broken_times(), GARBAGE)


@examples(50)
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
@example(text="2026-11-21T12:00:00+0900")
@example(text="2026-11-21 12:00:00+09")
@example(text="2026-11-21t12:00:00z")
@example(text="2026-11-21T12:00:00,123Z")
@example(text="20261121T120000Z")
@example(text="20261121")
@example(text="+0115330707T120000,5-2359")
@example(text="2026-12-31T23:59:60Z")
@example(text="2026-11-21T12:00:00.9999999Z")
@example(text="2026-11-21T12:00:00Z\n")
@example(text="2026-W47-5")
@example(text="2026-325")
def test_a_stored_time_is_read_as_the_oracle_reads_it(
    text: str, memory: sqlite3.Connection
) -> None:
    query = f"SELECT {unix_seconds('stored')} FROM (SELECT ? AS stored)"

    (read,) = memory.execute(query, (text.encode("utf-8", "surrogatepass").decode(),)).fetchone()

    assert read == oracle(text)


@examples(5)
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


@given(
    seconds=st.lists(st.floats(-3, 3), min_size=1, max_size=20),
    fraction=st.integers(0, 999_999),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cleanup_archives_what_expired_before_the_second_in_which_it_runs(
    engine: Engine, seconds: list[float], fraction: int
) -> None:
    engine.empty()
    now = NOW + timedelta(microseconds=fraction)
    moments = [now + timedelta(milliseconds=round(1000 * after)) for after in seconds]
    texts = [moment.isoformat(timespec="milliseconds") for moment in moments]
    engine.fill(
        "agent_memory",
        [memory_row(id=str(number), expires_at=text) for number, text in enumerate(texts)],
    )

    perform("cleanup", cleanup, JobRequest(engine.address, now))

    expired = {
        str(number) for number, text in enumerate(texts) if datetime.fromisoformat(text) < NOW
    }
    assert {row["id"] for row in engine.rows("archived_memories")} == expired
    assert len(engine.rows()) == len(texts) - len(expired)


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(None, id="NULL"),
        pytest.param(1, id="a number"),
        pytest.param(2461366.8, id="a Julian day"),
        pytest.param(b"2026-01-01 00:00:00", id="a BLOB"),
        pytest.param(b"\xff\xfe", id="a BLOB that is not UTF-8"),
    ],
)
def test_only_text_is_read_as_a_time(stored: object, memory: sqlite3.Connection) -> None:
    query = f"SELECT {unix_seconds('stored')} FROM (SELECT ? AS stored)"

    (read,) = memory.execute(query, (stored,)).fetchone()

    assert read is None


@examples(5)
@given(text=TEXTS)
@example(text="2026-11-22T09:43:58,5+0900")
def test_a_time_on_the_command_line_is_read_like_a_stored_one(text: str) -> None:
    meant = oracle(text)
    if meant is None or not -62135596800 <= meant < 253402300800:  # the years 1 to 9999
        with pytest.raises(UsageError):
            parse_moment(text)
    else:
        assert to_unix(parse_moment(text)) == meant


def test_the_search_for_expired_memories_uses_the_index(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA automatic_index = OFF")
    query = expired_memories(ALL_ROWS)
    parameters = {"now": to_unix(NOW), "agent": None}

    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}", parameters)]

    searches = [step for step in plan if "agent_memory" in step]
    assert searches == [
        "SEARCH agent_memory USING INDEX memctl_expires_at (expires_at<?)",
        "SEARCH agent_memory USING INDEX memctl_expires_at (expires_at>? AND expires_at<?)",
    ]
