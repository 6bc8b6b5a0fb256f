"""The second half of an import: a staged document becomes part of the database, all of it at once.

A row that is there already, the same in every column, is left alone. One whose id, or agent, type
and key, belong to something else there, active or archived, is in conflict, and the whole import
says by one rule which of the two stays. What has to go is archived. What to do is found out
without a lock, and only what others have written meanwhile is looked at again under it.
"""

import json
from dataclasses import dataclass
from typing import NamedTuple

from memctl.archive import archive_rows
from memctl.conflicts import OnConflict, decide, look_again, prepare_decision
from memctl.database import data_version, temporary_tables
from memctl.document import (
    ACTIVE,
    ARCHIVED,
    PROBLEMS_SHOWN,
    PROMOTIONS,
    Section,
    refuse_document,
)
from memctl.due import Tally
from memctl.errors import RefusedError
from memctl.events import Table, record_events
from memctl.jobs import JobResult, Run
from memctl.migrations import require_current, require_equal_counts
from memctl.row_rules import SECTION_OF_ROW, UNKNOWN_TYPE, problems_of_rows
from memctl.timestamps import is_before, to_unix

# Rows that hold the write lock for two to three seconds: the service has patience for five. To
# replace one takes three to five times as long as to insert one.
MANY_ROWS = 200_000


class Fates(NamedTuple):
    """What became of the rows of one section."""

    inserted: int = 0
    unchanged: int = 0
    skipped: int = 0
    replaced: int = 0


@dataclass(frozen=True, kw_only=True)
class ImportResult(JobResult):
    """What became of the rows of each section, and how many of those imported stand out."""

    active: Fates
    archived: Fates
    promotions: Fates
    expired: int
    unknown_types: int

    @property
    def counts(self) -> dict[str, object]:
        """The counts by section."""
        return {
            name: value._asdict() if isinstance(value, Fates) else value
            for name, value in super().counts.items()
        }


TAKEN_IN = "fate IN ('inserted', 'replaced')"

EXPIRED = f"archived_reason IS NULL AND {is_before('expires_at', ':now')}"

REPLACED = """
    SELECT DISTINCT stored_row FROM rivals JOIN incoming ON incoming.rowid = incoming_row
    WHERE place = 'active' AND fate = 'replaced'
    ORDER BY stored_row
"""

# What was replaced keeps everything but its id, which is that of its successor now.
RENAME_REPLACED = """
    UPDATE archived_memories SET id = id || :suffix
    WHERE id IN (SELECT id FROM incoming WHERE fate = 'replaced')
        AND archive_id NOT IN (SELECT archive_id FROM known_in_archive)
    RETURNING archive_id
"""

TAKE_IN = """
    INSERT INTO {table} ({columns})
    SELECT {columns} FROM incoming
    WHERE fate IN ('inserted', 'replaced') AND {condition}
    ORDER BY incoming.rowid
    RETURNING rowid
"""

TAKE_IN_PROMOTIONS = f"""
    INSERT OR REPLACE INTO memory_promotions ({", ".join(PROMOTIONS.columns)})
    SELECT {", ".join(PROMOTIONS.columns)} FROM incoming_promotions WHERE {TAKEN_IN}
"""

IN_BOTH = """
    SELECT 1 FROM agent_memory
    WHERE id IN (
        SELECT id FROM archived_memories
        WHERE archive_id IN (SELECT value FROM json_each(:rowids))
    )
"""


def import_staged(run: Run, *, on_conflict: OnConflict, allow_invalid: bool) -> ImportResult:
    """Make what `stage` has laid out part of the database, in one transaction.

    Where rows are in conflict `fail` refuses the import, `skip` keeps what is stored, `replace`
    takes what the document has, and `newest` what was written last: the later created_at (which
    every write renews), then the later last_accessed, and of equals what is stored.

    Raises DocumentError when that rule is `fail` and there are conflicts, when an id belongs to
    another agent and the rule is not `skip`, and for rows to be taken in that break a rule of
    `row_rules`, unless these are allowed; RefusedError for so many rows that the lock would be
    held for long, unless the run is forced.
    """
    with temporary_tables(run.db):
        return _Import(run, on_conflict, allow_invalid=allow_invalid).carry_out()


