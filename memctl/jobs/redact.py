"""Replace a secret in a memory by a marker, in every version and in all that came from it.

The memory keeps its id, times and importance. The bytes of the text are overwritten in the files,
and a tombstone keeps it from coming back. A redaction that was interrupted is completed by the same
command: what it has replaced by then is known by its tombstone.
"""

import json
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from memctl.errors import NotFoundError, RefusedError, UsageError
from memctl.jobs.copies import NO_COPIES, Copies, CopyChoice, RewrittenCopy, refusal_of_left
from memctl.jobs.engine import JobContext
from memctl.jobs.remains import ResultWithRemains, refusal_of_remains
from memctl.jobs.tally import JobTally
from memctl.storage.erasure import Overwritten
from memctl.storage.fragments import LEAST, Fragments
from memctl.storage.redaction import MARKER, finder, forms_of
from memctl.storage.secrets import Detector
from memctl.storage.spool import overwrite_spool
from memctl.storage.sqlite.agents import require_agent, require_ids
from memctl.storage.sqlite.database import Connection, transaction
from memctl.storage.sqlite.erasing import blank_runs, runs_with
from memctl.storage.sqlite.named_rows import RowsByName
from memctl.storage.sqlite.overwriting import delete_securely, overwrite
from memctl.storage.sqlite.raw_files import RawFiles
from memctl.storage.sqlite.redactable import (
    columns_with,
    is_known,
    names_of_ids,
    require_no_hold,
    texts_of_memory,
    was_redacted,
)
from memctl.storage.sqlite.redacting import (
    ChangedRows,
    Redaction,
    old_places,
    preview_redaction,
    promotion_hashes,
    record_redaction,
    redact_memory,
    redact_places,
    redaction_tombstones,
)
from memctl.storage.sqlite.tombstones import add_tombstones, salt_of
from memctl.storage.sqlite.unfinished_erasure import mark_finished, mark_unfinished, read_unfinished
from memctl.storage.text import to_bytes
from memctl.storage.tombstones import SALT_BYTES, Name, hash_secret

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Batches

USE_ERASE = "use `memctl erase` to remove the whole memory; nothing was changed"


class RedactionTarget(NamedTuple):
    """The memories to redact: those of an agent with these ids, or the one with a type and key."""

    agent: str
    ids: Sequence[str] = ()
    type: str | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class RedactResult(ResultWithRemains):
    """What was replaced, and what is left."""

    redaction: Redaction
    fingerprints: Sequence[str] = ()  # of the texts, salted

    @property
    def counts(self) -> dict[str, object]:
        """The numbers for the ledger."""
        return {
            "redacted": self.redaction.memories,
            "occurrences": self.redaction.occurrences,
            "rows": self.redaction.places.total(),
        }


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
    chosen: CopyChoice = NO_COPIES,
) -> RedactResult:
    """Replace a text, or what a detector finds, in memories.

    `files` stay open until the connection is closed. The chosen copies of the database are
    rewritten. Raises NotFoundError if there is no such memory, or it does not contain the text;
    RefusedError if the memory is held, or its name contains the text; UsageError for a text that
    cannot be redacted.
    """
    db = run.store.sqlite
    copies = Copies(run, chosen)
    works = [_work(db, name, text, detector) for name in _names(db, target)]
    rows = RowsByName(db, [work.name for work in works])
    for work in works:
        require_no_hold(db, rows.found[work.name], now=run.now)
        if work.columns(db):
            raise RefusedError(
                "the name or another column of a memory contains the text, which can only be"
                " redacted in the value and the metadata",
                USE_ERASE,
            )
    previews = [preview_redaction(db, work.name, finder(work.texts)) for work in works]
    was_pending = read_unfinished(db) is not None
    if not (
        any(found.places for found in previews)
        or was_pending
        or any(work.was_redacted for work in works)
    ):
        raise NotFoundError(
            "the memory does not contain the text"
            if text is not None
            else "nothing in the memory looks like a secret",
            "see `memctl check --secrets`, or search without a part of it; nothing was changed",
        )
    if run.batches is None:
        salt = os.urandom(SALT_BYTES)
        marks = [
            mark
            for work in works
            for mark in redaction_tombstones(salt, work.name, work.texts, now=run.now)
        ]
        return _result(previews, target.agent, copies=copies.rewrite(redactions=marks))
    delete_securely(db)
    run.batches.apply_at_once(partial(_begin, run, works, previews))
    done = [_redact(run, run.batches, work, rows) for work in works]
    texts = Fragments(
        {text for redaction in done for text in redaction.texts}.union(
            *(work.known for work in works)
        )
    )
    blanked = Redaction()
    run.batches.apply(runs_with(db, texts), partial(_blank, db, blanked), doing="redacting")
    with transaction(db):
        mark_unfinished(db, is_removed=True, now=run.now)
    overwritten = _overwrite(run, run.batches, files, texts, was_pending=was_pending)
    salt = salt_of(db)
    return _result(
        [*done, blanked],
        target.agent,
        copies=copies.rewrite(),
        overwritten=overwritten,
        fingerprints=sorted(hash_secret(salt, text).hex() for text in texts.texts),
    )


