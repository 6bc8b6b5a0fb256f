"""The copies of the database when something is erased or redacted: rewritten on request, or listed.

A copy is rewritten without everything for which the database has a tombstone and the copy has none.
"""

import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from memctl.errors import RefusedError, counted
from memctl.jobs.engine import JobContext
from memctl.storage.erasure import ErasureFilter, Removal
from memctl.storage.sqlite.cleansing import Erased
from memctl.storage.sqlite.copies_of import CopyOfDatabase, copies_beside, named_copies
from memctl.storage.sqlite.erasing_text import text_of
from memctl.storage.sqlite.files import remove_drafts
from memctl.storage.sqlite.restore_backup import draft_of_restore
from memctl.storage.sqlite.rewriting import ErasedInDatabase, rewrite_copies
from memctl.storage.sqlite.rewriting import RewrittenCopy as RewrittenCopy
from memctl.storage.sqlite.tombstones import read_tombstones
from memctl.storage.times import to_unix
from memctl.storage.tombstones import SALT_BYTES, Tombstone, hash_name


class CopyChoice(NamedTuple):
    """The copies to rewrite: all beside the database, and named ones."""

    beside: bool = False
    files: Sequence[Path] = ()

    def __bool__(self) -> bool:
        return self.beside or bool(self.files)


NO_COPIES = CopyChoice()
NOT_CHOSEN = "not selected by --backups or --backup"


class Copies:
    """The copies of the database in a run, chosen before anything is changed."""

    def __init__(self, run: JobContext, choice: CopyChoice) -> None:
        """Find the copies. Raises RefusedError for a named one that is of another database."""
        self._run = run
        database = run.request.file
        beside = copies_beside(run.store.sqlite, database, now=run.now)
        named = named_copies(run.store.sqlite, database, choice.files, now=run.now)
        known = {copy.path for copy in named}
        others = [copy for copy in beside if copy.path not in known]
        self._chosen: list[CopyOfDatabase] = [*named, *(others if choice.beside else [])]
        self._others = [] if choice.beside else others

    def rewrite(
        self,
        which: ErasureFilter | None = None,
        removal: Removal | None = None,
        redactions: Sequence[Tombstone] = (),
    ) -> list[RewrittenCopy]:
        """Rewrite the chosen copies, or in a dry run, return what would be done with them.

        What the present run has removed is removed from copies that have its tombstones, too. If
        a text was erased, everything in the copies that contains it is. `redactions` are those that
        a dry run would add.
        """
        run = self._run
        if run.batches is not None:
            self._remove_drafts()
        known = read_tombstones(run.store.sqlite)
        keep_knowledge = which is not None and which.keep_knowledge
        erased = ErasedInDatabase(
            Erased(known, text_of(which), keep_knowledge),
            self._of_this_run(removal, known) if removal else redactions,
        )
        done = rewrite_copies(
            self._chosen,
            erased,
            now=run.now,
            dry_run=run.batches is None,
            progress=run.request.progress,
        )
        return [*done, *(RewrittenCopy(copy.path, "left", NOT_CHOSEN) for copy in self._others)]

    def _remove_drafts(self) -> None:
        """Remove the drafts of killed restores and rewrites, which may contain what was erased."""
        files = [Path(copy.path) for copy in (*self._chosen, *self._others)]
        for file in (draft_of_restore(self._run.request.file), *files):
            with suppress(OSError):  # that of a rewrite is reported
                remove_drafts(file)

    def _of_this_run(self, removal: Removal, known: Sequence[Tombstone]) -> list[Tombstone]:
        """Return the tombstones of this run; in a dry run, those of the names."""
        if self._run.batches is None:
            salt, now = os.urandom(SALT_BYTES), to_unix(self._run.now)
            return [
                Tombstone("erased", now, salt, hash_name(salt, name)) for name in removal.listed
            ]
        names = set(removal.fingerprints)
        return [tombstone for tombstone in known if tombstone.name_hash.hex() in names]


def was_chosen(copy: RewrittenCopy) -> bool:
    """Return whether a copy was to be rewritten."""
    return copy.reason != NOT_CHOSEN


def refusal_of_left(copies: Collection[RewrittenCopy]) -> RefusedError | None:
    """Return the error for chosen copies that could not be rewritten; None if all were."""
    left = [copy for copy in copies if copy.action == "left" and was_chosen(copy)]
    if not left:
        return None
    return RefusedError(
        f"{counted(len(left), 'backup')} may still contain what was removed:"
        f" {Path(left[0].path).name} was not rewritten: {left[0].reason}",
        "remove the cause, name it with --backup if it is of this database, or delete it; then run"
        " `memctl erase --continue --backups`",
    )
