"""Replace a secret in a memory by a marker, in every version and in all that came from it.

The memory keeps its id, times and importance. The bytes of the text are overwritten in the files,
and a tombstone keeps it from coming back. A redaction that was interrupted is completed by the same
command: what it has replaced by then is known by its tombstone.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from memctl.errors import NotFoundError, RefusedError, UsageError
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.knowledge import content_hash
from memctl.jobs.tally import JobTally
from memctl.storage.fragments import Fragments
from memctl.storage.redaction import LEAST_BYTES, MARKER, finder, forms_of
from memctl.storage.secrets import Detector
from memctl.storage.sqlite.agents import require_agent, require_ids
from memctl.storage.sqlite.backup import begin_manifest
from memctl.storage.sqlite.backup_list import list_backups
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.identity import present_identity
from memctl.storage.sqlite.named_rows import RowsByName
from memctl.storage.sqlite.overwriting import Overwritten, delete_securely, overwrite
from memctl.storage.sqlite.raw_files import RawFiles
from memctl.storage.sqlite.redacting import (
    MEMORY_TABLES,
    Redaction,
    add_redaction_tombstones,
    columns_with,
    is_known,
    names_of_ids,
    preview_redaction,
    record_redaction,
    redact_memory,
    require_no_hold,
    texts_of_memory,
    was_redacted,
)
from memctl.storage.sqlite.tombstones import salt_of
from memctl.storage.text import from_bytes, to_bytes
from memctl.storage.tombstones import Name, hash_secret

READERS_WAIT = 10.0  # seconds, for programs that read an old state of the database

USE_ERASE = "use `memctl erase` to remove the whole memory; nothing was changed"


class RedactionTarget(NamedTuple):
    """The memories to redact: those of an agent with these ids, or the one with a type and key."""

    agent: str
    ids: Sequence[str] = ()
    type: str | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class RedactResult(JobResult):
    """How many versions of memories were changed, and what became of the bytes in the files."""

    redacted: int
    occurrences: int
    places: Mapping[str, int]  # rows that were changed, by table
    free_pages: int = 0  # that were overwritten
    bytes_checked: int = 0
    remains: Mapping[str, int]  # parts of the text that are still in a file, by file
    backups: Sequence[str]  # copies of the database that may have the text
    salt: str = ""
    fingerprints: Sequence[str] = ()  # HMAC-SHA256 of each form of the text, with the salt

    @property
    def counts(self) -> dict[str, object]:
        """The counts, without what only a receipt has."""
        counts = super().counts
        del counts["salt"], counts["fingerprints"]
        return counts

    @property
    def warning(self) -> str | None:
        """The copies of the database."""
        if not self.backups:
            return None
        more = f" and {len(self.backups) - 1} more" if len(self.backups) > 1 else ""
        return f"backups may contain the text: {self.backups[0]}{more}"


class _Work(NamedTuple):
    """What is to be replaced in one memory."""

    name: Name
    texts: Collection[bytes]  # in every form
    known: Collection[bytes]  # what a tombstone remembers even if it was not found
    was_redacted: bool  # and perhaps not overwritten

    def columns(self, db: Connection) -> set[str]:
        """Return the columns of the memory that contain a text and cannot be changed."""
        return columns_with(db, self.name, finder(self.texts))


def redact(
    run: JobContext,
    files: RawFiles,
    target: RedactionTarget,
    *,
    text: str | None = None,
    detector: Detector | None = None,
) -> RedactResult:
    """Replace a text, or what a detector finds, in memories.

    `files` stay open until the connection is closed. Raises NotFoundError if there is no such
    memory, or it does not contain the text; RefusedError if the memory is held, or its name
    contains the text; UsageError for a text that cannot be redacted.
    """
    db = run.store.sqlite
    works = [_work(db, name, text, detector) for name in _names(db, target)]
    rows = RowsByName(db, [work.name for work in works])
    for work in works:
        require_no_hold(db, rows.found[work.name], now=run.now)
        if work.columns(db):
            raise RefusedError(
                f"the name or another column of a memory of '{target.agent}' contains the text,"
                " which can only be redacted in a value and in metadata",
                USE_ERASE,
            )
    redaction = Redaction()
    for work in works:
        redaction.add(preview_redaction(db, work.name, finder(work.texts)))
    if not redaction.places and not any(work.was_redacted for work in works):
        raise NotFoundError(
            "the memory does not contain the text"
            if text is not None
            else "nothing in the memory looks like a secret",
            "see `memctl check --secrets`, or search without a part of it; nothing was changed",
        )
    if run.batches is None:
        return _result(run, redaction, target.agent)
    delete_securely(db)
    redaction = Redaction()
    for work in works:
        run.batches.apply_at_once(partial(_redact, run, work, rows, redaction))
    searched = redaction.texts.union(*(work.known for work in works))
    spool = run.request.watch.spool
    done = overwrite(
        db,
        run.request.database,
        Fragments(searched),
        files,
        run.batches,
        always_vacuum=not searched,
        wait=READERS_WAIT,
        more_files=[spool] if spool else [],
    )
    return _result(run, redaction, target.agent, done, searched)


def _names(db: Connection, target: RedactionTarget) -> list[Name]:
    """Return the memories to redact. Raises NotFoundError for one that does not exist."""
    agent, ids, type_, key = target
    if bool(ids) == (type_ is not None and key is not None) or (type_ is None) != (key is None):
        raise UsageError(
            "specify either ids, or --type and --key", "memctl redact AGENT --type T --key K …"
        )
    if ids:
        require_agent(db, agent)
        require_ids(db, agent, ids)
        return names_of_ids(db, agent, ids)
    name = Name(agent, type_, key)
    if not is_known(db, name):
        require_agent(db, agent)
        raise NotFoundError(
            f"agent '{agent}' has no {type_} '{key}'",
            "names are case-sensitive; nothing was changed",
        )
    return [name]


def _work(db: Connection, name: Name, text: str | None, detector: Detector | None) -> _Work:
    if text is not None:
        forms = forms_of(text)
        return _Work(name, forms, [to_bytes(text)], was_redacted(db, name, forms))
    if detector is None:
        raise AssertionError("neither a text nor a detector")
    found = [secret for texts in texts_of_memory(db, name) for secret in detector.find(texts)]
    if any(secret.found_in == "key" for secret in found):
        raise RefusedError(
            f"the key of a memory of '{from_bytes(to_bytes(str(name.agent_id)))}' looks like it"
            " contains a secret, which can only be redacted in a value and in metadata",
            USE_ERASE,
        )
    contents: set[bytes] = set()
    for secret in found:
        contents |= _forms_of_secret(secret.content)
    return _Work(name, sorted(contents), [], was_redacted(db, name, None))


def _forms_of_secret(content: bytes) -> set[bytes]:
    """Return the bytes of a secret, and those without the escapes of JSON, if it may have any."""
    forms = {content}
    with suppress(ValueError, UsageError):
        forms |= set(forms_of(json.loads(b'"%b"' % content)))
    return {form for form in forms if len(form) >= LEAST_BYTES and form not in MARKER}


def _redact(run: JobContext, work: _Work, rows: RowsByName, done: Redaction) -> None:
    """Redact one memory, in a transaction."""
    db = run.store.sqlite
    redaction, changed = redact_memory(
        db, work.name, rows, finder(work.texts), content_hash=content_hash, now=run.now
    )
    record_redaction(db, changed, now=run.now, run_id=run.run_id)
    add_redaction_tombstones(db, work.name, {*work.known, *redaction.texts}, now=run.now)
    done.add(redaction)


def _result(
    run: JobContext,
    redaction: Redaction,
    agent: str,
    done: Overwritten | None = None,
    texts: Collection[bytes] = (),
) -> RedactResult:
    db = run.store.sqlite
    salt = salt_of(db)
    tally = JobTally()
    tally.count = sum(redaction.places[table] for table in MEMORY_TABLES)
    tally.agents[agent] = tally.count
    refusal = None
    if done and not done.is_clean:
        where = ", ".join(sorted(done.remains)) or "the write-ahead log"
        refusal = RefusedError(
            f"the text was replaced, but parts of it are still in {where}",
            "end the programs that read the database, then run the same command again",
        )
    return RedactResult(
        tally=tally,
        refusal=refusal,
        redacted=tally.count,
        occurrences=redaction.occurrences,
        places=dict(sorted(redaction.places.items())),
        free_pages=done.free_pages if done else 0,
        bytes_checked=done.bytes_checked if done else 0,
        remains=dict(done.remains) if done else {},
        backups=_copies(db, run.request.database, now=run.now),
        salt=salt.hex(),
        fingerprints=sorted(hash_secret(salt, text).hex() for text in texts),
    )


def _copies(db: Connection, database: Path, *, now: datetime) -> list[str]:
    """Return the backups beside the database that are, or may be, of this database."""
    path = database.resolve()
    identity = present_identity(db, path)
    this = begin_manifest(path, path, owner=identity.id if identity else None, now=now)
    return [
        copy.path
        for copy in list_backups(path.parent, this)
        if copy.verified != "missing"
        and (
            copy.this_database
            or (copy.this_database is None and copy.file.startswith(f"{path.name}."))
        )
    ]