def _overwrite(
    run: JobContext, batches: "Batches", files: RawFiles, texts: Fragments, *, was_pending: bool
) -> Overwritten:
    """Overwrite what is left of the texts in the files; what an interrupted run has left, too."""
    db, spool = run.store.sqlite, run.request.watch.spool
    if spool is not None:
        overwrite_spool(spool, texts)
    done = overwrite(
        db,
        run.request.file,
        texts,
        files,
        batches,
        always_vacuum=was_pending,
        wait=run.request.lock_wait,
        force=run.request.force,
        more_files=[] if spool is None else [spool],
    )
    if done.is_clean:
        with transaction(db):
            mark_finished(db)
    return done


def _blank(db: Connection, redaction: Redaction, runs: str) -> None:
    """Blank the errors of runs that contain a text."""
    if blanked := blank_runs(db, json.loads(runs)):
        redaction.places["memory_runs"] += blanked


def _names(db: Connection, target: RedactionTarget) -> list[Name]:
    """Return the memories to redact. Raises NotFoundError for one that does not exist."""
    agent, ids, type_, key = target
    if bool(ids) == (type_ is not None and key is not None) or (type_ is None) != (key is None):
        raise UsageError(
            "exactly one of ids and --type with --key is required", "see `memctl redact --help`"
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
            "the key of a memory looks like it contains a secret, which can only be redacted in"
            " the value and the metadata",
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
    return {form for form in forms if len(form) >= LEAST and form not in MARKER}


def _begin(run: JobContext, works: Sequence[_Work], previews: Sequence[Redaction]) -> None:
    """Add the tombstones, and the mark of an unfinished redaction, in a transaction."""
    db = run.store.sqlite
    mark_unfinished(db, is_removed=False, now=run.now)
    salt = salt_of(db)
    for work, found in zip(works, previews, strict=True):
        texts = {*work.known, *found.texts}
        add_tombstones(db, redaction_tombstones(salt, work.name, texts, now=run.now))


def _redact(run: JobContext, batches: "Batches", work: _Work, rows: RowsByName) -> Redaction:
    """Redact one memory: what no other program changes in batches, then the rest at once."""
    db, name, find = run.store.sqlite, work.name, finder(work.texts)
    done = Redaction()
    old = old_places(db, name, rows.found[name])
    hashes = promotion_hashes(db, name, rows.found[name], find)

    def note(result: tuple[Redaction, ChangedRows]) -> None:
        redaction, changed = result
        record_redaction(db, changed, now=run.now, run_id=run.run_id)
        done.add(redaction)

    def redact_old(numbers: str) -> None:
        places = [old[number] for number in json.loads(numbers)]
        note(redact_places(db, places, find, now=run.now))

    def redact_rest() -> None:
        note(redact_memory(db, name, rows, find, hashes=hashes, now=run.now, done=set(old)))

    batches.apply(range(len(old)), redact_old, doing="redacting")
    batches.apply_at_once(redact_rest)
    return done


def _result(
    redactions: Sequence[Redaction],
    agent: str,
    *,
    copies: Sequence[RewrittenCopy],
    overwritten: Overwritten | None = None,
    fingerprints: Sequence[str] = (),
) -> RedactResult:
    redaction = Redaction()
    for one in redactions:
        redaction.add(one)
    tally = JobTally()
    tally.count = redaction.memories
    tally.agents[agent] = tally.count
    refusal = None
    if overwritten:
        refusal = refusal_of_remains(overwritten, removed="the text was replaced", of_it="of it")
    return RedactResult(
        tally=tally,
        refusal=refusal or refusal_of_left(copies),
        redaction=redaction,
        overwritten=overwritten,
        fingerprints=fingerprints,
        copies=copies,
    )
