"""The memory of agents, for programs: what the service's own module does, and what that lacks.

Writing is strict: one of the five types, an importance from 1 to 10, a name that is not empty.
Reading and forgetting take whatever any program has written. Nothing is lost by forgetting: the
memory goes to the archive in the same transaction, and so does an overwritten one when asked.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import Any, Self

from memctl.config.settings import load_settings
from memctl.errors import UsageError
from memctl.jobs.batches import Batches
from memctl.jobs.cleanup import cleanup
from memctl.jobs.engine import MOST_LOCK_WAIT, JobContext, JobRequest, perform
from memctl.storage.rows import Reason
from memctl.storage.sqlite.archiving import archive_rows, own_deletes
from memctl.storage.sqlite.database import complaints_about, one_view, open_database, transaction
from memctl.storage.sqlite.memories import (
    OF_NAME,
    Memory,
    MemoryType,
    Summary,
    from_json,
    require_importance,
    require_limit,
    require_type,
    to_expiry,
    to_json,
    to_stored,
)
from memctl.storage.sqlite.migrations import (
    MEMORY_COLUMNS,
    require_current,
    schema_version,
)
from memctl.storage.sqlite.selection import Rows, Selection
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.times import is_possible, to_sqlite_text

DEFAULT_IMPORTANCE = 5
CONTEXT_IMPORTANCE = 3
SUCCESS_IMPORTANCE = 7
ERROR_IMPORTANCE = 8
CONTEXT_LASTS = timedelta(hours=24)
TOP_MEMORIES = 10

FIND = f"SELECT {', '.join(MEMORY_COLUMNS)} FROM agent_memory WHERE {OF_NAME}"

# The service's statement, which also names the two columns that it leaves to the clock of SQLite.
# REPLACE gives all others their defaults.
REMEMBER = """
    INSERT OR REPLACE INTO agent_memory
        (id, agent_id, type, key, value, metadata, importance,
         last_accessed, created_at, expires_at)
    VALUES (
        :id, CAST(:agent AS TEXT), CAST(:type AS TEXT), CAST(:key AS TEXT),
        CAST(:value AS TEXT), CAST(:metadata AS TEXT), :importance, :now, :now, :expires_at
    )
"""

COUNT_ACCESS = """
    UPDATE agent_memory
    SET access_count = access_count + 1, last_accessed = :now
    WHERE id = CAST(:id AS TEXT)
"""

# Ties come out as they are found, as they do for the service: nothing may order them here.
LIST = f"""
    SELECT {", ".join(MEMORY_COLUMNS)}
    FROM agent_memory
    WHERE {{condition}}
    ORDER BY importance DESC, access_count DESC
"""

COUNT_BY_TYPE = """
    SELECT type, count(*)
    FROM agent_memory
    WHERE agent_id = CAST(:agent AS TEXT)
    GROUP BY type
    ORDER BY type
