"""Stored times in SQL.

Other programs may have stored SQLite's text, ISO 8601, years beyond 0-9999, or invalid times;
`unix_seconds` reads all of them.
"""


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
