"""The second half of an import: write a staged document into the database.

A row that is stored already, identical in every column, is left alone. A row whose id, or agent,
type and key, belong to another row in the database, active or archived, is in conflict; one rule
for the whole import decides which of the two is kept. Replaced memories are archived.

All rows are first decided on without a lock, for the preview and for the checks that refuse the
import. They are then written in batches; each batch decides on its rows again, in its transaction.
"""

import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from memctl.documents.document import PROBLEMS_SHOWN, refuse_document
from memctl.errors import RefusedError, counted
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.tally import JobTally
from memctl.storage.batches import Batches, BatchRows
from memctl.storage.sqlite.archiving import archive_replaced
from memctl.storage.sqlite.conflicts import Conflicts, ImportConflict
from memctl.storage.sqlite.database import temporary_tables
from memctl.storage.sqlite.erased_rows import count_dropped
from memctl.storage.sqlite.imported_holds import count_hold_decisions, write_holds
from memctl.storage.sqlite.imports import (
    DocumentRow,
    count_by_agent,
    count_decisions,
    count_expired,
    count_unknown_types,
    give_up_replaced_ids,
    invalid_values,
    replaced_rows,
    rows_decided,
    write_memories,
    write_promotions,
)
from memctl.storage.sqlite.redacted_again import count_redacted
from memctl.storage.sqlite.sections import ACTIVE, ARCHIVED, PROMOTIONS

# Writing this many rows in one transaction holds the write lock for two to three seconds; the
# service waits for five. To replace a row takes three to five times as long as to insert one.
MANY_ROWS = 200_000
ROWS_AT_ONCE = 5000  # decided on before the first batch

# What `--lossy` replaces, by kind.
LOSSES = {
    "nul": "texts with NUL",
    "invalid_utf8": "texts in invalid UTF-8",
    "blobs": "BLOBs",
    "numbers": "values that are no numbers",
    "times": "unreadable or impossible times",
    "ids": "missing ids",
    "holds": "holds",
}


class RowCounts(NamedTuple):
    """How many rows of one section were treated in which way."""

    inserted: int = 0
    unchanged: int = 0
    skipped: int = 0
    replaced: int = 0
    held: int = 0  # not written because what they would replace is held


@dataclass(frozen=True, kw_only=True)
class ImportResult(JobResult):
    """How many rows of each section were imported, and how many memories need attention."""

    active: RowCounts
    archived: RowCounts
    promotions: RowCounts
    holds: RowCounts
    foreign_ids: int  # skipped memories with the id of another agent's memory
    expired: int  # imported memories that have expired
    unknown_types: int  # imported memories of unknown types
    redacted: int  # memories of the document with a text that was redacted in the database
    erased: int = 0  # rows that were not imported because they were erased from the database
    replaced_values: Mapping[str, int] | None = None  # of the document, by kind; None: not lossy

    @property
    def warning(self) -> str | None:
        """The rows that were skipped."""
        parts = []
        if self.active.skipped + self.archived.skipped + self.promotions.skipped:
            parts.append(
                f"skipped because the database has another version: {self.active.skipped} active, "
                f"{self.archived.skipped} archived, {self.promotions.skipped} promotions"
            )
        if self.foreign_ids:
            parts.append(f"with the id of another agent's memory: {self.foreign_ids}")
        if self.active.held + self.archived.held:
            parts.append(
                "not replaced because the memory in the database is held:"
                f" {self.active.held} active, {self.archived.held} archived"
            )
        if self.holds.skipped:
            parts.append(f"holds with another end or reason in the database: {self.holds.skipped}")
        lost = {name: count for name, count in (self.replaced_values or {}).items() if count}
        if lost:
            found = ", ".join(f"{LOSSES[name]} ({count:,})" for name, count in lost.items())
            parts.append(f"replaced because PostgreSQL cannot store them: {found}")
        return "; ".join(parts) or None

    @property
    def counts(self) -> dict[str, object]:
        """The counts by section."""
        return {
            name: value._asdict() if isinstance(value, RowCounts) else value
            for name, value in super().counts.items()
            if value is not None
        }

    @property
    def totals(self) -> dict[str, int]:
        """The numbers of memories, for both sections together."""
        return {
            "imported": self.active.inserted + self.archived.inserted,
            "active": self.active.inserted,
            "archived": self.archived.inserted,
            "replaced": self.active.replaced + self.archived.replaced,
            "skipped": self.active.skipped + self.archived.skipped,
            "unchanged": self.active.unchanged + self.archived.unchanged,
        }

    @property
    def remark(self) -> str | None:
        """How many of the imported memories have expired."""
        return f"{self.expired:,} already expired" if self.expired else None