"""


def utc_now() -> datetime:
    """Return the time by the clock of the machine."""
    return datetime.now(UTC)


class AgentMemory:
    """The memories in one database, for all agents; each call names the agent it is for.

        with AgentMemory("harness.db") as memories:
            memories.remember("build_agent", "learning", "cache", "keep node_modules")
            found = memories.recall("build_agent", "learning", "cache")

    The database must exist and be migrated: run `memctl migrate` first. Without a path it is the
    one that the commands use: MEMCTL_DB, HARNESS_DB_PATH, the configuration, or the default.

    Any number of processes may use a database at once. A call takes the write lock for about as
    long as one statement lasts (`forget_all` for many short moments) and waits for others up to
    `lock_wait` seconds. An instance belongs to the thread and the process that made it: make one
    for each. In another one, and after `close`, which the end of a `with` block calls, every call
    raises UsageError.

    `clock` returns the present time, aware of its offset. It is asked anew at each call, since an
    instance may live as long as its agent.

    Every call may raise an error of `memctl.errors`, all of them MemctlError: UsageError for an
    argument that makes no sense, such as a type that is none of the five and has no memory;
    LockedError when another program held the lock for too long; SchemaError when the schema is
    not, or is no longer, the one that this memctl knows; at the start NoDatabaseError; and
    MemctlError itself for a full disk and the like. The call has changed nothing then; only
    `forget_all` and `cleanup_expired`, which work in batches, may have done a part.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
        lock_wait: float = 5.0,
    ) -> None:
        if path is None:
            path = load_settings(database=None, configuration=None, environ=os.environ).database
        if not isinstance(path, str | os.PathLike):
            raise UsageError(f"invalid path {path!r}", "pass a str or a Path")
        self._clock = clock
        self._lock_wait = _seconds(lock_wait)
        self._owner = _this_thread()
        self._closed = False
        with ExitStack() as opened:
            self._db = opened.enter_context(open_database(Path(path), lock_wait=lock_wait))
            self._path = Path(path).absolute()  # the program may go elsewhere
            # What REPLACE takes away fires DELETE triggers, by which others keep an index in step.
            self._db.execute("PRAGMA recursive_triggers = ON")
            self._schema = schema_version(self._db)
            require_current(self._db)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect from the database; doing it twice does no harm."""
        if not self._closed:
            self._require_usable()
            self._closed = True
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
        """Store a value in place of what the agent remembers under that type and key; return it.

        `metadata` is anything that JSON can hold, `importance` a number from 1 to 10. The memory
        expires after `expires_in`, a timedelta or seconds; 0 or None means never. It is a new one
        with an id of its own and no accesses. What it replaces is gone, as with the service,
        unless `keep_replaced` keeps it in the archive for the reason `replaced`.
        """
        from uuid import uuid4  # only those who write pay for its import

        require_type(type)
        if not (agent and key):
            raise UsageError("a memory needs an agent and a key", "neither may be empty")
        require_importance(importance)
        now = self._now()
        name = to_stored(agent=agent, type=type, key=key)
        row = {
            **name,
            **to_stored(value=value),
            "metadata": None,
            "id": str(uuid4()),
            "importance": importance,
            "now": to_sqlite_text(now),
            "expires_at": to_expiry(expires_in, now=now),
        }
        if metadata is not None:
            row |= to_stored(metadata=to_json(metadata))
        with self._changing():
            if keep_replaced:
                self._archive(name, reason="replaced", now=now)
            replaces = bool(self._rows_of(name))
            with own_deletes(self._db) if replaces else nullcontext():
                written = self._db.execute(REMEMBER, row).rowcount
            require_equal_counts(self._db, remembered=1, written=written)
            return Memory(*self._db.execute(FIND, name).fetchone())

    def recall(self, agent: str, type: str, key: str) -> Memory | None:
        """Return a memory, or None when there is none, and count an access.

        What is returned is the memory as it was before the access; afterwards `access_count` is
        one higher and `last_accessed` is now. A memory that has expired is found until a cleanup
        takes it.
        """
        now = self._now()
        with self._reading():
            row = self._db.execute(FIND, to_stored(agent=agent, type=type, key=key)).fetchone()
        if row is None:
            require_type(type)
            return None
        memory = Memory(*row)
        if isinstance(memory.id, str):  # else the service, too, would not find it again
            with self._changing():
                access = {**to_stored(id=memory.id), "now": to_sqlite_text(now)}
                self._db.execute(COUNT_ACCESS, access)
        return memory

    def recall_all(
        self, agent: str, type: str | None = None, *, limit: int | None = None
    ) -> list[Memory]:
        """Return what an agent remembers, the most important first, then the most accessed.

        Of one type if it is given, and at most `limit` of them. It does not count as an access.
        """
        condition, parameters = _of_agent(agent, type)
        query = LIST.format(condition=condition)
        if limit is not None:
            require_limit(limit)
            query += " LIMIT :limit"
        with self._reading():
            rows = self._db.execute(query, {**parameters, "limit": limit}).fetchall()
        if type is not None and not rows:
            require_type(type)
        return [Memory(*row) for row in rows]

    def forget(self, agent: str, type: str, key: str) -> bool:
        """Move a memory to the archive, for the reason `forgotten`; tell whether there was one."""
        now = self._now()
        name = to_stored(agent=agent, type=type, key=key)
        with self._changing():
            forgotten = self._archive(name, reason="forgotten", now=now)
        if not forgotten:
            require_type(type)
        return bool(forgotten)

    def forget_all(self, agent: str, type: str | None = None) -> int:
        """Move an agent's memories, all or those of a type, to the archive; return how many.

        They go in batches, so that others can write in between: each memory is active or
        archived, but an interruption may leave some of them active.
        """
        now = self._now()
        condition, parameters = _of_agent(agent, type)
        selection = Selection(partial(_forgettable_memories, condition), parameters)
        # A connection of its own, since batches leave no checkpoints to the connection they use.
        with self._reading(), open_database(self._path, lock_wait=self._lock_wait) as db:
            tally = JobContext(
                db, JobRequest(self._path, now), batches=Batches(db)
            ).apply_in_batches(
                selection,
                lambda batch: archive_rows(
                    db,
                    batch.rowids,
                    reason="forgotten",
                    now=now,
                    run_id=None,
                ),
            )
        if type is not None and not tally.count:
            require_type(type)
        return tally.count

    def cleanup_expired(self) -> int:
        """Do what `memctl cleanup` does: archive what has expired, of all agents; return how many.

        It runs as that job, in the ledger and one at a time, and archives nothing while memctl is
        paused. Raises RefusedError when the clock is over an hour behind the last run, or
        leapt ahead.
        """
        request = JobRequest(self._path, self._now(), lock_wait=self._lock_wait)
        with self._reading():
            result = perform("cleanup", cleanup, request).result
        return result.archived if result else 0

    def summary(self, agent: str) -> Summary:
        """Count what an agent remembers, and return the ten most important memories.

        It does not count as an access.
        """
        with self._reading(), one_view(self._db):
            by_type = dict(self._db.execute(COUNT_BY_TYPE, to_stored(agent=agent)))
            top_memories = self.recall_all(agent, limit=TOP_MEMORIES)
        return Summary(sum(by_type.values()), by_type, top_memories)

    def set_task_context(self, agent: str, task_id: str, context: object) -> Memory:
        """Remember the context of a task, anything that JSON can hold, for 24 hours; return it.

        It is the context `task:<task_id>`, of importance 3.
        """
        return self.remember(
            agent,
            "context",
            f"task:{task_id}",
            to_json(context),
            importance=CONTEXT_IMPORTANCE,
            expires_in=CONTEXT_LASTS,
        )

    def get_task_context(self, agent: str, task_id: str) -> Any:
        """Return the context of a task, read from its JSON; None without one, or if it is no JSON.

        It counts as an access.
        """
        memory = self.recall(agent, "context", f"task:{task_id}")
        if memory is None:
            return None
        return from_json(memory.value)

    def learn_success(self, agent: str, pattern: str, details: object) -> Memory:
        """Remember what worked, with details that JSON can hold; return the memory.

        It is the success_pattern of that key, of importance 7.
        """
        return self.remember(
            agent, "success_pattern", pattern, to_json(details), importance=SUCCESS_IMPORTANCE
        )

    def learn_error(self, agent: str, pattern: str, details: object) -> Memory:
        """Remember what went wrong, with details that JSON can hold; return the memory.

        It is the error_pattern of that key, of importance 8.
        """
        return self.remember(
            agent, "error_pattern", pattern, to_json(details), importance=ERROR_IMPORTANCE
        )

    def has_seen_error(self, agent: str, pattern: str) -> Memory | None:
        """Return what an agent has learnt of an error, or None; it counts as an access."""
        return self.recall(agent, "error_pattern", pattern)

    def _now(self) -> datetime:
        now = self._clock()
        if not isinstance(now, datetime) or now.tzinfo is None:
            raise UsageError(f"the clock says {now}, without an offset", "return an aware datetime")
        if not is_possible(now):
            raise UsageError(f"the clock says {now}", "return a time in the years 1971 to 8999")
        return now

    def _require_usable(self) -> None:
        if self._closed:
            raise UsageError("this AgentMemory is closed", "make another one")
        if self._owner != _this_thread():
            raise UsageError(
                "this AgentMemory belongs to another thread or process", "make one in each"
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._require_usable()
        with complaints_about(self._path):
            self._require_known_schema()
            yield

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self._require_usable()
        with complaints_about(self._path, self._db), transaction(self._db):
            self._require_known_schema()
            yield

    def _require_known_schema(self) -> None:
        """Look again at a schema that was changed: a new column would not be archived."""
        version = schema_version(self._db)
        if version != self._schema:
            require_current(self._db)
            self._schema = version

    def _archive(self, name: Mapping[str, bytes], *, reason: Reason, now: datetime) -> int:
        """Archive the memory of that name, if there is one; returns how many there were."""
        rowids = json.dumps(self._rows_of(name))
        return archive_rows(self._db, rowids, reason=reason, now=now, run_id=None)

    def _rows_of(self, name: Mapping[str, bytes]) -> list[int]:
        found = self._db.execute(f"SELECT rowid FROM agent_memory WHERE {OF_NAME}", name)
        return [row[0] for row in found]


def _this_thread() -> tuple[int, int]:
    """Return what identifies this thread among those of all processes."""
    return os.getpid(), get_ident()


def _seconds(lock_wait: float) -> float:
    """Return how long to wait for a lock. Raises UsageError for anything else."""
    if not isinstance(lock_wait, int | float) or not 0 <= lock_wait <= MOST_LOCK_WAIT:
        raise UsageError(
            f"invalid lock_wait {lock_wait!r}", f"pass seconds from 0 to {MOST_LOCK_WAIT}"
        )
    return lock_wait


def _forgettable_memories(condition: str, rows: Rows) -> str:
    return f"""
        SELECT rowid, id, agent_id, type, key
        FROM agent_memory
        {rows.where(condition)}
    """


def _of_agent(agent: str, type: str | None) -> tuple[str, dict[str, bytes]]:
    """Return SQL for an agent's memories, all or those of a type, and its parameters."""
    condition = "agent_id = CAST(:agent AS TEXT)"
    if type is None:
        return condition, to_stored(agent=agent)
    return f"{condition} AND type = CAST(:type AS TEXT)", to_stored(agent=agent, type=type)
