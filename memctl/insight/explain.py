"""Everything about one memory: its state, its history, and its future.

The future is what the jobs would do under the present policy if they ran at every moment and the
memory were not read again; it is computed by the queries of the jobs. A memory is identified by
agent, type and key, because its id changes whenever a client writes it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from memctl.config.policies import DecayPolicy, PromotePolicy, PrunePolicy, QuotaPolicy
from memctl.errors import NotFoundError, name_like
from memctl.jobs.candidates import Considered, foreseen_candidates
from memctl.storage.knowledge import ENTRY_TYPES
from memctl.storage.rows import EventFilter, EventRecord
from memctl.storage.sqlite.agents import require_agent
from memctl.storage.sqlite.database import Connection, one_view
from memctl.storage.sqlite.decay import DecaySql, decay_sql
from memctl.storage.sqlite.events import read_events
from memctl.storage.sqlite.explain import (
    StoredCopy,
    StoredMemory,
    find_by_id,
    read_active,
    read_archived,
    read_names,
    type_of_key,
)
from memctl.storage.sqlite.fading import moment_of_fading, read_decayed, read_idle_time
from memctl.storage.sqlite.holding import HoldRecord, holds_on
from memctl.storage.sqlite.idle_times import with_settled_importances
from memctl.storage.sqlite.quota import quota_place
from memctl.storage.sqlite.store import SqliteStore
from memctl.storage.times import to_text, to_unix

MOST_NAMES = 10_000  # that are compared with an unknown one
YEAR_10000 = 253402300800  # in unix seconds; beyond the range of datetime

State = Literal["active", "archived", "pruned", "gone"]
ExpiryState = Literal["never", "unreadable", "to_come", "expired"]


@dataclass(frozen=True)
class Condition:
    """A condition of promotion. `lacks` is the number that is missing, if it is one."""

    condition: str
    needed: object
    found: object
    met: bool
    lacks: float | None


@dataclass(frozen=True)
class Expiry:
    """When a memory expires: cleanup archives it after `at`; None for years after 9999."""

    stored: Any
    state: ExpiryState
    at: str | None


@dataclass(frozen=True)
class Retention:
    """When prune deletes an archived copy: after `at`, unless its importance protects it."""

    at: str | None
    importance: Any
    protected: bool


@dataclass(frozen=True)
class Fading:
    """How a memory loses importance. At the moments given, decay has that effect."""

    unreadable: str | None  # the column that is not a time, which prevents decay
    idle_since: str | None
    idle_days: int | None
    rate: float | None  # points per day of its own; None: the policy's
    charged: float | None  # points for the idle days up to the last charge
    due: float  # points for the days since, charged by the next decay down to the floor
    importance_after_next: Any
    unprotected_at: str | None  # below the protected importance; None: never, or already
    floor_at: str | None  # None: never, or already


@dataclass(frozen=True)
class Quota:
    """The quota of the memory's agent, and what the agent has; None: any number.

    `less_valuable` memories are less valuable and are archived first; `is_beyond`: this one, too.
    """

    memories: int
    bytes: int
    most_memories: int | None
    most_bytes: int | None
    less_valuable: int
    is_beyond: bool


@dataclass(frozen=True)
class ActiveMemory:
    """The active memory of a name."""

    id: str | None
    importance: Any
    access_count: Any
    created_at: Any
    last_accessed: Any
    archived_at: Any
    promoted_at: Any
    known_since: str | None  # when its present text was promoted; None: not yet
    fading: Fading
    expiry: Expiry
    promotion: list[Condition]
    retention: Retention | None  # of its archived copy after it expires
    quota: Quota | None  # None: the agent has none, or it does not apply to this memory


@dataclass(frozen=True)
class ArchivedCopy:
    """One archived copy of a name."""

    archive_id: int
    id: str | None
    archived_at: str
    archived_reason: str
    run_id: int | None
    retention: Retention


@dataclass(frozen=True)
class Explanation:
    """The result of `memctl explain`."""

    at: str
    agent_id: str
    type: str
    key: str
    state: State
    policy: list[str]  # the tables of the configuration that apply to it
    earlier_ids: list[str]  # of versions that clients have replaced or deleted, oldest first
    active: ActiveMemory | None
    archived: list[ArchivedCopy]
    history: list[EventRecord]
    holds: list[HoldRecord]  # in force; the predictions apply without them


class Policies(NamedTuple):
    """The policies that determine the future of a memory."""

    decay: DecayPolicy = DecayPolicy()
    prune: PrunePolicy = PrunePolicy()
    promotion: PromotePolicy = PromotePolicy()
    quota: QuotaPolicy = QuotaPolicy()

    def of(self, agent: str, type: str) -> "Policies":
        """Return the policies for an agent's memories of a type, without overrides."""
        return self._replace(
            decay=self.decay.of(agent, type),
            prune=self.prune.of(agent, type),
            quota=self.quota.of(agent, type),
        )

    def tables(self, agent: str, type: str) -> list[str]:
        """Return the tables of the configuration that apply to such memories."""
        return [self.decay.tables(agent, type), self.prune.tables(agent, type)]


