"""The Python API for agents: the functions of the service's own module, and the archive.

Writing is strict: one of the five types, an importance from 1 to 10, and a name that is not empty.
Reading and forgetting accept what any program has written. A forgotten memory is archived in the
same transaction, and on request a replaced one as well.
"""

import os
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, Self, get_args

from memctl.config.settings import load_settings
from memctl.errors import UsageError
from memctl.jobs.cleanup import cleanup
from memctl.jobs.engine import JobRequest, perform
from memctl.jobs.forget import forget_all
from memctl.jobs.restore import RestoreConflict, restore
from memctl.storage.addresses import ServerAddress, parse_address
from memctl.storage.engines import require_lock_wait
from memctl.storage.matching import SearchedText
from memctl.storage.memory import (
    ArchivedMemory,
    FoundMemory,
    Memory,
    MemoryType,
    NewMemory,
    Summary,
    Version,
    require_importance,
    require_limit,
    require_page,
    require_search_text,
    require_type,
    to_expiry,
    to_json,
    to_lifetime,
    to_stored,
)
from memctl.storage.owned_store import OwnedStore
from memctl.storage.rows import ArchiveFilter, MemoryFilter, State
from memctl.storage.times import require_clock_time
from memctl.usual_memories import UsualMemories

DEFAULT_IMPORTANCE = 5
TOP_MEMORIES = 10


def utc_now() -> datetime:
    """Return the time of the system clock."""
    return datetime.now(UTC)


