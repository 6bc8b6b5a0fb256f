"""The second half of an import: a staged document becomes part of the database.

A row that is there already, the same in every column, is left alone. One whose id, or agent, type
and key, belong to something else there, active or archived, is in conflict, and the whole import
says by one rule which of the two stays. What has to go is archived.

What to do with each row is found out without a lock first, for a preview and for what refuses the
import. Rows are then written in batches, and each batch decides once more, in its transaction.
"""

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from memctl.documents.conflicts import (
    AMONG,
    IS_TAKEN_IN,
    TAKEN_IN,
    Conflicts,
    ImportConflict,
    in_document,
)
from memctl.documents.document import (
    ACTIVE,
    ARCHIVED,
    PROBLEMS_SHOWN,
    PROMOTIONS,
    DocumentSection,
    refuse_document,
)
from memctl.documents.row_rules import SECTION_OF_ROW, UNKNOWN_TYPE, problems_of_rows
from memctl.errors import RefusedError
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.tally import JobTally
from memctl.storage.sqlite.archiving import archive_replaced, give_up_ids
from memctl.storage.sqlite.database import temporary_tables
from memctl.storage.sqlite.events import Table, record_events
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.times import is_before, to_unix

# Rows that hold the write lock for two to three seconds when they are written at once: the service
# has patience for five. To replace one takes three to five times as long as to insert one.
MANY_ROWS = 200_000
ROWS_AT_ONCE = 5000  # of the first look


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
    foreign_ids: int  # of the memories that were skipped
    expired: int
    unknown_types: int

    @property
    def warning(self) -> str | None:
        """What was skipped, and why."""
        if not self.active.skipped + self.archived.skipped + self.promotions.skipped:
            return None
        foreign = f"; with the id of another agent's memory: {self.foreign_ids}"
        return (
            f"skipped because the database has another version: {self.active.skipped} active, "
            f"{self.archived.skipped} archived, {self.promotions.skipped} promotions"
            f"{foreign if self.foreign_ids else ''}"
        )

    @property
    def counts(self) -> dict[str, object]:
        """The counts by section."""
        return {
            name: value._asdict() if isinstance(value, Fates) else value
            for name, value in super().counts.items()
        }


EXPIRED = f"archived_reason IS NULL AND {is_before('expires_at', ':now')}"

REPLACED = """
    SELECT DISTINCT stored_row FROM rivals JOIN fates ON fates.row = incoming_row
    WHERE place = 'active' AND fate = 'replaced'
    ORDER BY stored_row
"""

# What was replaced keeps everything but its id, which is that of its successor now.
REPLACED_IN_ARCHIVE = f"""
    id IN (SELECT id FROM decided_incoming WHERE row {AMONG} AND fate = 'replaced')
    AND NOT {in_document("archived_memories")}
"""

TO_TAKE_IN = f"decided_incoming WHERE row {AMONG} AND {TAKEN_IN} AND {{condition}}"

TAKE_IN = f"""
    INSERT INTO {{table}} ({{columns}})
    SELECT {{columns}} FROM {TO_TAKE_IN}
    ORDER BY row
    RETURNING rowid
"""

TAKE_IN_PROMOTIONS = f"""
    INSERT OR REPLACE INTO memory_promotions ({", ".join(PROMOTIONS.columns)})
    SELECT {", ".join(PROMOTIONS.columns)} FROM decided_incoming_promotions
    WHERE row {AMONG} AND {TAKEN_IN}
"""


def import_staged(
    run: JobContext, *, on_conflict: ImportConflict, allow_invalid: bool, atomic: bool = False
) -> ImportResult:
    """Make what `stage` has laid out part of the database, in batches or `atomic`.

    Where rows are in conflict `fail` refuses the import, `skip` keeps what is stored, `replace`
    takes what the document has, and `newest` what was written last: the later created_at (which
    every write renews), then the later last_accessed, and of equals what is stored.

    Raises DocumentError when that rule is `fail` and there are conflicts, when an id belongs to
    another agent and the rule is not `skip`, and for rows to be taken in that break a rule of
    `row_rules`, unless these are allowed; RefusedError for so many rows at once that the lock would
    be held for long, unless the run is forced. When such a thing arises after the first
    batches, these stay: the result counts what was done and its refusal tells why it ended.
    """
    with temporary_tables(run.db):
        return _Import(run, on_conflict, allow_invalid=allow_invalid, atomic=atomic).carry_out()