def explain(
    db: Connection, agent: str, words: Sequence[str], policies: Policies, *, now: datetime
) -> Explanation:
    """Explain the memory that `words` name: by its id (one word), or by its type and key (two).

    Raises NotFoundError if there is no trace of such a memory.
    """
    with one_view(db):
        type_, key = _find_by_id(db, agent, words[0]) if len(words) == 1 else words
        held = policies.of(agent, type_)
        stored = read_active(db, agent, type_, key)
        active = stored and _active_memory(db, stored, agent, type_, held, now=now)
        copies = read_archived(db, agent, type_, key)
        archived = [_archived_copy(copy, held.prune) for copy in copies]
        holds = holds_on(db, agent, type_, key, now=now)
        history = read_events(db, EventFilter(agent=agent, type=type_, key=key), after=0, limit=-1)
    if not (active or archived or history):
        raise unknown_name(db, agent, type_, key)
    state: State = "active" if active else "archived" if archived else "gone"
    if state == "gone" and history[-1].event == "memory:pruned":
        state = "pruned"
    return Explanation(
        at=to_text(now),
        agent_id=agent,
        type=type_,
        key=key,
        state=state,
        policy=policies.tables(agent, type_),
        earlier_ids=_earlier_ids(active, copies, history),
        active=active,
        archived=archived,
        history=history,
        holds=holds,
    )


def _earlier_ids(
    active: ActiveMemory | None, copies: Sequence[StoredCopy], history: Sequence[EventRecord]
) -> list[str]:
    """Return the ids that the active memory had before, as clients knew them, oldest first."""
    if active is None:
        return []
    found = [copy.original_id for copy in reversed(copies)]
    found += [event.memory_id for event in history]
    return [
        memory_id
        for memory_id in dict.fromkeys(found)
        if memory_id is not None and memory_id != active.id
    ]


def _find_by_id(db: Connection, agent: str, memory_id: str) -> tuple[str, str]:
    """Return type and key of the memory that has, or had, an id."""
    found = find_by_id(db, agent, memory_id)
    if found:
        return found
    require_agent(db, agent)
    type_ = type_of_key(db, agent, memory_id)
    raise NotFoundError(
        f"agent '{agent}' never had a memory with the id '{memory_id}'",
        f"did you mean its key, with the type: {type_} '{memory_id}'?"
        if type_
        else "specify its id, or its type and key",
    )


def unknown_name(db: Connection, agent: str, type_: str, key: str) -> NotFoundError:
    """Return the error for a name without a trace, with the name that was probably meant."""
    require_agent(db, agent)
    known = read_names(db, agent, limit=MOST_NAMES)
    names = {f"{known_type} '{known_key}'": known_key for known_type, known_key in known}
    wanted = f"{type_} '{key}'"
    close: list[str | None] = [name for name, known_key in names.items() if known_key == key]
    close.append(name_like(wanted, names))
    return NotFoundError(
        f"agent '{agent}' never had a memory {wanted}",
        f"did you mean {close[0]}?" if close[0] else "names are case-sensitive",
    )


def _active_memory(
    db: Connection,
    memory: StoredMemory,
    agent: str,
    type_: str,
    policies: Policies,
    *,
    now: datetime,
) -> ActiveMemory:
    candidates = foreseen_candidates(SqliteStore(db), policies.promotion, policies.decay, now=now)
    ((_, conditions),) = candidates.judge(rowid=memory.rowid)
    considered = Considered(*conditions)
    decay = with_settled_importances(db, decay_sql(db, policies.decay), rowid=memory.rowid)
    return ActiveMemory(
        id=memory.id,
        importance=memory.importance,
        access_count=memory.access_count,
        created_at=memory.created_at,
        last_accessed=memory.last_accessed,
        archived_at=memory.archived_at,
        promoted_at=memory.promoted_at,
        known_since=considered.known_since,
        fading=_fading(db, memory, decay, policies, now=now),
        expiry=_expiry(memory.expires_at, memory.expires, now=now),
        promotion=promotion_conditions(type_, considered, policy=policies.promotion),
        retention=_coming_retention(db, memory, decay, policies.prune, now=now),
        quota=_quota(db, memory, agent, policies.quota, now=now),
    )


