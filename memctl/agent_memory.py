"""The memory of agents, for programs: what the service's own module does, and what that lacks.

Writing is strict: one of the five types, an importance from 1 to 10, a name that is not empty.
Reading and forgetting take whatever any program has written. Nothing is lost by forgetting: the
memory goes to the archive in the same transaction, and so does an overwritten one when asked.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Self, get_args

from memctl.archive import Reason, archive_rows
from memctl.batches import Batches
from memctl.cleanup import cleanup
from memctl.database import complaints_about, open_database, to_bytes, transaction
from memctl.due import Due
from memctl.errors import UsageError
from memctl.events import Event
from memctl.jobs import Request, Run, perform
from memctl.migrations import MEMORY_COLUMNS, require_current, schema_version
from memctl.settings import load_settings
from memctl.timestamps import to_service_text, to_sqlite_text

MemoryType = Literal["context", "learning", "preference", "error_pattern", "success_pattern"]
TYPES = get_args(MemoryType)

DEFAULT_IMPORTANCE = 5
CONTEXT_IMPORTANCE = 3
SUCCESS_IMPORTANCE = 7
ERROR_IMPORTANCE = 8
CONTEXT_LASTS = timedelta(hours=24)
TOP_MEMORIES = 10
MOST_BYTES = 999_000_000  # a row of SQLite holds at most 1,000,000,000

OF_NAME = """
    agent_id = CAST(:agent AS TEXT) AND type = CAST(:type AS TEXT) AND key = CAST(:key AS TEXT)
"""

FIND = f"SELECT {', '.join(MEMORY_COLUMNS)} FROM agent_memory WHERE {OF_NAME}"

# The service's statement, which also names the two columns that it leaves to the clock of SQLite.
# REPLACE gives all others their defaults, and fires no trigger for the row it takes away.
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

FORGETTABLE = """
    SELECT rowid, id, agent_id, type, key
    FROM agent_memory
    {{where}} {condition}