def import_staged(
    run: JobContext, *, on_conflict: ImportConflict, allow_invalid: bool, atomic: bool = False
) -> ImportResult:
    """Write the staged rows into the database, in batches or in one transaction (`atomic`).

    Of rows in conflict, `fail` refuses the import, `skip` keeps the stored one, `replace` takes the
    one from the document, and `newest` keeps the one written last: the one with the later
    created_at (which every write renews), then the later last_accessed, else the stored one.

    Raises DocumentError for conflicts if the rule is `fail`, for an id of another agent's memory
    unless it is `skip`, and for rows that break a rule of `row_rules` unless these are allowed;
    RefusedError for an atomic import of many rows, which would hold the lock for long, unless
    forced. If such an error occurs after the first batch, the earlier batches are kept, and the
    result contains the error as its refusal.
    """
    with temporary_tables(run.store.documents.db):
        return _Import(run, on_conflict, allow_invalid=allow_invalid, atomic=atomic).run()


class _Import:
    """One import."""

    def __init__(
        self, run: JobContext, on_conflict: ImportConflict, *, allow_invalid: bool, atomic: bool
    ) -> None:
        self._run = run
        self._documents = run.store.documents
        self._db = self._documents.db
        self._on_conflict: ImportConflict = on_conflict
        self._allow_invalid = allow_invalid
        self._atomic = atomic
        self._documents.copy_rivals(run.batches, run_id=run.run_id)
        self._conflicts = Conflicts(
            self._db,
            on_conflict,
            suffix=None if run.run_id is None else f"~{run.run_id}",
            ids_per_agent=self._documents.ids_per_agent,
            now=run.now,
        )
        self._holds = count_hold_decisions(self._db, now=run.now)

    def run(self) -> ImportResult:
        """Decide on all rows without a lock, then write them."""
        rows_to_compare = self._conflicts.all_rows()
        self._run.request.progress.phase("comparing", total=len(rows_to_compare))
        for rows in _portions(rows_to_compare):
            self._conflicts.decide(rows)
            self._run.request.progress.advance(rows.count(",") + 1)
            if self._run.batches:
                self._run.batches.keep()
        self._refuse_conflicts("nothing was changed")
        if not self._allow_invalid:
            self._refuse_invalid()
        if self._atomic and not self._run.request.force:
            self._refuse_many()
        erased = sum(count_dropped(self._db).values())
        refusal = self._write_all(self._run.batches) if self._run.batches else None
        return self._result(refusal or _erased(erased), erased)

    def _refuse_conflicts(self, outcome: str, *, among: str | None = None) -> None:
        """Raise DocumentError if the rule refuses any row, of all or of those in `among`."""
        if self._on_conflict == "skip":
            return
        limit = PROBLEMS_SHOWN + 1
        foreign = rows_decided(self._db, "incoming", "foreign", among=among, limit=limit)
        refuse_document(
            _problems(foreign, ", id: belongs to another agent's memory in the database"),
            f"use --on-conflict skip to leave out such rows; {outcome}",
        )
        if self._on_conflict == "fail":
            differing = [
                *rows_decided(self._db, "incoming", "skipped", among=among, limit=limit),
                *rows_decided(self._db, "incoming_promotions", "skipped", among=among, limit=limit),
            ]
            refuse_document(
                _problems(differing, ": the database has another version"),
                f"use --on-conflict skip, replace or newest; {outcome}",
            )

    def _refuse_invalid(self) -> None:
        found = invalid_values(self._db, limit=PROBLEMS_SHOWN + 1)
        refuse_document(
            [f"{one.section} row {one.row}, {one.column}: {one.problem}" for one in found],
            "use --allow-invalid to import such rows unchanged; nothing was changed",
        )

    def _refuse_many(self) -> None:
        memories = count_decisions(self._db, ACTIVE) + count_decisions(self._db, ARCHIVED)
        inserted, replaced = memories["inserted"], memories["replaced"]
        if inserted + 3 * replaced > MANY_ROWS:
            raise RefusedError(
                f"writing {inserted + replaced} memories in one transaction would hold"
                f" {self._documents.locks} for seconds, and other programs would fail to write",
                "omit --atomic, or stop the other programs and use --force",
            )

    def _write_all(self, batches: Batches) -> RefusedError | None:
        """Write all rows; return the error that ended the import before all were written."""
        to_write = self._conflicts.rows_to_write()
        written: set[int] = set()
        outcome = "earlier batches are kept; import the document again to complete it"

        def write(batch: BatchRows) -> str:
            rows = self._documents.lock_rivals(batch)
            self._conflicts.decide(rows)
            self._refuse_conflicts("nothing was changed" if self._atomic else outcome, among=rows)
            with self._documents.changes(batch):
                self._write(rows)
            return rows

        def note(rows: str) -> None:
            written.update(json.loads(rows))

        try:
            found = self._documents.found_rows(to_write)
            batches.apply(found, write, doing="writing", after=note, at_once=self._atomic)
            if self._holds["inserted"] and not (self._atomic and to_write):
                batches.apply_at_once(self._write_holds)
        except RefusedError as error:
            left = array("q", (row for row in to_write if row not in written))
            for rows in _portions(left):
                self._conflicts.withdraw(rows)
            return error
        return None

    def _write(self, rows: str) -> None:
        """Archive the memories that these rows replace, and write the rows, in a transaction."""
        db, run = self._db, self._run
        archive_replaced(db, replaced_rows(db), now=run.now, run_id=run.run_id)
        for section in (ACTIVE, ARCHIVED):
            write_memories(db, section, rows, now=run.now, run_id=run.run_id)
        write_promotions(db, rows)
        give_up_replaced_ids(db, rows, run_id=run.run_id)
        if self._atomic and self._holds["inserted"]:
            self._write_holds()

    def _write_holds(self) -> None:
        write_holds(self._db, now=self._run.now, run_id=self._run.run_id)

    def _result(self, refusal: RefusedError | None, erased: int) -> ImportResult:
        active = count_decisions(self._db, ACTIVE)
        archived = count_decisions(self._db, ARCHIVED)
        memories = active + archived
        tally = JobTally()
        tally.count = memories["inserted"] + memories["replaced"]
        tally.remaining = memories[None]
        tally.agents.update(count_by_agent(self._db))
        redacted = count_redacted(self._db)
        return ImportResult(
            tally=tally,
            refusal=refusal or (_redacted_error(redacted) if redacted else None),
            held_at_once=self._documents.locks if self._atomic else None,
            active=_row_counts(active),
            archived=_row_counts(archived),
            promotions=_row_counts(count_decisions(self._db, PROMOTIONS)),
            holds=_row_counts(self._holds),
            foreign_ids=memories["foreign"],
            expired=count_expired(self._db, now=self._run.now),
            unknown_types=count_unknown_types(self._db),
            redacted=redacted,
            erased=erased,
            replaced_values=self._documents.replaced_values,
        )