def _quota(
    db: Connection, memory: StoredMemory, agent: str, policy: QuotaPolicy, *, now: datetime
) -> Quota | None:
    place = None
    if policy.is_limited:
        place = quota_place(db, policy, memory.rowid, agent=agent, now=now)
    if place is None:
        return None
    usage = place.usage
    return Quota(
        memories=usage.memories,
        bytes=usage.bytes,
        most_memories=usage.most_memories,
        most_bytes=usage.most_bytes,
        less_valuable=place.before,
        is_beyond=place.is_beyond,
    )


def _archived_copy(copy: StoredCopy, policy: PrunePolicy) -> ArchivedCopy:
    return ArchivedCopy(
        archive_id=copy.archive_id,
        id=copy.id,
        archived_at=copy.archived_at,
        archived_reason=copy.archived_reason,
        run_id=copy.run_id,
        retention=retention(copy.importance, copy.archived, policy),
    )


def _expiry(stored: object, unix: int | None, *, now: datetime) -> Expiry:
    if stored is None:
        return Expiry(None, "never", None)
    if unix is None:
        return Expiry(stored, "unreadable", None)
    return Expiry(stored, "expired" if unix < to_unix(now) else "to_come", text_of_unix(unix))


def _fading(
    db: Connection, memory: StoredMemory, decay: DecaySql, policies: Policies, *, now: datetime
) -> Fading:
    rowid, floor = memory.rowid, policies.decay.floor
    protected = policies.prune.protected_importance
    idle = read_idle_time(db, rowid, decay, now=to_unix(now))
    after_next = read_decayed(db, rowid, decay, now=to_unix(now))
    settled = idle.importance
    owed_before = 0.0 if memory.importance == settled else memory.importance - settled
    unprotected_at = floor_at = None
    if _is_number(settled) and settled >= protected:
        unprotected_at = moment_of_fading(db, rowid, decay, lambda left: left < protected)
    if _is_number(settled) and settled > floor:
        floor_at = moment_of_fading(db, rowid, decay, lambda left: left <= floor)
    return Fading(
        unreadable=idle.unreadable,
        idle_since=text_of_unix(idle.since),
        idle_days=idle.days,
        rate=idle.rate,
        charged=idle.charged,
        due=round(owed_before + max(0.0, (idle.owed or 0.0) - (idle.charged or 0.0)), 6),
        importance_after_next=settled if after_next is None else after_next,
        unprotected_at=text_of_unix(unprotected_at),
        floor_at=text_of_unix(floor_at),
    )


def _coming_retention(
    db: Connection, memory: StoredMemory, decay: DecaySql, policy: PrunePolicy, *, now: datetime
) -> Retention | None:
    """Return the retention of the archived copy if cleanup runs as soon as the memory expires."""
    if memory.expires is None:
        return None
    archived_at = max(to_unix(now), memory.expires + 1)
    left = read_decayed(db, memory.rowid, decay, now=archived_at)
    return retention(memory.importance if left is None else left, archived_at, policy)


def promotion_conditions(
    type_: str, considered: Considered, *, policy: PromotePolicy
) -> list[Condition]:
    """Return how a memory of a type meets the conditions of promotion."""
    importance = considered.importance_that_counts
    days = None if considered.age is None else round(considered.age / 86400, 5)
    return [
        Condition("type", list(ENTRY_TYPES), type_, bool(considered.is_type), None),
        _at_least("importance", policy.importance, importance, met=considered.is_important),
        _at_least("accesses", policy.accesses, considered.access_count, met=considered.is_read),
        _at_least("age_days", policy.age.days, days, met=considered.is_old),
    ]


def _at_least(condition: str, needed: float, found: Any, *, met: int) -> Condition:
    lacks = max(0, round(needed - found, 6)) if _is_number(found) else None
    return Condition(condition, needed, found, bool(met), lacks)


def retention(importance: Any, archived_at: int | None, policy: PrunePolicy) -> Retention:
    """Return the retention of a copy that was archived at a moment, in unix seconds."""
    protected = not _is_number(importance) or importance >= policy.protected_importance
    kept = int(policy.retention.total_seconds())
    deleted_at = None if archived_at is None else archived_at + kept
    return Retention(text_of_unix(deleted_at), importance, protected)


def text_of_unix(seconds: int | None) -> str | None:
    """Return our text of a moment; None for None and for years outside 1-9999."""
    if seconds is None or not -62135596800 <= seconds < YEAR_10000:
        return None
    return to_text(datetime.fromtimestamp(seconds, UTC))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
