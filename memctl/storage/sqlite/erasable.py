"""What is to be erased of a database: memories by their names, and all that contains a text."""

import json
from collections.abc import Callable, Iterator, Sequence, Set
from datetime import datetime
from sqlite3 import Connection

from memctl.storage.erasure import Removal
from memctl.storage.fragments import Fragments
from memctl.storage.sqlite.erasing import (
    blank_runs,
    in_messages,
    noted,
    preview_rows,
    remove_rows,
    runs_with,
    types_gone,
)
from memctl.storage.sqlite.erasing_text import ErasedText, TextSearch, Traces
from memctl.storage.sqlite.knowledge_of_memories import TABLE as KNOWLEDGE
from memctl.storage.sqlite.knowledge_of_memories import decide_on_entries, delete_entries
from memctl.storage.sqlite.named_rows import RowsByName
from memctl.storage.tombstones import Name


class Erasable:
    """Memories of some names, and those that contain a text, with all that is said about them.

    They are found by reading only.
    """

    def __init__(
        self,
        db: Connection,
        names: Set[Name],
        text: ErasedText | None = None,
        *,
        keep_knowledge: bool = False,
        now: datetime,
    ) -> None:
        """Find them. Raises RefusedError if a hold in force contains the text."""
        self._db = db
        self._now = now
        self._forms = text.forms if text else frozenset()
        search = TextSearch(db, text) if text else None
        self.names = sorted(names | search.names() if search else names, key=repr)
        self.rows = RowsByName(db, self.names)
        self._entries = decide_on_entries(db, self.rows.found, keep=keep_knowledge)
        self._traces = Traces()
        if search:
            types = types_gone(db, self.rows.found)
            self._traces = search.traces(self.rows, self._entries, types, now)

    def preview(self) -> Removal:
        """Return what would be removed; only reads."""
        removal = preview_rows(self._db, self.rows)
        removal.listed = self.names
        removal.count(KNOWLEDGE, len(self._entries.deleted))
        for trace in self._traces.found:
            removal.count(trace.table, 1)
        removal.count("memory_runs", len(self._runs(removal)))
        return self.completed(removal)

    def steps(self, removal: Removal) -> Iterator[tuple[Sequence[int], Callable[[str], None]]]:
        """Yield what removes everything: numbers, and a function that takes some of them as JSON.

        The functions add to the removal, and are called in transactions.
        """

        def remove_entries(numbers: str) -> None:
            found = [self._entries.deleted[number] for number in json.loads(numbers)]
            removal.count(KNOWLEDGE, delete_entries(self._db, found))

        def remove_memories(numbers: str) -> None:
            names = [self.names[number] for number in json.loads(numbers)]
            removal.add(remove_rows(self._db, names, self.rows, now=self._now))

        def remove_traces(numbers: str) -> None:
            for number in json.loads(numbers):
                trace = self._traces.found[number]
                removal.count(trace.table, trace.remove(self._db))

        def blank(runs: str) -> None:
            removal.count("memory_runs", blank_runs(self._db, json.loads(runs)))

        def remove_leftovers(_numbers: str) -> None:
            removal.add(remove_rows(self._db, [], self.rows, now=self._now))

        # The memories last: if memctl is killed, the same command finds them, and the rest by them.
        yield range(len(self._entries.deleted)), remove_entries
        yield range(len(self._traces.found)), remove_traces
        yield self._runs(noted(self.rows.found)), blank
        if self.names:
            yield range(len(self.names)), remove_memories
        else:  # copies of memories that are gone
            yield range(1), remove_leftovers
        yield self._runs(removal), blank

    def remove(self) -> Removal:
        """Remove everything at once; called in a transaction."""
        removal = Removal()
        for numbers, change in self.steps(removal):
            change(json.dumps(list(numbers)))
        return self.completed(removal)

    def in_messages(self, removal: Removal) -> Fragments:
        """Return what recognizes the memories in error messages."""
        return in_messages(self.names, removal.texts, removal.names | self._forms)

    def completed(self, removal: Removal) -> Removal:
        """Add what stays, and the text that was searched for."""
        removal.kept.update(self._entries.kept)
        removal.kept.update(self._traces.kept)
        removal.names |= self._forms
        return removal

    def _runs(self, removal: Removal) -> list[int]:
        return runs_with(self._db, self.in_messages(removal))