"""

COUNT_BY_TYPE = """
    SELECT type, count(*)
    FROM agent_memory
    WHERE agent_id = CAST(:agent AS TEXT)
    GROUP BY type
    ORDER BY type
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

    Any number of processes may use a database at once; each call is atomic, holds the write lock
    for about as long as one statement takes (`forget_all` takes it for many short moments), and
    waits for others up to `lock_wait` seconds. An instance belongs to the thread and the process
    that made it: make one for each, or sqlite3 raises its ProgrammingError. After `close`, which
    the end of a `with` block calls, every call raises that too.

    `clock` returns the present time, aware of its offset. It is asked anew at each call, since an
    instance may live as long as its agent.

    Every call may raise one of `memctl.errors`, all of them MemctlError: UsageError for an
    argument that makes no sense, LockedError when another program held the lock for too long,
    SchemaError when the schema is not, or is no longer, the one this version of memctl knows,
    NoDatabaseError (at the start) when there is no database, and MemctlError itself for a full
    disk and the like. Whatever is raised, the call has changed nothing.
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
        self._clock = clock
        self._lock_wait = lock_wait
        with ExitStack() as opened:
            self._db = opened.enter_context(open_database(Path(path), lock_wait=lock_wait))
            self._path = Path(path).absolute()  # the program may go elsewhere
            self._schema = schema_version(self._db)
            require_current(self._db)
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect from the database; doing it twice does no harm."""
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

        _require_type(type)
        if not (agent and key):
            raise UsageError("a memory needs an agent and a key", "neither may be empty")
        is_number = isinstance(importance, int | float) and not isinstance(importance, bool)
        if not is_number or not 1 <= importance <= 10:
            raise UsageError(f"{importance!r} is no importance", "use a number from 1 to 10")
        now = self._now()
        name = _texts(agent=agent, type=type, key=key)
        content = {
            **_texts(value=value),
            "metadata": None if metadata is None else to_bytes(_to_json(metadata)),
        }
        if sum(len(text or b"") for text in (*name.values(), *content.values())) > MOST_BYTES:
            raise UsageError("the memory is too large", "SQLite stores at most a gigabyte")
        row = {
            "id": str(uuid4()),
            **name,
            **content,
            "importance": importance,
            "now": to_sqlite_text(now),
            "expires_at": _expiry(expires_in, now=now),
        }
        with self._changing():
            if keep_replaced:
                self._archive(name, event="memory:archived", reason="replaced", now=now)
            self._db.execute(REMEMBER, row)
            return Memory(*self._db.execute(FIND, name).fetchone())

    def recall(self, agent: str, type: str, key: str) -> Memory | None:
        """Return a memory, or None when there is none, and count an access.

        What is returned is the memory as it was before the access; afterwards `access_count` is
        one higher and `last_accessed` is now. A memory that has expired is found until a cleanup
        takes it.
        """
        now = self._now()
        with self._reading():
            row = self._db.execute(FIND, _texts(agent=agent, type=type, key=key)).fetchone()
        if row is None:
            _require_type(type)
            return None
        memory = Memory(*row)
        if memory.id is not None:
            with self._changing():
                access = {**_texts(id=memory.id), "now": to_sqlite_text(now)}
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
            query += " LIMIT :limit"
        with self._reading():
            rows = self._db.execute(query, {**parameters, "limit": limit}).fetchall()
        if type is not None and not rows:
            _require_type(type)
        return [Memory(*row) for row in rows]

    def forget(self, agent: str, type: str, key: str) -> bool:
        """Move a memory to the archive, for the reason `forgotten`; tell whether there was one."""
        now = self._now()
        name = _texts(agent=agent, type=type, key=key)
        with self._changing():
            forgotten = self._archive(name, event="memory:forgotten", reason="forgotten", now=now)
        if not forgotten:
            _require_type(type)
        return bool(forgotten)

    def forget_all(self, agent: str, type: str | None = None) -> int:
        """Move an agent's memories, all or those of a type, to the archive; return how many.

        They go in batches, so that others can write in between: each memory is active or
        archived, but an interruption may leave some of them active.
        """
        now = self._now()
        condition, parameters = _of_agent(agent, type)
        due = Due(FORGETTABLE.format(condition=condition), parameters)
        # A connection of its own, since batches leave no checkpoints to the connection they use.
        with self._reading(), open_database(self._path, lock_wait=self._lock_wait) as db:
            tally = Run(db, Request(self._path, now), batches=Batches(db)).settle(
                due,
                lambda batch: archive_rows(
                    db,
                    batch.rowids,
                    event="memory:forgotten",
                    reason="forgotten",
                    now=now,
                    run_id=None,
                ),
            )
        if type is not None and not tally.count:
            _require_type(type)
        return tally.count

    def cleanup_expired(self) -> int:
        """Do what `memctl cleanup` does: archive what has expired, of all agents; return how many.

        It runs as that job, in the ledger and one at a time, and archives nothing while memctl is
        paused. Raises RefusedError when the clock is over an hour behind the last run.
        """
        request = Request(self._path, self._now(), lock_wait=self._lock_wait)
        with self._reading():
            result = perform("cleanup", cleanup, request).result
        return result.archived if result else 0

    def summary(self, agent: str) -> Summary:
        """Count what an agent remembers, and return the ten most important memories.

        It does not count as an access.
        """
        with self._reading():
            by_type = dict(self._db.execute(COUNT_BY_TYPE, _texts(agent=agent)))
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
            _to_json(context),
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
        try:
            return json.loads(memory.value, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return None

    def learn_success(self, agent: str, pattern: str, details: object) -> Memory:
        """Remember what worked, with details that JSON can hold; return the memory.

        It is the success_pattern of that key, of importance 7.
        """
        return self.remember(
            agent, "success_pattern", pattern, _to_json(details), importance=SUCCESS_IMPORTANCE
        )

    def learn_error(self, agent: str, pattern: str, details: object) -> Memory:
        """Remember what went wrong, with details that JSON can hold; return the memory.

        It is the error_pattern of that key, of importance 8.
        """
        return self.remember(
            agent, "error_pattern", pattern, _to_json(details), importance=ERROR_IMPORTANCE
        )

    def has_seen_error(self, agent: str, pattern: str) -> Memory | None:
        """Return what an agent has learnt of an error, or None; it counts as an access."""
        return self.recall(agent, "error_pattern", pattern)

    def _now(self) -> datetime:
        now = self._clock()
        if now.tzinfo is None:
            raise UsageError(f"the clock says {now}, without an offset", "return an aware datetime")
        return now

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with complaints_about(self._path):
            self._require_known_schema()
            yield

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with complaints_about(self._path), transaction(self._db):
            self._require_known_schema()
            yield

    def _require_known_schema(self) -> None:
        """Look again at a schema that was changed: a new column would not be archived."""
        version = schema_version(self._db)
        if version != self._schema:
            require_current(self._db)
            self._schema = version

    def _archive(
        self, name: Mapping[str, bytes], *, event: Event, reason: Reason, now: datetime
    ) -> int:
        """Archive the memory of that name, if there is one; returns how many there were."""
        found = self._db.execute(f"SELECT rowid FROM agent_memory WHERE {OF_NAME}", name)
        rowids = json.dumps([row[0] for row in found])
        return archive_rows(self._db, rowids, event=event, reason=reason, now=now, run_id=None)


def _texts(**texts: str) -> dict[str, bytes]:
    """Return texts as SQLite shall store them.

    Raises UsageError for what is not text, or has half of a character in it.
    """
    for name, text in texts.items():
        if not isinstance(text, str):
            raise UsageError(f"the {name} {text!r} is not text", "give a str")
    try:
        return {name: to_bytes(text) for name, text in texts.items()}
    except UnicodeEncodeError as error:
        raise UsageError(f"{error.object!r} is not text that can be stored", str(error)) from None


def _of_agent(agent: str, type: str | None) -> tuple[str, dict[str, bytes]]:
    """Return SQL for an agent's memories, all or those of a type, and its parameters."""
    condition = "agent_id = CAST(:agent AS TEXT)"
    if type is None:
        return condition, _texts(agent=agent)
    return f"{condition} AND type = CAST(:type AS TEXT)", _texts(agent=agent, type=type)


def _require_type(type: str) -> None:
    """Raise UsageError unless it is one of the five types.

    What reads asks only when it found nothing: other programs may use other types.
    """
    if type not in TYPES:
        raise UsageError(f"there is no type '{type}'", f"use {', '.join(TYPES)}")


def _expiry(expires_in: float | timedelta | None, *, now: datetime) -> str | None:
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


def _to_json(document: object) -> str:
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


def _refuse_constant(name: str) -> NoReturn:
    """Read JSON as the service does, which knows no NaN and no Infinity."""
    raise ValueError(name)
