"""Promotion: the text of an important and often read memory is added to the knowledge base, once.

The memory itself stays. A link by agent, type and key records its entry and the hash of its text.
If the text changes, the entry is confirmed (by a similar text) or superseded. A text that is
similar to the entry of another agent confirms that entry instead of becoming a second one.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from memctl.config.policies import DecayPolicy, PromotePolicy
from memctl.jobs.candidates import find_candidates, list_considered
from memctl.jobs.engine import JobContext, JobResult
from memctl.jobs.knowledge import Source, entry_of
from memctl.jobs.similarity import Corpus, Words, are_alike, words_of
from memctl.storage.entry_text import hash_of
from memctl.storage.knowledge import CandidateRow, KnowledgeEntry
from memctl.storage.rows import AffectedMemory
from memctl.storage.text import from_bytes

if TYPE_CHECKING:  # importing the protocols would slow down every start
    from memctl.storage.store import Candidates

GAIN_FROM_ITSELF = 0.05  # the memory of the entry has a new, similar text
GAIN_FROM_ANOTHER = 0.10  # another agent has a similar text

PromotionOutcome = Literal["promoted", "merged", "superseded"]


@dataclass(frozen=True, kw_only=True)
class PromoteResult(JobResult):
    """How many memories became new entries, confirmed entries, or superseded their own entry."""

    promoted: int
    merged: int
    superseded: int


class LinkedEntry(NamedTuple):
    """The entry that a memory was promoted to earlier."""

    number: int
    content: str
    holds: bool  # not superseded


class Candidate(NamedTuple):
    """A memory to promote, and the entry that it becomes."""

    agent: str
    entry: KnowledgeEntry
    linked: LinkedEntry | None

    @classmethod
    def of_row(cls, row: CandidateRow) -> "Candidate":
        """Return the candidate that is stored in a row."""
        source = Source(
            agent=from_bytes(row.agent),
            type=row.type,
            key=from_bytes(row.key),
            value=from_bytes(row.value),
            metadata=None if row.metadata is None else from_bytes(row.metadata),
            importance=row.importance,
        )
        linked = None
        if row.entry_row is not None and row.entry_content is not None:
            content = from_bytes(row.entry_content)
            linked = LinkedEntry(row.entry_row, content, bool(row.entry_holds))
        return cls(source.agent, entry_of(source), linked)


class Decision(NamedTuple):
    """How a candidate is to be promoted."""

    confirms: int | None  # an existing entry; None: add a new one
    gain: float  # of confidence; 0: the entry stays unchanged
    supersedes: int | None

    @property
    def outcome(self) -> PromotionOutcome:
        """The name of the decision in results and events."""
        if self.supersedes is not None:
            return "superseded"
        return "promoted" if self.confirms is None else "merged"


def promote(
    run: JobContext, policy: PromotePolicy, decay: DecayPolicy, *, agent: str | None = None
) -> PromoteResult:
    """Promote the candidates of one agent or of all.

    Creates the knowledge base with the first entry if it does not exist. The `decay` policy
    determines the importance of candidates at the moment that counts. A listing contains all
    memories that were considered. Raises NotFoundError for an agent without memories, and
    RefusedError if the table of the knowledge base is not as expected.
    """
    run.store.require_agent(agent)
    if run.batches:
        run.store.charge_idle_times(run.batches, decay, agent=agent, now=run.now)
    has_knowledge = run.store.knowledge.exists()
    candidates = find_candidates(
        run.store, policy, decay, agent=agent, now=run.now, has_knowledge=has_knowledge
    )
    considered = list(list_considered(candidates, policy)) if run.request.listing else []
    promotion = Promotion(run, candidates, has_knowledge=has_knowledge)
    change = candidates.promotion(promotion.carry_out)
    promotion.prepare([memory.rowid for memory in change.memories()])
    tally = run.apply_in_batches(change, doing="promoting")
    if run.batches:
        run.apply_in_batches(candidates.marking(), doing="marking")
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


class Promotion:
    """Decides how to promote each candidate and does it; in a dry run, it only decides."""

    def __init__(self, run: JobContext, candidates: "Candidates", *, has_knowledge: bool) -> None:
        self.outcomes: dict[int, PromotionOutcome] = {}  # by the row of the memory
        self._run = run
        self._candidates = candidates
        self._knowledge = run.store.knowledge
        self._has_knowledge = has_knowledge
        self._read_before: dict[int, tuple[CandidateRow, Candidate]] = {}
        self._superseded: set[int] = set()
        self._corpora: defaultdict[str, Corpus] = defaultdict(Corpus)  # by type of entry
        self._entered: dict[tuple[str, str], int] = {}  # by agent and hash of the content

    def prepare(self, rowids: Sequence[int]) -> None:
        """Read and compare everything in advance, to hold the write lock only briefly later."""
        if rowids and self._has_knowledge:
            for known in self._knowledge.entries():
                self._entered.setdefault((known.agent, hash_of(known.content)), known.number)
                if known.holds:
                    words = words_of(known.content)
                    self._corpora[known.type].add(known.number, known.agent, words)
        progress = self._run.request.progress
        progress.phase("comparing", total=len(rowids))
        for rowid in rowids:
            progress.advance()
            if self._run.batches:
                self._run.batches.keep()
            candidate = self._read(rowid)
            if candidate is not None:
                decision = self._decide(candidate)
                if self._run.batches is None:
                    self._note(rowid, candidate, decision, number=-1 - len(self.outcomes))

    def carry_out(self, memories: Sequence[AffectedMemory]) -> None:
        """Promote the memories of a batch, in its transaction."""
        if not self._has_knowledge:
            self._knowledge.create()
            self._has_knowledge = True
        for memory in memories:
            self._promote(memory.rowid)

    def _read(self, rowid: int) -> Candidate | None:
        row = self._candidates.read(rowid)
        if row is None:
            return None
        if rowid not in self._read_before or self._read_before[rowid][0] != row:
            self._read_before[rowid] = row, Candidate.of_row(row)
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
            confirms=self._similar_entry(candidate, words),
            gain=GAIN_FROM_ANOTHER,
            supersedes=linked.number if linked and still_holds else None,
        )

    def _entered_before(self, candidate: Candidate) -> int | None:
        """Return the agent's entry with the same text, whose link a rollback has removed."""
        number = self._entered.get((candidate.agent, candidate.entry.content_hash))
        if number is None or self._run.batches is None:
            return number
        content = self._knowledge.content_of(number, agent=candidate.agent)
        return number if content == candidate.entry.content else None

    def _similar_entry(self, candidate: Candidate, words: Words) -> int | None:
        """Return an entry of another agent with a similar text, if it still holds."""
        corpus = self._corpora[candidate.entry.type]
        while (number := corpus.most_alike(words, not_of=candidate.agent)) is not None:
            if self._run.batches is None:
                return number
            content = self._knowledge.content_if_it_holds(number)
            if content is not None and are_alike(words, words_of(content)):
                return number
            corpus.discard(number)
        return None

    def _promote(self, rowid: int) -> None:
        knowledge, now = self._knowledge, self._run.now
        candidate = self._read(rowid)
        if candidate is None:
            raise AssertionError(f"the candidate in row {rowid} is missing")
        decision = self._decide(candidate)
        if decision.confirms is None:
            entry = knowledge.add(candidate.entry, memory=rowid)
        elif decision.gain:
            entry = knowledge.confirm(decision.confirms, gain=decision.gain, now=now)
        else:
            entry = knowledge.read(decision.confirms)
        detail = {"outcome": decision.outcome, "entry_id": entry.id, "confidence": entry.confidence}
        if decision.supersedes is not None:
            old = knowledge.supersede(decision.supersedes, by=entry, now=now)
            detail["superseded_id"] = old.id
        knowledge.link(
            rowid,
            entry_id=entry.id,
            content_hash=candidate.entry.content_hash,
            detail=detail,
            now=now,
            run_id=self._run.run_id,
        )
        self._note(rowid, candidate, decision, number=entry.number)

    def _note(self, rowid: int, candidate: Candidate, decision: Decision, *, number: int) -> None:
        """Record the outcome for the memories that follow."""
        self.outcomes[rowid] = decision.outcome
        if decision.confirms is None:
            corpus = self._corpora[candidate.entry.type]
            corpus.add(number, candidate.agent, words_of(candidate.entry.content))
            self._entered.setdefault((candidate.agent, candidate.entry.content_hash), number)
        if decision.supersedes is not None:
            self._superseded.add(decision.supersedes)
            for corpus in self._corpora.values():
                corpus.discard(decision.supersedes)
