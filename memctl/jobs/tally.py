"""What a job did: the number of memories, and on request the memories themselves."""

from collections import Counter
from collections.abc import Iterable

from memctl.config.policies import Policy
from memctl.storage.rows import AffectedMemory


class JobTally:
    """The memories that a job changed or would change; lists them only if `listing` is true.

    If the policy has overrides, each listed memory names the tables that apply to it.
    """

    def __init__(self, *, listing: bool = False, policy: Policy | None = None) -> None:
        self.count = 0
        self.remaining = 0  # not reached in time
        self.held = 0  # left because they are held
        self.changed_meanwhile = 0  # found by the search, but no longer matching in their batch
        self.agents: Counter[str] = Counter()
        self.memories: list[AffectedMemory] = []
        self._listing = listing
        self._policy = policy if policy and policy.overrides else None

    def add(self, memories: Iterable[AffectedMemory]) -> None:
        """Count memories that were, or would be, changed."""
        for memory in memories:
            self.count += 1
            self.agents[memory.agent_id] += 1
            if self._listing:
                self.memories.append(self._with_policy(memory))

    def include(self, later: "JobTally") -> None:
        """Add what a later part of the job did."""
        self.count += later.count
        self.remaining += later.remaining
        self.held += later.held
        self.changed_meanwhile += later.changed_meanwhile
        self.agents.update(later.agents)
        self.memories += later.memories

    def _with_policy(self, memory: AffectedMemory) -> AffectedMemory:
        if self._policy is None:
            return memory
        return memory._replace(
            detail_names=(*memory.detail_names, "policy"),
            details=(*memory.details, self._policy.tables(memory.agent_id, memory.type)),
        )
