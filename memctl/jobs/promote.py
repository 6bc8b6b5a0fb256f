"""Promotion: a memory that has proved itself reaches the knowledge base, once.

The memory stays what it is. A link by agent, type and key tells which entry it became and with
what text: when it says something else one day, its entry is confirmed or superseded, and what
another agent has said already is confirmed instead of being entered twice.
"""

import json
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.jobs import entries
from memctl.jobs.candidates import (
    IS_CANDIDATE,
    JUDGED_MEMORIES,
    NO_ENTRIES,
    Candidates,
    find_candidates,
)
from memctl.jobs.decay import charge_ended_idle_times
from memctl.jobs.engine import Batch, JobResult, Run
from memctl.jobs.knowledge import Entry, Source, entry_of, hash_of
from memctl.jobs.similarity import Corpus, Words, are_alike, words_of
from memctl.storage.sqlite.agents import require_agent
from memctl.storage.sqlite.database import from_bytes, to_bytes
from memctl.storage.sqlite.events import record_events
from memctl.storage.sqlite.triggers import require_equal_counts
from memctl.storage.times import to_text

GAIN_FROM_ITSELF = 0.05  # a memory says its entry again in slightly other words
GAIN_FROM_ANOTHER = 0.10  # another agent has learnt the same

Outcome = Literal["promoted", "merged", "superseded"]

# Asks the conditions again: another memory may have the row by now.
READ_CANDIDATE = f"""
    SELECT CAST(memory.agent_id AS BLOB), memory.type, CAST(memory.key AS BLOB),
        CAST(memory.value AS BLOB), CAST(memory.metadata AS BLOB), candidate.judged,
        entry.rowid, CAST(entry.content AS BLOB), entry.superseded_by IS NULL
    FROM (
        SELECT rowid, judged
        FROM ({JUDGED_MEMORIES.replace("{where}", "WHERE rowid = :memory")})
        WHERE {IS_CANDIDATE}
    ) AS candidate
    JOIN agent_memory AS memory ON memory.rowid = candidate.rowid
    LEFT JOIN memory_promotions AS link ON link.agent_id = memory.agent_id
        AND link.type = memory.type AND link.key = memory.key
    LEFT JOIN {{entries}} AS entry ON entry.id = link.entry_id
"""

LINK_TO_ENTRY = """
    INSERT OR REPLACE INTO memory_promotions
        (agent_id, type, key, entry_id, content_hash, promoted_at)
    SELECT agent_id, type, key, CAST(:entry_id AS TEXT), :content_hash, :now
    FROM agent_memory
    WHERE rowid = :memory
"""

MARK_MEMORY = "UPDATE agent_memory SET promoted_at = :now WHERE rowid = :memory"

MARK_AGAIN = """
    UPDATE agent_memory
    SET promoted_at = (
        SELECT link.promoted_at FROM memory_promotions AS link
        WHERE link.agent_id = agent_memory.agent_id
            AND link.type = agent_memory.type AND link.key = agent_memory.key
    )
    WHERE rowid IN (SELECT value FROM json_each(:rowids))
"""


@dataclass(frozen=True, kw_only=True)
class PromoteResult(JobResult):
    """How many memories became new entries, confirmed one, or superseded their own."""

    promoted: int
    merged: int
    superseded: int


class Linked(NamedTuple):
    """The entry that a memory became earlier."""

    number: int
    content: str
    holds: bool  # it is not superseded


class Candidate(NamedTuple):
    """A memory whose text is to reach the knowledge base."""

    agent: str
    entry: Entry
    linked: Linked | None

    @classmethod
    def read(cls, row: tuple[Any, ...]) -> "Candidate":
        """Make sense of what READ_CANDIDATE returns."""
        agent, kind, key, value, metadata, importance, number, content, holds = row
        source = Source(
            agent=from_bytes(agent),
            type=kind,
            key=from_bytes(key),
            value=from_bytes(value),
            metadata=None if metadata is None else from_bytes(metadata),
            importance=importance,
        )
        linked = None if number is None else Linked(number, from_bytes(content), bool(holds))
        return cls(source.agent, entry_of(source), linked)


