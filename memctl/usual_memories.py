"""The memories that the service's own module stores: contexts of tasks, successes and errors."""

from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any

from memctl.storage.memory import Memory, MemoryType, from_json, to_json

CONTEXT_IMPORTANCE = 3
SUCCESS_IMPORTANCE = 7
ERROR_IMPORTANCE = 8
CONTEXT_LASTS = timedelta(hours=24)


class UsualMemories(ABC):
    """Stores and finds memories with the service's types, keys and importances."""

    @abstractmethod
    def remember(
        self,
        agent: str,
        type: MemoryType,
        key: str,
        value: str,
        *,
        importance: float = ...,
        expires_in: float | timedelta | None = None,
    ) -> Memory:
        """Store a memory."""

    @abstractmethod
    def recall(self, agent: str, type: str, key: str) -> Memory | None:
        """Return a memory and count an access."""

    def set_task_context(self, agent: str, task_id: str, context: object) -> Memory:
        """Store the context of a task, any value that JSON can represent; return the memory.

        It has the type `context`, the key `task:<task_id>` and importance 3, and expires after 24
        hours.
        """
        return self.remember(
            agent,
            "context",
            f"task:{task_id}",
            to_json(context),
            importance=CONTEXT_IMPORTANCE,
            expires_in=CONTEXT_LASTS,
        )

    def get_task_context(self, agent: str, task_id: str) -> Any:
        """Return the context of a task, decoded from JSON; None if it is missing or not JSON.

        An access is counted.
        """
        memory = self.recall(agent, "context", f"task:{task_id}")
        if memory is None:
            return None
        return from_json(memory.value)

    def learn_success(self, agent: str, pattern: str, details: object) -> Memory:
        """Store a successful pattern, with details that JSON can represent; return the memory.

        It has the type `success_pattern`, the pattern as key, and importance 7.
        """
        return self.remember(
            agent, "success_pattern", pattern, to_json(details), importance=SUCCESS_IMPORTANCE
        )

    def learn_error(self, agent: str, pattern: str, details: object) -> Memory:
        """Store an error pattern, with details that JSON can represent; return the memory.

        It has the type `error_pattern`, the pattern as key, and importance 8.
        """
        return self.remember(
            agent, "error_pattern", pattern, to_json(details), importance=ERROR_IMPORTANCE
        )

    def has_seen_error(self, agent: str, pattern: str) -> Memory | None:
        """Return an agent's memory of an error pattern, or None; an access is counted."""
        return self.recall(agent, "error_pattern", pattern)
