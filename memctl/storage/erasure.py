"""What is to be erased, what a removal has removed, and what is left in the files.

Nothing here names a memory in a text that is stored or printed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memctl.storage.fragments import Fragments
from memctl.storage.tombstones import Name


@dataclass(frozen=True)
class ErasureFilter:
    """Which memories are to be erased: by ids, by name, or by a text that they contain."""

    agent: str | None = None  # None: of all agents, with a text
    ids: Sequence[str] = ()
    type: str | None = None
    key: str | None = None
    text: str | None = None
    keep_knowledge: bool = False


@dataclass
class Removal:
    """What was removed, by place, and what stays.

    `places` are the tables, each with the number of rows that were deleted or blanked. `kept` is
    what stays in memctl's tables or the knowledge base, by the reason. `texts` and `names` are what
    must not remain in the files; of the texts, no part.
    """

    memories: int = 0
    listed: Sequence[Name] = ()  # in a preview
    fingerprints: list[str] = field(default_factory=list)  # of the names, salted
    places: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    texts: set[bytes] = field(default_factory=set)
    names: set[bytes] = field(default_factory=set)

    def add(self, other: "Removal") -> None:
        """Add what another removal has removed."""
        self.memories += other.memories
        self.fingerprints += other.fingerprints
        self.places.update(other.places)
        self.kept.update(other.kept)
        self.texts |= other.texts
        self.names |= other.names

    def count(self, place: str, rows: int) -> None:
        """Count rows of a table."""
        if rows:
            self.places[place] += rows

    @property
    def fragments(self) -> Fragments:
        """What recognizes the texts, parts of them, and the names."""
        return Fragments(self.texts, self.names)


@dataclass
class Overwritten:
    """How the remains in the files were overwritten, and what the last search has found."""

    overwritten_pages: int = 0
    log_truncated: bool = False
    vacuum_ms: float | None = None  # how long other writers waited for it. None: it was not needed
    longest_lock_ms: float = 0.0  # of the other steps
    would_stall: bool = False  # VACUUM is needed, but would take long while another program writes
    before: Counter[str] = field(default_factory=Counter)  # remains before VACUUM, by file
    files: list[Path] = field(default_factory=list)
    bytes_checked: int = 0
    remains: Counter[str] = field(default_factory=Counter)  # that are in no row, by file
    written_since: Counter[str] = field(default_factory=Counter)  # VACUUM, by other programs
    rows: Counter[str] = field(default_factory=Counter)  # that have the same text, by table

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left but what other rows contain."""
        return self.log_truncated and not self.remains and not self.would_stall
