"""The table of the knowledge base on a server; SQLite's rules change copies of its entries.

The table belongs to another product, as on SQLite: a table of its name with other columns is
refused. Its entries are locked and copied again before they are changed.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from memctl.errors import RefusedError
from memctl.storage.knowledge import EntryChange, KnowledgeEntry, KnownEntry
from memctl.storage.postgresql.copied_tables import KNOWLEDGE
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.working_copy import WorkingCopy
from memctl.storage.sqlite.knowledge import SqliteKnowledgeBase

# Without indexes: the owner creates them under names of its own and fails if they already exist.
CREATE_KNOWLEDGE_BASE = """
    CREATE TABLE knowledge_entries (
        id                  text COLLATE "C" PRIMARY KEY,
        type                text COLLATE "C" NOT NULL
                            CHECK (type IN ('gotcha', 'pattern', 'decision')),
        content             text COLLATE "C" NOT NULL,
        file_patterns       text COLLATE "C",
        action_types        text COLLATE "C",
        tags                text COLLATE "C",
        confidence          double precision NOT NULL DEFAULT 0.5
                            CHECK (confidence >= 0 AND confidence <= 1),
        occurrences         bigint DEFAULT 1,
        source_execution_id text COLLATE "C",
        source_task_id      text COLLATE "C",
        source_agent_id     text COLLATE "C" NOT NULL,
        created_at          timestamptz DEFAULT date_trunc('second', now()),
        updated_at          timestamptz DEFAULT date_trunc('second', now()),
        last_used_at        timestamptz,
        superseded_by       text COLLATE "C"
    )
"""

FIND_TABLE = """
    SELECT relkind::text FROM pg_class WHERE oid = to_regclass('knowledge_entries')
"""

FIND_COLUMNS = """
    SELECT attname,
        CASE WHEN atttypid = 'timestamptz'::regtype THEN 'timestamptz'
            ELSE format_type(atttypid, NULL)
        END
    FROM pg_attribute
    WHERE attrelid = to_regclass('knowledge_entries') AND attnum > 0 AND NOT attisdropped
"""

FIND_KEY = """
    SELECT attname
    FROM pg_index
    JOIN pg_attribute
        ON attrelid = indrelid AND attnum = ANY(indkey)
    WHERE indrelid = to_regclass('knowledge_entries') AND indisprimary
"""


class PostgresKnowledgeBase:
    """The entries that memories become; see `storage.promotion.KnowledgeBase`."""

    def __init__(self, db: Database, copy: WorkingCopy) -> None:
        self._db = db
        self._copy = copy
        self._copied = SqliteKnowledgeBase(copy.db)

    def exists(self) -> bool:
        kind = self._db.value(FIND_TABLE)
        if kind is None:
            return False
        columns = dict(self._db.rows(FIND_COLUMNS))
        keys = [name for (name,) in self._db.rows(FIND_KEY)]
        difference = _difference(kind, columns, keys)
        if difference:
            raise RefusedError(
                f"knowledge_entries does not have the expected definition: {difference}",
                "it belongs to another product, and promote cannot use it; nothing was changed",
            )
        return True

    def create(self) -> None:
        self._db.execute(CREATE_KNOWLEDGE_BASE)

    def entries(self) -> Iterator[KnownEntry]:
        return self._copied.entries()

    def content_of(self, number: int, *, agent: str) -> str | None:
        self._lock(number)
        return self._copied.content_of(number, agent=agent)

    def content_if_it_holds(self, number: int) -> str | None:
        self._lock(number)
        return self._copied.content_if_it_holds(number)

    def read(self, number: int) -> EntryChange:
        return self._copied.read(number)

    def add(self, entry: KnowledgeEntry, *, memory: int) -> EntryChange:
        return self._copied.add(entry, memory=memory)

    def confirm(self, number: int, *, gain: float, now: datetime) -> EntryChange:
        return self._copied.confirm(number, gain=gain, now=now)

    def supersede(self, number: int, *, by: EntryChange, now: datetime) -> EntryChange:
        return self._copied.supersede(number, by=by, now=now)

    def link(
        self,
        memory: int,
        *,
        entry_id: str,
        content_hash: str,
        detail: Mapping[str, object],
        now: datetime,
        run_id: int | None,
    ) -> None:
        self._copied.link(
            memory,
            entry_id=entry_id,
            content_hash=content_hash,
            detail=detail,
            now=now,
            run_id=run_id,
        )

    def _lock(self, number: int) -> None:
        """Lock an entry and copy it again."""
        found = self._copy.db.execute("SELECT id FROM knowledge_entries WHERE rowid = ?", (number,))
        self._copy.lock_entries([entry_id for (entry_id,) in found.fetchall()])


def _difference(kind: str, columns: Mapping[str, str], keys: list[str]) -> str | None:
    """Return how the table differs from the known one; None if it does not."""
    if kind != "r":
        return "it is not an ordinary table"
    for column in sorted({*KNOWLEDGE.columns} ^ {*columns}):
        return f"it {'lacks' if column in KNOWLEDGE.columns else 'has'} the column {column}"
    for column, found in columns.items():
        if found != KNOWLEDGE.type_of(column):
            return f"the type of its column {column} is {found}, not {KNOWLEDGE.type_of(column)}"
    return None if keys == ["id"] else "its primary key is not id"
