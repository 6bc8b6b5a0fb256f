"""Rewriting copies of a database without what was erased from it.

The new file replaces the old one by a rename. Before that, the manifest is written with the
checksums of both, and afterwards with that of the new one: whenever memctl is killed, the file that
is there agrees with its manifest. A draft that is left is removed by the next call.
"""

import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import Literal, NamedTuple

from memctl.errors import MemctlError
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.sqlite.backup import describe, find_manifest
from memctl.storage.sqlite.backup_copy import opened_backup, require_sound
from memctl.storage.sqlite.cleansing import (
    Cleansed,
    Erased,
    cleanse_into,
    has_remains,
    missing_tombstones,
    preview_cleansing,
)
from memctl.storage.sqlite.copies_of import CopyOfDatabase
from memctl.storage.sqlite.database import table_exists
from memctl.storage.sqlite.files import remove_drafts, whole_file
from memctl.storage.sqlite.manifests import Manifest, manifest_path, to_document
from memctl.storage.tombstones import Tombstone


class ErasedInDatabase(NamedTuple):
    """What was erased in the database of some copies."""

    all: Erased  # of its tombstones, those that a copy has are done
    again: Sequence[Tombstone] = ()  # of this erasure, also if the copy has them

    def due(self, copy: Connection) -> Erased:
        """Return what is to be removed from a copy."""
        missing = missing_tombstones(copy, self.all.tombstones)
        again = [one for one in self.again if one not in missing]
        return self.all._replace(tombstones=[*missing, *again])


@dataclass(frozen=True)
class RewrittenCopy:
    """What was, or would be, done with a copy."""

    path: str
    action: Literal["rewritten", "unchanged", "left"]
    reason: str | None = None  # why it was left
    removed: Cleansed = field(default_factory=Cleansed)


def rewrite_copies(
    copies: Sequence[CopyOfDatabase],
    erased: ErasedInDatabase,
    *,
    now: datetime,
    dry_run: bool = False,
    progress: Progress = NO_PROGRESS,
) -> list[RewrittenCopy]:
    """Rewrite copies, and return what became of each. The caller holds memctl's lock.

    One that cannot be rewritten is left as it is, with the reason.
    """
    done = []
    for copy in copies:
        try:
            if copy.left_because:
                done.append(RewrittenCopy(copy.path, "left", copy.left_because))
            elif dry_run:
                done.append(_preview(Path(copy.path), erased, now=now))
            else:
                done.append(
                    rewrite_copy(
                        Path(copy.path),
                        erased,
                        now=now,
                        progress=progress,
                    )
                )
        except MemctlError as error:
            done.append(RewrittenCopy(copy.path, "left", error.message))
        except OSError as error:
            reason = f"it cannot be written ({error.strerror})"
            done.append(RewrittenCopy(copy.path, "left", reason))
    return done


def rewrite_copy(
    file: Path,
    erased: ErasedInDatabase,
    *,
    now: datetime,
    progress: Progress = NO_PROGRESS,
) -> RewrittenCopy:
    """Rewrite a copy that is not in use. Raises MemctlError and OSError; then it is as before."""
    progress.phase("checking a backup")
    remove_drafts(file)
    remove_drafts(manifest_path(file))
    described = find_manifest(file)
    due = _due(file, erased)
    if due is None:
        if described:
            _settle(file, described[1])
        return RewrittenCopy(str(file), "unchanged")
    mode = stat.S_IMODE(file.stat().st_mode)
    with whole_file(file, owner_of=file, mode=mode) as draft:
        removed = cleanse_into(
            draft,
            file,
            due,
            now=now,
            progress=progress,
        )
        if described:
            progress.phase("computing the checksum")
            note, old = described
            new = replace(
                describe(draft.path, old), file=file.name, next_sha256=None, next_size_bytes=None
            )
            both = replace(
                _as_it_is(file, old), next_sha256=new.sha256, next_size_bytes=new.size_bytes
            )
            _write_manifest(file, both)
            if note != manifest_path(file) and not note.with_suffix("").exists():
                note.unlink()  # that of the name that the backup had before
    if described:
        _write_manifest(file, new)
    return RewrittenCopy(str(file), "rewritten", removed=removed)


def _preview(file: Path, erased: ErasedInDatabase, *, now: datetime) -> RewrittenCopy:
    find_manifest(file)
    due = _due(file, erased)
    if due is None:
        return RewrittenCopy(str(file), "unchanged")
    with opened_backup(file) as copy:
        removed = preview_cleansing(copy, due, now=now)
    return RewrittenCopy(str(file), "rewritten", removed=removed)


def _due(file: Path, erased: ErasedInDatabase) -> Erased | None:
    """Return what is to be removed from a copy; None if it need not be rewritten."""
    with opened_backup(file) as copy:
        require_sound(copy, f"the backup {file}")
        if not table_exists(copy, "agent_memory"):
            return None
        due = erased.due(copy)
        is_due = bool(due.tombstones or due.text) or has_remains(copy)
    return due if is_due else None


def _settle(file: Path, manifest: Manifest) -> None:
    """Complete the manifest of a copy that was replaced before memctl was killed."""
    if manifest.next_sha256 is not None:
        _write_manifest(file, _as_it_is(file, manifest))


def _as_it_is(file: Path, manifest: Manifest) -> Manifest:
    """Return the manifest of a copy as the file is, without one that would replace it."""
    return replace(describe(file, manifest), file=file.name, next_sha256=None, next_size_bytes=None)


def _write_manifest(file: Path, manifest: Manifest) -> None:
    with whole_file(manifest_path(file), owner_of=file) as draft:
        draft.write([to_document(manifest)])