class _Import:
    """One import: what it decides and does."""

    def __init__(self, run: Run, on_conflict: OnConflict, *, allow_invalid: bool) -> None:
        self._run = run
        self._db = run.db
        self._on_conflict: OnConflict = on_conflict
        self._allow_invalid = allow_invalid

    def carry_out(self) -> ImportResult:
        """Decide without a lock, then write under it."""
        version = data_version(self._db)
        newest = prepare_decision(self._db)
        self._decide()
        inserted = self._count("incoming WHERE fate = 'inserted'")
        replaced = self._count("incoming WHERE fate = 'replaced'")
        if inserted + 3 * replaced > MANY_ROWS and not self._run.request.force:
            raise RefusedError(
                f"writing {inserted + replaced} memories at once would hold the write lock for "
                "seconds, and its other users would fail meanwhile",
                "import one agent at a time, or say --force when they are stopped",
            )
        rows = inserted + replaced + self._count(f"incoming_promotions WHERE {TAKEN_IN}")

        def write() -> None:
            if data_version(self._db) != version:
                require_current(self._db)
                look_again(self._db, newest=newest)
                self._decide()
            self._write()

        if self._run.batches and rows:
            self._run.batches.apply_at_once(write)
        return self._result()

    def _decide(self) -> None:
        """Give every incoming row its fate, and refuse the import if some must not have it."""
        decide(self._db, self._on_conflict)
        self._refuse_conflicts()
        if not self._allow_invalid:
            self._refuse_invalid()

    def _refuse_conflicts(self) -> None:
        if self._on_conflict == "skip":
            return
        refuse_document(
            self._problems(
                "rowid IN (SELECT incoming_row FROM rivals WHERE of_another_agent)",
                ", id: is that of another agent's memory here",
            ),
            "--on-conflict skip leaves such rows out; nothing was changed",
        )
        if self._on_conflict == "fail":
            other = " is here in another version"
            refuse_document(
                self._problems("fate = 'skipped'", other)
                + self._problems("fate = 'skipped'", other, table="incoming_promotions"),
                "choose --on-conflict skip, replace or newest; nothing was changed",
            )

    def _refuse_invalid(self) -> None:
        refuse_document(
            problems_of_rows(self._db, TAKEN_IN),
            "--allow-invalid imports such rows as they are; nothing was changed",
        )

    def _problems(self, condition: str, problem: str, *, table: str = "incoming") -> list[str]:
        """Say what is wrong with the rows for which a condition is true."""
        rows = self._db.execute(
            f"SELECT {SECTION_OF_ROW[table]}, number FROM {table} WHERE {condition}"
            f" LIMIT {PROBLEMS_SHOWN + 1}",
            {"now": to_unix(self._run.now)},
        )
        return [f"{name} row {number}{problem}" for name, number in rows]

    def _write(self) -> None:
        """Archive what is replaced, and take in what is new; the write lock is held."""
        db, run = self._db, self._run
        replaced = [row for (row,) in db.execute(REPLACED)]
        if replaced:
            archive_rows(
                db,
                json.dumps(replaced),
                event="memory:archived",
                reason="replaced",
                now=run.now,
                run_id=run.number,
            )
        renamed = db.execute(RENAME_REPLACED, {"suffix": f"~{run.number}"}).fetchall()
        self._take_in(ACTIVE, "agent_memory", "archived_reason IS NULL")
        self._take_in(ARCHIVED, "archived_memories", "archived_reason IS NOT NULL")
        db.execute(TAKE_IN_PROMOTIONS)
        if db.execute(IN_BOTH, {"rowids": json.dumps([row for (row,) in renamed])}).fetchone():
            raise RefusedError(
                f"a memory already has the id of another with '~{run.number}' appended",
                "import again, which will append another number; nothing was changed",
            )

    def _take_in(self, section: Section, table: Table, condition: str) -> None:
        """Write the rows of a section, and tell of each."""
        statement = TAKE_IN.format(
            table=table, columns=", ".join(section.columns), condition=condition
        )
        rowids = [row for (row,) in self._db.execute(statement)]
        told = record_events(
            self._db,
            "memory:imported",
            table,
            json.dumps(rowids),
            now=self._run.now,
            run_id=self._run.number,
        )
        require_equal_counts(self._db, imported=len(rowids), recorded=told)

    def _result(self) -> ImportResult:
        tally = Tally()
        tally.count = self._count(f"incoming WHERE {TAKEN_IN}")
        tally.agents.update(
            dict(
                self._db.execute(
                    f"SELECT agent_id, count(*) FROM incoming WHERE {TAKEN_IN} GROUP BY agent_id"
                )
            )
        )
        return ImportResult(
            tally=tally,
            active=self._fates("incoming WHERE archived_reason IS NULL"),
            archived=self._fates("incoming WHERE archived_reason IS NOT NULL"),
            promotions=self._fates("incoming_promotions"),
            expired=self._count(f"incoming WHERE {TAKEN_IN} AND {EXPIRED}"),
            unknown_types=self._count(f"incoming WHERE {TAKEN_IN} AND {UNKNOWN_TYPE}"),
        )

    def _fates(self, rows: str) -> Fates:
        return Fates(**dict(self._db.execute(f"SELECT fate, count(*) FROM {rows} GROUP BY fate")))

    def _count(self, rows: str) -> int:
        counted = self._db.execute(f"SELECT count(*) FROM {rows}", {"now": to_unix(self._run.now)})
        return int(counted.fetchone()[0])
