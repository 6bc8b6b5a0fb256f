"""When decay will leave one memory a certain importance. Everything here only reads."""

import bisect
from collections.abc import Callable

from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.decay import DecaySql
from memctl.storage.sqlite.fading import read_decayed, read_idle_since

FARTHEST_DAYS = 36500


def moment_of_fading(
    db: Connection, rowid: int, sql: DecaySql, reached: Callable[[float], bool]
) -> int | None:
    """Return from when on, in unix seconds, decay leaves a memory an importance that low.

    `reached` must be true for all importances below one for which it is true. Returns None if this
    takes longer than a century of idle time. The memory is assumed not to be read until then.
    """
    start = read_idle_since(db, rowid)
    if start is None:
        return None

    def is_reached(days: int) -> bool:
        left = read_decayed(db, rowid, sql, now=start + days * 86400)
        return left is not None and reached(left)

    days = bisect.bisect_left(range(FARTHEST_DAYS + 1), True, key=is_reached)
    return start + days * 86400 if days <= FARTHEST_DAYS else None
