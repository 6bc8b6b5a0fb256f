"""Apply erasures and redactions to a copy of a database that no other program uses.

A backup that lacks a tombstone was made before the erasure, so everything that has the name goes,
whatever time it has. Then the whole file is written anew: free pages have older remains.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection
from typing import NamedTuple

from memctl.errors import counted
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.backup_copy import ROLLBACK_JOURNAL, opened_backup, require_sound
from memctl.storage.sqlite.database import HEADER_VERSIONS, open_database, table_exists, transaction
from memctl.storage.sqlite.erasable import Erasable
from memctl.storage.sqlite.erasing_text import ErasedText
from memctl.storage.sqlite.files import Draft
from memctl.storage.sqlite.named_rows import all_names
from memctl.storage.sqlite.overwriting import delete_securely
from memctl.storage.sqlite.redacting import (
    names_with_redactions,
    preview_redaction,
    redact_memories,
)
from memctl.storage.sqlite.steps import statements_in
from memctl.storage.sqlite.tombstones import (
    OBJECTS,
    STEP_WITH_TOMBSTONES,
    TABLE,
    add_tombstones,
    read_tombstones,
)
from memctl.storage.sqlite.unfinished_erasure import mark_finished, read_unfinished
from memctl.storage.sqlite.vacuum import vacuum
from memctl.storage.tombstones import Name, Tombstone, Tombstones


class Erased(NamedTuple):
    """What must not be in a copy."""

    tombstones: Sequence[Tombstone]
    text: ErasedText | None = None
    keep_knowledge: bool = False


@dataclass
class Cleansed:
    """What was removed from a copy, or would be."""

    memories: int = 0
    rows: Counter[str] = field(default_factory=Counter)  # deleted or blanked, by table
    redacted: Counter[str] = field(default_factory=Counter)  # in which a text was replaced

    @property
    def total(self) -> int:
        """The number of rows."""
        return self.rows.total() + self.redacted.total()

    def __str__(self) -> str:
        found = [counted(self.memories, "memory")] if self.memories else []
        return ", ".join([*found, counted(self.total, "row")])


def missing_tombstones(copy: Connection, tombstones: Iterable[Tombstone]) -> list[Tombstone]:
    """Return the tombstones that a copy lacks; reads only."""
    present = set(read_tombstones(copy))
    return [tombstone for tombstone in tombstones if tombstone not in present]


def has_remains(copy: Connection) -> bool:
    """Return whether a copy was made before an erasure had overwritten the bytes; reads only."""
    return table_exists(copy, "memory_state") and read_unfinished(copy) is not None


def preview_cleansing(copy: Connection, erased: Erased, *, now: datetime) -> Cleansed:
    """Return what `cleanse` would remove; reads only."""
    recognized = Tombstones(erased.tombstones)
    found = _erasable(copy, recognized, erased, now=now)
    cleansed = Cleansed(len(found.names), found.preview().places)
    for name in names_with_redactions(copy, recognized):
        if name not in found.rows.found:
            redaction = preview_redaction(copy, name, _finder(recognized, name))
            cleansed.redacted.update(redaction.places)
    return cleansed


def cleanse(copy: Connection, erased: Erased, *, now: datetime) -> Cleansed:
    """Remove from a copy what was erased, replace what was redacted, and add the tombstones.

    Raises RefusedError if a hold contains the text.
    """
    delete_securely(copy)
    recognized = Tombstones(erased.tombstones)
    found = _erasable(copy, recognized, erased, now=now)
    with transaction(copy):
        own = read_tombstones(copy)
        removal = found.remove()
        redaction = redact_memories(copy, recognized, now=now)
        if has_remains(copy):
            mark_finished(copy)
        _create_table(copy)
        # Those that the removal has added have another time than the erasure.
        copy.execute(f"DELETE FROM {TABLE}")
        add_tombstones(copy, [*own, *erased.tombstones])
    vacuum(copy)
    return Cleansed(len(found.names), removal.places, redaction.places)


def cleanse_into(
    draft: Draft,
    file: Path,
    erased: Erased,
    *,
    finish: Callable[[Connection], None] = lambda _copy: None,
    now: datetime,
    progress: Progress = NO_PROGRESS,
) -> Cleansed:
    """Fill a draft with a copy of a closed database file, without what was erased, and check it.

    `finish` is called with the copy before it is checked.

    Raises the errors of `cleanse`, OSError, and MemctlError if the draft is damaged or another file
    has replaced it.
    """
    progress.phase("copying")
    with file.open("rb") as source, os.fdopen(draft.descriptor, "wb", closefd=False) as target:
        shutil.copyfileobj(source, target)
    os.pwrite(draft.descriptor, ROLLBACK_JOURNAL, HEADER_VERSIONS)
    progress.phase("removing what was erased")
    with open_database(draft.path) as copy:
        draft.require_opened()
        copy.execute("PRAGMA journal_mode = MEMORY")  # a killed process leaves no journal
        cleansed = cleanse(copy, erased, now=now)
        finish(copy)
    progress.phase("checking the copy")
    with opened_backup(draft.path) as sound:
        require_sound(sound, "the copy of the backup")
    return cleansed


def _erasable(
    copy: Connection, recognized: Tombstones, erased: Erased, *, now: datetime
) -> Erasable:
    """Return what is to be removed from a copy."""
    names = {name for name in all_names(copy) if recognized.has("erased", name)}
    return Erasable(copy, names, erased.text, keep_knowledge=erased.keep_knowledge, now=now)


def _finder(recognized: Tombstones, name: Name) -> Callable[[bytes], Collection[bytes]]:
    return lambda content: recognized.secrets_in(name, content)


def _create_table(copy: Connection) -> None:
    """Create the table of tombstones, as its step does, in a copy of an earlier step."""
    if table_exists(copy, TABLE):
        return
    step = next(step for step in migrations.available() if step.version == STEP_WITH_TOMBSTONES)
    for statement in statements_in(step.up):
        if any(f"IF NOT EXISTS {name} " in statement for name in OBJECTS):
            copy.execute(statement)
