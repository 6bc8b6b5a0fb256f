"""What a memory is, and what may become one.

Of what another program stored, anything goes: Memory has it as it is. What memctl is to store is
checked here first, and brought into the form in which the service would have stored it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NoReturn, get_args

from memctl.errors import UsageError
from memctl.storage.sqlite.database import MOST_ROWS, to_bytes
from memctl.storage.times import to_service_text

MemoryType = Literal["context", "learning", "preference", "error_pattern", "success_pattern"]
TYPES = get_args(MemoryType)
MOST_BYTES = 200_000_000  # of each text: SQLite holds rows of a gigabyte

# A condition on a memory's name; its parameters are bytes, as `to_stored` returns them.
OF_NAME = """
    agent_id = CAST(:agent AS TEXT) AND type = CAST(:type AS TEXT) AND key = CAST(:key AS TEXT)
"""


@dataclass(frozen=True)
class Memory:
    """One memory, every column as it is stored.

    Times are text, in the service's forms and UTC: `2026-11-22 09:43:58`, and for `expires_at`
    `2026-11-22T09:43:58.000Z`. Text that is not valid UTF-8 has its bytes as surrogate escapes.
    Other programs may have stored what AgentMemory would not, such as a word for a number.
    """

    id: str | None
    agent_id: str
    type: str
    key: str
    value: str
    metadata: str | None  # JSON
    importance: float | str | None
    access_count: int | None
    last_accessed: str | None
    created_at: str | None
    expires_at: str | None  # None: never
    archived_at: str | None  # when it was last archived, if it was ever restored
    importance_decay_rate: float | None  # None: the policy decides
    last_decay_at: str | None  # until when its idle time is charged
    promoted_at: str | None  # when it reached the knowledge base


@dataclass(frozen=True)
class Summary:
    """What an agent remembers: how much, of which types, and what matters most."""

    total: int
    by_type: Mapping[str, int]
    top_memories: Sequence[Memory]  # the first ten of `recall_all`


def require_type(type: str) -> None:
    """Raise UsageError unless it is one of the five types.

    What reads asks only when it found nothing: other programs may use other types.
    """
    if type not in TYPES:
        raise UsageError(f"there is no type '{type}'", f"use {', '.join(TYPES)}")


def require_importance(importance: float) -> None:
    """Raise UsageError unless it is a number from 1 to 10."""
    is_number = isinstance(importance, int | float) and not isinstance(importance, bool)
    if not is_number or not 1 <= importance <= 10:
        raise UsageError(f"{importance!r} is no importance", "use a number from 1 to 10")


def require_limit(limit: int) -> None:
    """Raise UsageError unless it is a number of rows that SQLite can count to."""
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= MOST_ROWS:
        raise UsageError(f"invalid limit {limit!r}", f"use a whole number from 0 to {MOST_ROWS:,}")


def to_stored(**texts: str) -> dict[str, bytes]:
    """Return texts as SQLite shall store them.

    Raises UsageError for what is not text, has half of a character in it, or is too large.
    """
    stored = {}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise UsageError(f"the {name} is no text but {type(text).__name__}", "give a str")
        try:
            stored[name] = to_bytes(text)
        except UnicodeEncodeError as error:
            raise UsageError(f"the {name} cannot be stored ({error})", "correct it") from None
        if len(stored[name]) > MOST_BYTES:
            raise UsageError(f"the {name} is too large", f"{MOST_BYTES:,} bytes are the most")
    return stored


def to_expiry(expires_in: float | timedelta | None, *, now: datetime) -> str | None:
    """Return when a memory expires, as the service writes it; None is never.

    Raises UsageError for a negative or endless time, and for what is none.
    """
    if not expires_in:
        return None
    try:
        lasts = expires_in if isinstance(expires_in, timedelta) else timedelta(seconds=expires_in)
        if lasts > timedelta(0) and not isinstance(expires_in, bool):
            return to_service_text(now + lasts)
    except (OverflowError, TypeError, ValueError):
        pass
    raise UsageError(
        f"a memory cannot expire in {expires_in!r}", "use seconds above zero, or a timedelta"
    )


def to_json(document: object) -> str:
    """Return JSON as the service writes it: compact, and only what must be is escaped.

    Raises UsageError for what JSON has no form for, such as infinity.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"this cannot be written as JSON ({error})", "leave out what JSON has no form for"
        ) from None
    return text.encode("utf-8", "backslashreplace").decode()  # half a character: JSON's own escape


def from_json(text: str) -> Any:
    """Return what a stored text means as JSON, or None when it is none."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> NoReturn:
    """Read JSON as the service does, which knows no NaN and no Infinity."""
    raise ValueError(name)