def _redacted_error(memories: int) -> RefusedError:
    return RefusedError(
        "the document contains texts that were redacted in the database, in"
        f" {counted(memories, 'memory')}; they are replaced by [redacted]",
        "delete the document, or export again",
    )


def _erased(count: int) -> RefusedError | None:
    """Return the refusal of rows that were erased."""
    if not count:
        return None
    rows, is_left = ("row was", "is") if count == 1 else ("rows were", "are")
    return RefusedError(
        f"{count:,} {rows} erased from this database and {is_left} left out; all others are"
        " imported",
        "delete the document, or export again",
    )


def _row_counts(decisions: Counter[str | None]) -> RowCounts:
    """Return the counts for the result; rows with another agent's id count as skipped."""
    return RowCounts(
        inserted=decisions["inserted"],
        unchanged=decisions["unchanged"],
        skipped=decisions["skipped"] + decisions["foreign"],
        replaced=decisions["replaced"],
        held=decisions["held"],
    )


def _problems(rows: list[DocumentRow], problem: str) -> list[str]:
    return [f"{row.section} row {row.number}{problem}" for row in rows]


def _portions(rows: "array[int]") -> Iterator[str]:
    """Yield the numbers of rows in portions, as JSON arrays."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield json.dumps(rows[start : start + ROWS_AT_ONCE].tolist())