class _Import:
    """One import: what it decides and does."""

    def __init__(
        self, run: JobContext, on_conflict: ImportConflict, *, allow_invalid: bool, atomic: bool
    ) -> None:
        self._run = run
        self._db = run.db
        self._on_conflict: ImportConflict = on_conflict
        self._allow_invalid = allow_invalid
        self._atomic = atomic
        suffix = None if run.run_id is None else f"~{run.run_id}"
        self._conflicts = Conflicts(run.db, on_conflict, suffix=suffix)

    def carry_out(self) -> ImportResult:
        """Look at all rows without a lock, then write what is to be written."""
        for rows in _portions(self._conflicts.all_rows()):
            self._conflicts.decide(rows)
        self._refuse_conflicts("nothing was changed")
        if not self._allow_invalid:
            self._refuse_invalid()
        if self._atomic and not self._run.request.force:
            self._refuse_many()
        refusal = self._write_all() if self._run.batches else None
        return self._result(refusal)

    def _refuse_conflicts(self, outcome: str, *, rows: str | None = None) -> None:
        """Refuse the import for what became of its rows, or a batch for what became of these."""
        if self._on_conflict == "skip":
            return
        refuse_document(
            self._problems(
                "fate = 'foreign'", ", id: is that of another agent's memory here", rows
            ),
            f"--on-conflict skip leaves such rows out; {outcome}",
        )
        if self._on_conflict == "fail":
            other = " is here in another version"
            refuse_document(
                self._problems("fate = 'skipped'", other, rows)
                + self._problems("fate = 'skipped'", other, rows, table="incoming_promotions"),
                f"choose --on-conflict skip, replace or newest; {outcome}",
            )

    def _refuse_invalid(self) -> None:
        refuse_document(
            problems_of_rows(self._db, IS_TAKEN_IN),
            "--allow-invalid imports such rows as they are; nothing was changed",
        )

    def _refuse_many(self) -> None:
        inserted = self._count("decided_incoming WHERE fate = 'inserted'")
        replaced = self._count("decided_incoming WHERE fate = 'replaced'")
        if inserted + 3 * replaced > MANY_ROWS:
            raise RefusedError(
                f"writing {inserted + replaced} memories at once would hold the write lock for "
                "seconds, and its other users would fail meanwhile",
                "leave out --atomic, or stop them and use --force",
            )

    def _problems(
        self, condition: str, problem: str, rows: str | None, *, table: str = "incoming"
    ) -> list[str]:
        """Say what is wrong with the rows, of these or of all, for which a condition is true."""
        among = "TRUE" if rows is None else f"row {AMONG}"
        found = self._db.execute(
            f"SELECT {SECTION_OF_ROW[table]}, number FROM decided_{table}"
            f" WHERE {among} AND {condition} LIMIT {PROBLEMS_SHOWN + 1}",
            {"now": to_unix(self._run.now), "rows": rows},
        )
        return [f"{name} row {number}{problem}" for name, number in found]

    def _write_all(self) -> RefusedError | None:
        """Write in batches, or all at once; returns what ended it before all was written."""
        to_write = self._conflicts.rows_to_write()
        written = 0
        outcome = "what was imported before stays, and importing again brings the rest"

        def write(rows: str) -> None:
            nonlocal written
            self._conflicts.decide(rows)
            self._refuse_conflicts("nothing was changed" if self._atomic else outcome, rows=rows)
            self._write(rows)
            written += len(json.loads(rows))

        try:
            self._run.apply(to_write, write, at_once=self._atomic)
        except RefusedError as error:
            for rows in _portions(to_write[written:]):
                self._conflicts.forget(rows)
            return error
        return None

    def _write(self, rows: str) -> None:
        """Archive what these rows replace, and take them in; the write lock is held."""
        db, run = self._db, self._run
        replaced = [row for (row,) in db.execute(REPLACED)]
        archive_replaced(db, replaced, now=run.now, run_id=run.number)
        self._take_in(ACTIVE, "agent_memory", "archived_reason IS NULL", rows)
        self._take_in(ARCHIVED, "archived_memories", "archived_reason IS NOT NULL", rows)
        db.execute(TAKE_IN_PROMOTIONS, {"rows": rows})
        give_up_ids(db, REPLACED_IN_ARCHIVE, {"rows": rows}, run_id=run.number)

    def _take_in(self, section: DocumentSection, table: Table, condition: str, rows: str) -> None:
        """Write those of the rows that belong to a section, and record an event of each."""
        statement = TAKE_IN.format(
            table=table, columns=", ".join(section.columns), condition=condition
        )
        query = f"SELECT count(*) FROM {TO_TAKE_IN.format(condition=condition)}"
        (due,) = self._db.execute(query, {"rows": rows}).fetchone()
        rowids = [row for (row,) in self._db.execute(statement, {"rows": rows})]
        told = record_events(
            self._db,
            "memory:imported",
            table,
            json.dumps(rowids),
            now=self._run.now,
            run_id=self._run.number,
            detail={"archived": True} if section is ARCHIVED else None,
        )
        require_equal_counts(self._db, due=due, imported=len(rowids), recorded=told)

    def _result(self, refusal: RefusedError | None) -> ImportResult:
        tally = JobTally()
        tally.count = self._count(f"decided_incoming WHERE {TAKEN_IN}")
        tally.remaining = self._count("decided_incoming WHERE fate IS NULL")
        agents = f"SELECT agent_id, count(*) FROM decided_incoming WHERE {TAKEN_IN} GROUP BY 1"
        tally.agents.update(dict(self._db.execute(agents)))
        return ImportResult(
            tally=tally,
            refusal=refusal,
            at_once=self._atomic,
            active=self._fates("decided_incoming WHERE archived_reason IS NULL"),
            archived=self._fates("decided_incoming WHERE archived_reason IS NOT NULL"),
            promotions=self._fates("decided_incoming_promotions WHERE TRUE"),
            foreign_ids=self._count("decided_incoming WHERE fate = 'foreign'"),
            expired=self._count(f"decided_incoming WHERE {TAKEN_IN} AND {EXPIRED}"),
            unknown_types=self._count(f"decided_incoming WHERE {TAKEN_IN} AND {UNKNOWN_TYPE}"),
        )

    def _fates(self, rows: str) -> Fates:
        """Count rows by their fate; that of another agent is skipped, too."""
        counted = self._db.execute(
            "SELECT iif(fate = 'foreign', 'skipped', fate) AS became, count(*)"
            f" FROM {rows} AND fate IS NOT NULL GROUP BY became"
        )
        return Fates(**dict(counted))

    def _count(self, rows: str) -> int:
        counted = self._db.execute(f"SELECT count(*) FROM {rows}", {"now": to_unix(self._run.now)})
        return int(counted.fetchone()[0])


def _portions(rows: "array[int]") -> Iterator[str]:
    """Yield the numbers of rows, some at a time, as JSON arrays."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield json.dumps(rows[start : start + ROWS_AT_ONCE].tolist())
