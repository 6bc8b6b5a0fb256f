"""A memory, the rules for what memctl stores, and its conversion to the form of the service.

Other programs may have stored other values, which Memory contains unchanged.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NoReturn, get_args

from memctl.errors import UsageError
from memctl.storage.rows import MOST_ROWS, SearchedField, State
from memctl.storage.text import to_bytes
from memctl.storage.times import to_service_text

MemoryType = Literal["context", "learning", "preference", "error_pattern", "success_pattern"]
TYPES = get_args(MemoryType)
MOST_BYTES = 200_000_000  # of each text; a row of SQLite has at most a gigabyte


@dataclass(frozen=True)
class Memory:
    """One memory, every column as it is stored.

    Times are text in UTC, in the service's forms: `2026-11-22 09:43:58`, and for `expires_at`
    `2026-11-22T09:43:58.000Z`. Text that is invalid UTF-8 contains surrogate escapes. Other
    programs may have stored values that AgentMemory rejects, such as text in a numeric column.
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
    archived_at: str | None  # when it was last archived, if it has been restored
    importance_decay_rate: float | None  # None: the policy's rate
    last_decay_at: str | None  # the end of the idle time charged by decay
    promoted_at: str | None  # when it was promoted to the knowledge base


@dataclass(frozen=True)
class NewMemory:
    """A memory to store; all other columns get the defaults of the table."""

    id: str
    agent: str
    type: str
    key: str
    value: str
    metadata: str | None
    importance: float
    expires_at: str | None

    @property
    def texts(self) -> dict[str, str]:
        """The texts to store, by name; without metadata, if it has none."""
        texts = {"agent": self.agent, "type": self.type, "key": self.key, "value": self.value}
        return texts if self.metadata is None else {**texts, "metadata": self.metadata}


@dataclass(frozen=True)
class ArchivedMemory(Memory):
    """One archived memory, as it was when it was archived."""

    archived_at: str
    archive_id: int | str  # a number, or on PostgreSQL a UUID
    archived_reason: str
    run_id: int | None  # the run that archived it; None: a client did


@dataclass(frozen=True)
class Version:
    """One version of a memory: archived, or the active one."""

    version: int  # 1: the oldest that is kept
    state: State
    id: str | None
    written_at: str | None  # None: unknown
    archived_at: str | None  # None: active
    archived_reason: str | None
    replaced_by: str | None  # the id of the next version, if it was replaced
    run_id: int | None  # the run that archived it; None: a client did
    archive_id: int | None  # None: active
    importance: float | str | None
    value: str
    metadata: str | None


@dataclass(frozen=True)
class FoundMemory:
    """A memory that contains the text of a search."""

    memory: Memory  # an ArchivedMemory if it is archived
    state: State
    found_in: SearchedField  # the first of key, value and metadata that contains the text
    excerpt: str  # the text around it; the value's beginning if only the key contains it


@dataclass(frozen=True)
class SearchResult:
    """The best of the memories that contain a text, and the number of all of them."""

    total: int
    memories: list[FoundMemory]


@dataclass(frozen=True)
class Summary:
    """The memories of an agent: their number, also by type, and the most important."""

    memories: int
    by_type: Mapping[str, int]
    top_memories: Sequence[Memory]  # the first ten of `recall_all`


def to_stored(**texts: str) -> dict[str, bytes]:
    """Return texts as bytes in UTF-8; invalid UTF-8 stays as it is.

    Raises UsageError for a value that is not a str, contains an unpaired surrogate, or is too
    large.
    """
    stored = {}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise UsageError(f"the {name} is of type {type(text).__name__}", "pass a str")
        try:
            stored[name] = to_bytes(text)
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the {name} cannot be stored ({error})", "remove unpaired surrogates"
            ) from None
        if len(stored[name]) > MOST_BYTES:
            raise UsageError(f"the {name} is too large", f"at most {MOST_BYTES:,} bytes are stored")
    return stored


def require_type(type: str) -> None:
    """Raise UsageError unless it is one of the five types.

    Readers call it only if they found no memory: other programs may use other types.
    """
    if type not in TYPES:
        raise UsageError(f"there is no type '{type}'", f"use {', '.join(TYPES)}")


def require_importance(importance: float) -> None:
    """Raise UsageError unless it is a number from 1 to 10."""
    is_number = isinstance(importance, int | float) and not isinstance(importance, bool)
    if not is_number or not 1 <= importance <= 10:
        given = f"{importance:g}" if isinstance(importance, float) else repr(importance)
        raise UsageError(f"importance must be a number from 1 to 10, not {given}")


def require_limit(limit: int, name: str = "limit") -> None:
    """Raise UsageError unless it is a valid number of rows."""
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 <= limit <= MOST_ROWS:
        raise UsageError(f"invalid {name} {limit!r}", f"use a whole number from 0 to {MOST_ROWS:,}")


def require_page(limit: int, offset: int) -> None:
    """Raise UsageError unless these are a valid number of rows, and of rows to skip."""
    require_limit(limit)
    require_limit(offset, "offset")


def require_search_text(text: str) -> None:
    """Raise UsageError unless it is a text that can be searched for."""
    if not isinstance(text, str):
        raise UsageError(f"the text to find is of type {type(text).__name__}", "pass a str")
    if not text:
        raise UsageError("the text to find is empty", "`memctl list` lists all memories")


def to_expiry(expires_in: float | timedelta | None, *, now: datetime) -> str | None:
    """Return the time when a memory expires, in the service's form; None: never.

    Raises UsageError for a time that is negative, infinite or of another type.
    """
    lasts = to_lifetime(expires_in, now=now)
    return None if lasts is None else to_service_text(now + lasts)


def to_lifetime(expires_in: float | timedelta | None, *, now: datetime) -> timedelta | None:
    """Return how long after `now` a memory expires; raises UsageError as `to_expiry`."""
    if not expires_in:
        return None
    try:
        lasts = expires_in if isinstance(expires_in, timedelta) else timedelta(seconds=expires_in)
        if lasts > timedelta(0) and not isinstance(expires_in, bool):
            to_service_text(now + lasts)
            return lasts
    except (OverflowError, TypeError, ValueError):
        pass
    raise UsageError(
        f"invalid expires_in {expires_in!r}", "pass a positive number of seconds, or a timedelta"
    )


def to_json(document: object) -> str:
    """Return JSON in the service's form: compact, with as few escapes as possible.

    Raises UsageError for a value that JSON cannot represent, such as infinity.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the value cannot be represented as JSON ({error})", "remove what JSON does not allow"
        ) from None
    return text.encode("utf-8", "backslashreplace").decode()  # unpaired surrogates as JSON escapes


def from_json(text: str) -> Any:
    """Return the value of a stored JSON text, or None if it is not valid JSON."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> NoReturn:
    """Reject NaN and Infinity, as the service does."""
    raise ValueError(name)