class AgentMemory(UsualMemories):
    """The memories of all agents in one database; each call names the agent.

        with AgentMemory("harness.db") as memories:
            memories.remember("build_agent", "learning", "cache", "keep node_modules")
            found = memories.recall("build_agent", "learning", "cache")

    The database must exist and be migrated: run `memctl migrate` first. `database` is the path of
    a SQLite file, or the `postgresql://` URL of a database on a server. It defaults to the database
    that the commands use: MEMCTL_DB, HARNESS_DB_PATH, the configuration, or the default.

    Any number of processes may use a database at the same time. In a SQLite file, a call holds the
    write lock for about one statement (`forget_all` repeatedly, for one batch each) and waits for
    other programs for up to `lock_wait` seconds. On a server, it locks only its memory, and waits
    for about 5 seconds. A call during which the connection to the server is lost raises
    MemctlError, and may have taken effect or not; the next one connects again.

    An instance must be used in the thread and process that created it. In another one, and after
    `close`, which the end of a `with` block calls, every method raises UsageError.

    `clock` returns the present time as an aware datetime. It is called for each operation.

    All methods raise subclasses of MemctlError from `memctl.errors`: UsageError for an invalid
    argument, such as an unknown type without memories; LockedError if another program holds the
    lock for too long; SchemaError if the database is not migrated or its schema has changed;
    NoDatabaseError if it does not exist, or its server does not answer; and MemctlError itself for
    errors such as a full disk. A failed call changes nothing, except for `forget_all` and
    `cleanup_expired`, which work in batches and may have completed some of them.
    """

    def __init__(
        self,
        database: str | os.PathLike[str] | ServerAddress | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
        lock_wait: float = 5.0,
    ) -> None:
        if database is None:
            database = load_settings(database=None, configuration=None, environ=os.environ).database
        if not isinstance(database, str | os.PathLike | ServerAddress):
            raise UsageError(f"invalid path {database!r}", "pass a str or a Path")
        if not isinstance(database, ServerAddress):
            database = parse_address(os.fspath(database))
        require_lock_wait(lock_wait)
        self._clock = clock
        self._lock_wait = lock_wait
        self._opened = OwnedStore(database, lock_wait=lock_wait)
        self._using = self._opened.use

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; further calls of `close` have no effect."""
        self._opened.close()

    def remember(
        self,
        agent: str,
        type: MemoryType,
        key: str,
        value: str,
        *,
        metadata: object = None,
        importance: float = DEFAULT_IMPORTANCE,
        expires_in: float | timedelta | None = None,
        keep_replaced: bool = False,
    ) -> Memory:
        """Store a memory in place of the agent's memory of that type and key; return it.

        `metadata` is any value that JSON can represent, `importance` a number from 1 to 10. The
        memory expires after `expires_in`, a timedelta or a number of seconds; 0 or None: never. It
        gets a new id and an access count of 0. The memory that it replaces is deleted, as by the
        service; `keep_replaced` archives it instead, for the reason `replaced`. Raises RefusedError
        if that memory is held.
        """
        from uuid import uuid4  # slow to import, and needed only to write

        require_type(type)
        if not (agent and key):
            raise UsageError("a memory needs an agent and a key", "neither may be empty")
        require_importance(importance)
        now = self._now()
        memory = NewMemory(
            id=str(uuid4()),
            agent=agent,
            type=type,
            key=key,
            value=value,
            metadata=None if metadata is None else to_json(metadata),
            importance=importance,
            expires_at=to_expiry(expires_in, now=now),
        )
        with self._using() as memories:
            return memories.remember(memory, keep_replaced=keep_replaced, now=now)

    def recall(self, agent: str, type: str, key: str) -> Memory | None:
        """Return a memory and count an access; None if there is no such memory.

        The returned memory is as it was before the access, which increments `access_count` and
        sets `last_accessed` to the present time. An expired memory is found until a cleanup
        archives it.
        """
        now = self._now()
        with self._using() as memories:
            memory = memories.recall(agent, type, key, now=now)
        if memory is None:
            require_type(type)
        return memory

    def recall_all(
        self, agent: str, type: str | None = None, *, limit: int | None = None
    ) -> list[Memory]:
        """Return an agent's memories, the most important first, then the most accessed.

        Only those of `type` if it is given, and at most `limit`. No access is counted.
        """
        if limit is not None:
            require_limit(limit)
        with self._using() as memories:
            found = memories.list_active(_all_of(agent, type), limit=limit)
        if type is not None and not found:
            require_type(type)
        return found

    def forget(self, agent: str, type: str, key: str) -> bool:
        """Archive a memory for the reason `forgotten`; return whether there was one.

        Raises RefusedError if it is held.
        """
        now = self._now()
        with self._using() as memories:
            forgotten = memories.forget(agent, type, key, now=now)
        if not forgotten:
            require_type(type)
        return forgotten

    def forget_all(self, agent: str, type: str | None = None) -> int:
        """Archive an agent's memories, all or those of one type; return their number.

        They are archived in batches, between which other programs can write. Every memory is
        either active or archived, but an interruption may leave some of them active. Those that are
        held stay active.
        """
        now = self._now()
        # On another connection, because batches disable automatic checkpoints on theirs.
        with self._using():
            tally = forget_all(
                self._opened.database, agent, type, now=now, lock_wait=self._lock_wait
            )
        if type is not None and not tally.count + tally.held:
            require_type(type)
        return tally.count

    def search(
        self,
        text: str,
        *,
        agent: str | None = None,
        type: str | None = None,
        state: State | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> list[FoundMemory]:
        """Return the memories that contain a text in key, value or metadata, best match first.

        Searches all agents, or `agent`, and active and archived memories, or those of one `state`.
        Ignores case, and does not count as an access. See `memctl search` for the order.
        """
        require_search_text(text)
        require_page(limit, offset)
        if state not in (None, *get_args(State)):
            raise UsageError(f"invalid state {state!r}", "use active or archived")
        which, pattern = MemoryFilter(agent, type), SearchedText(text)
        with self._using() as memories:
            memories.require_known_type(type)
            found = memories.search(pattern, which, state=state, limit=limit, offset=offset)
        return found.memories

    def archived(
        self,
        agent: str | None = None,
        type: str | None = None,
        *,
        key: str | None = None,
        reason: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> list[ArchivedMemory]:
        """Return the archived memories of an agent, or of all agents, newest first.

        `type`, `key` and `reason`, if given, limit the result.
        """
        require_page(limit, offset)
        which = _archived_of(agent, type, key, reason=reason)
        with self._using() as memories:
            memories.require_known_type(type)
            found = self._opened.store.list_archived(which, limit=limit, offset=offset)
        return [ArchivedMemory(**columns) for columns in found]

    def history(
        self, agent: str, type: str, key: str, *, limit: int = 50, offset: int = 0
    ) -> list[Version]:
        """Return the versions of a memory, oldest first: the archived ones, then the active one.

        They are numbered from 1, the oldest that is kept. Overwritten versions are archived while
        archive-on-replace is enabled. The list is empty if there is no such memory. Raises
        UsageError on PostgreSQL; see `archived` for what has been archived there.
        """
        require_page(limit, offset)
        with self._using() as memories:
            memories.require_known_type(type)
            return memories.versions(agent, type, key, limit=limit, offset=offset)

    def restore(
        self,
        agent: str,
        ids: Collection[str] = (),
        *,
        type: str | None = None,
        key: str | None = None,
        version: int | None = None,
        on_conflict: RestoreConflict = "fail",
        expires_in: float | timedelta | None = None,
    ) -> int:
        """Restore archived memories by id, or by type and key; return their number.

        Works like `memctl restore`: in batches, under memctl's lock, recorded in the ledger, and
        even while memctl is paused. `on_conflict` specifies the action if an active memory has the
        same id, or the same type and key: `fail` raises RefusedError, `skip` leaves it archived,
        `replace` archives the active one. `version` is the number of one of the versions that
        `history` returns; by default, the newest archived one is restored. Raises NotFoundError for
        an unknown agent, id or version.
        """
        ids = [ids] if isinstance(ids, str) else list(ids)
        if (type is None) != (key is None) or bool(ids) == (type is not None):
            raise UsageError("restore needs either ids or a type and a key", "pass one of them")
        if version is not None and type is None:
            raise UsageError("a version requires a type and a key", "pass them")
        if on_conflict not in get_args(RestoreConflict):
            raise UsageError(f"invalid on_conflict {on_conflict!r}", "use fail, skip or replace")
        which = _archived_of(agent, type, key, ids=ids)
        now = self._now()
        lasts = to_lifetime(expires_in, now=now)
        request = JobRequest(self._opened.database, now, lock_wait=self._lock_wait)
        with self._using() as memories:
            report = perform(
                "restore",
                lambda run: restore(
                    run, which, version=version, on_conflict=on_conflict, expires_in=lasts
                ),
                request,
                by_hand=True,
            )
            if report.result and report.result.refusal:
                raise report.result.refusal
            memories.require_known_type(type)
        return report.result.restored if report.result else 0

    def cleanup_expired(self) -> int:
        """Archive the expired memories of all agents, as `memctl cleanup`; return their number.

        Quotas, which the configuration sets, do not apply. The run is recorded in the ledger and
        takes memctl's lock. While memctl is paused, nothing is archived. Raises RefusedError if the
        clock is more than an hour behind the last run, or far ahead of it.
        """
        request = JobRequest(self._opened.database, self._now(), lock_wait=self._lock_wait)
        with self._using():
            result = perform("cleanup", cleanup, request).result
        return result.archived if result else 0

    def summary(self, agent: str) -> Summary:
        """Return the number of an agent's memories and the ten most important ones.

        No access is counted.
        """
        with self._using() as memories:
            by_type, top_memories = memories.summary(agent, most=TOP_MEMORIES)
        return Summary(sum(by_type.values()), by_type, top_memories)

    def _now(self) -> datetime:
        return require_clock_time(self._clock())


def _all_of(agent: str, type: str | None = None) -> MemoryFilter:
    """Select an agent's memories. Raises UsageError for a value that is not a str."""
    to_stored(agent=agent)
    return MemoryFilter(agent=agent, type=type)


def _archived_of(
    agent: str | None, type: str | None, key: str | None, **more: Any
) -> ArchiveFilter:
    """Select archived memories. Raises UsageError for a value that is not a str."""
    texts = {"agent": agent, "type": type, "key": key}
    to_stored(**{name: text for name, text in texts.items() if text is not None})
    for memory_id in more.get("ids", ()):
        to_stored(id=memory_id)
    return ArchiveFilter(agent=agent, type=type, key=key, **more)