class Decision(NamedTuple):
    """What is to become of a candidate."""

    confirms: int | None  # the entry that says it already; None: it becomes a new one
    gain: float  # of confidence; 0: the entry stays as it is
    supersedes: int | None

    @property
    def outcome(self) -> Outcome:
        """The one word for it."""
        if self.supersedes is not None:
            return "superseded"
        return "promoted" if self.confirms is None else "merged"


def promote(
    run: Run, policy: PromotePolicy, decay: DecayPolicy, *, agent: str | None = None
) -> PromoteResult:
    """Bring the text of every candidate, of one agent or of all, into the knowledge base.

    Makes the knowledge base, where there is none, with the first entry. The `decay` policy tells
    the importance of candidates at the moment that counts. When memories are to be listed, the
    result lists all that were considered. Raises NotFoundError for an agent without
    any memory, and RefusedError when the knowledge base is none that memctl knows.
    """
    require_agent(run.db, agent)
    charge_ended_idle_times(run, decay, agent)
    candidates = find_candidates(run.db, policy, decay, agent=agent, now=run.now)
    considered = list(candidates.considered(run.db)) if run.request.listing else []
    due = candidates.not_promoted(run.db)
    promotion = Promotion(run, candidates)
    promotion.prepare(due.rowids(run.db))
    tally = run.settle(due, promotion.carry_out)
    if run.batches:
        run.settle(candidates.not_marked(run.db), lambda batch: mark_again(run, batch))
    tally.memories = [
        memory._replace(
            detail_names=(*memory.detail_names, "outcome"),
            details=(*memory.details, promotion.outcomes.get(memory.rowid)),
        )
        for memory in considered
    ]
    counts = Counter(promotion.outcomes.values())
    return PromoteResult(
        promoted=counts["promoted"],
        merged=counts["merged"],
        superseded=counts["superseded"],
        tally=tally,
    )


def mark_again(run: Run, batch: Batch) -> int:
    """Mark memories as promoted whose present text is in the knowledge base; returns how many."""
    return run.db.execute(MARK_AGAIN, {"rowids": batch.rowids}).rowcount


class Promotion:
    """Decides what becomes of candidates, and lets it happen; in a dry run, it only decides."""

    def __init__(self, run: Run, candidates: Candidates) -> None:
        self.outcomes: dict[int, Outcome] = {}  # by the row of the memory
        self._run = run
        self._query, self._parameters = candidates.query(run.db, READ_CANDIDATE)
        self._has_table = candidates.entries != NO_ENTRIES
        self._read_before: dict[int, tuple[tuple[Any, ...], Candidate]] = {}
        self._superseded: set[int] = set()
        self._corpora: defaultdict[str, Corpus] = defaultdict(Corpus)  # by type of entry
        self._entered: dict[tuple[str, str], int] = {}  # entries by their agent and hash of content

    def prepare(self, rowids: "array[int]") -> None:
        """Read and compare all there is; under the write lock little of it has to be done again."""
        if rowids and self._has_table:
            for known in entries.known_entries(self._run.db):
                self._entered.setdefault((known.agent, hash_of(known.content)), known.number)
                if known.holds:
                    words = words_of(known.content)
                    self._corpora[known.type].add(known.number, known.agent, words)
        for rowid in rowids:
            candidate = self._read(rowid)
            if candidate is not None:
                decision = self._decide(candidate)
                if self._run.batches is None:
                    self._note(rowid, candidate, decision, number=-1 - len(self.outcomes))

    def carry_out(self, batch: Batch) -> int:
        """Promote the memories of a batch, in its transaction, and return how many."""
        if not self._has_table:
            self._run.db.execute(entries.CREATE_TABLE)
            self._has_table = True
        for memory in batch.memories:
            self._promote(memory.rowid)
        return len(batch.memories)

    def _read(self, rowid: int) -> Candidate | None:
        parameters = {**self._parameters, "memory": rowid}
        row = self._run.db.execute(self._query, parameters).fetchone()
        if row is None:
            return None
        if rowid not in self._read_before or self._read_before[rowid][0] != row:
            self._read_before[rowid] = row, Candidate.read(row)
        return self._read_before[rowid][1]

    def _decide(self, candidate: Candidate) -> Decision:
        words = words_of(candidate.entry.content)
        linked = candidate.linked
        if linked and are_alike(words, words_of(linked.content)):
            return Decision(confirms=linked.number, gain=GAIN_FROM_ITSELF, supersedes=None)
        if linked is None and (entered := self._entered_before(candidate)) is not None:
            return Decision(confirms=entered, gain=0, supersedes=None)
        still_holds = linked and linked.holds and linked.number not in self._superseded
        return Decision(
            confirms=self._said_by_another(candidate, words),
            gain=GAIN_FROM_ANOTHER,
            supersedes=linked.number if linked and still_holds else None,
        )

    def _entered_before(self, candidate: Candidate) -> int | None:
        """Return the entry of the agent with the same text: a rollback has removed its link."""
        number = self._entered.get((candidate.agent, candidate.entry.content_hash))
        if number is None or self._run.batches is None:
            return number
        content = entries.content_of(self._run.db, number, agent=candidate.agent)
        return number if content == candidate.entry.content else None

    def _said_by_another(self, candidate: Candidate, words: Words) -> int | None:
        """Return the entry of another agent that says nearly the same, if it still does."""
        corpus = self._corpora[candidate.entry.type]
        while (number := corpus.most_alike(words, not_of=candidate.agent)) is not None:
            if self._run.batches is None:
                return number
            content = entries.content_if_it_holds(self._run.db, number)
            if content is not None and are_alike(words, words_of(content)):
                return number
            corpus.discard(number)
        return None

    def _promote(self, rowid: int) -> None:
        db, now = self._run.db, self._run.now
        candidate = self._read(rowid)
        if candidate is None:
            raise AssertionError(f"row {rowid} is due and not there")
        decision = self._decide(candidate)
        if decision.confirms is None:
            written = entries.add_entry(db, candidate.entry, memory=rowid)
        elif decision.gain:
            written = entries.confirm_entry(db, decision.confirms, gain=decision.gain, now=now)
        else:
            written = entries.read_entry(db, decision.confirms)
        detail = {
            "outcome": decision.outcome,
            "entry_id": written.id,
            "confidence": written.confidence,
        }
        if decision.supersedes is not None:
            old = entries.supersede_entry(db, decision.supersedes, by=written, now=now)
            detail["superseded_id"] = old.id
        parameters = {
            "memory": rowid,
            "entry_id": to_bytes(written.id),
            "content_hash": candidate.entry.content_hash,
            "now": to_text(now),
        }
        linked = db.execute(LINK_TO_ENTRY, parameters).rowcount
        marked = db.execute(MARK_MEMORY, parameters).rowcount
        told = record_events(
            db,
            "memory:promoted",
            "agent_memory",
            json.dumps([rowid]),
            now=now,
            run_id=self._run.number,
            detail=detail,
        )
        require_equal_counts(db, due=1, linked=linked, marked=marked, recorded=told)
        self._note(rowid, candidate, decision, number=written.number)

    def _note(self, rowid: int, candidate: Candidate, decision: Decision, *, number: int) -> None:
        """Remember what became of a memory, for those that come after it."""
        self.outcomes[rowid] = decision.outcome
        if decision.confirms is None:
            corpus = self._corpora[candidate.entry.type]
            corpus.add(number, candidate.agent, words_of(candidate.entry.content))
            self._entered.setdefault((candidate.agent, candidate.entry.content_hash), number)
        if decision.supersedes is not None:
            self._superseded.add(decision.supersedes)
            for corpus in self._corpora.values():
                corpus.discard(decision.supersedes)
