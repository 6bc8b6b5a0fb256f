"""Memories that contain what looks like a secret: which kind, and where, but never the text."""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from memctl.insight.findings import Finding
from memctl.storage.progress import Progress
from memctl.storage.rows import SearchedField
from memctl.storage.secrets import Detector, FoundSecret
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.redacted_again import written_again
from memctl.storage.sqlite.secrets import Place, SearchedRow, count_searched, searched_pages
from memctl.storage.text import stored_bytes


@dataclass(frozen=True)
class SecretCount:
    """How often a kind of secret occurs in a field of the versions of a memory."""

    kind: str
    place: Place
    found_in: SearchedField | None  # None: in the text of a knowledge entry
    count: int


@dataclass(frozen=True)
class MemoryWithSecrets:
    """A memory with all its versions; a part of its name that contains a secret is None."""

    agent_id: Any
    type: Any
    key: Any
    id: Any  # of the active version, or else of the first archived one
    secrets: Sequence[SecretCount]

    @property
    def is_in_key(self) -> bool:
        """Whether the key contains a secret."""
        return any(secret.found_in == "key" for secret in self.secrets)


def find_secrets(db: Connection, detector: Detector, progress: Progress) -> list[MemoryWithSecrets]:
    """Search all memories, and the knowledge entries that came from them; reads only."""
    found: dict[Hashable, list[tuple[SearchedRow, list[FoundSecret]]]] = {}
    progress.phase("searching for secrets", total=count_searched(db))
    for page in searched_pages(db):
        for row in page:
            secrets = detector.find(row.texts)
            if secrets:
                emptied = row._replace(texts=row.texts._replace(value=b"", metadata=b""))
                name = (row.agent_id, row.type, row.key)
                found.setdefault(name, []).append((emptied, secrets))
        progress.advance(len(page))
    return [_memory(versions) for versions in found.values()]


def find_written_again(db: Connection) -> Iterator[Finding]:
    """Yield the memories into which a client has written a text that was redacted in them."""
    for memory in written_again(db):
        yield Finding(
            "warning",
            "redacted_again",
            f"a text that was redacted in '{memory.agent_id}' {memory.type} '{memory.key}' was"
            " written again",
            "change the program that writes it, then run `memctl redact` for it again",
        )


def _memory(versions: Sequence[tuple[SearchedRow, Sequence[FoundSecret]]]) -> MemoryWithSecrets:
    """Return what may be shown of a memory."""
    contents = {secret.content for _, secrets in versions for secret in secrets}
    counts = Counter(
        (secret.kind, row.place, None if row.place == "knowledge" else secret.found_in)
        for row, secrets in versions
        for secret in secrets
    )
    ids = [row.id for row, _ in versions if row.place != "knowledge"]
    first, _ = versions[0]

    def harmless(part: Any) -> Any:
        text = stored_bytes(part)
        is_secret = isinstance(text, bytes) and any(content in text for content in contents)
        return None if is_secret else part

    return MemoryWithSecrets(
        agent_id=harmless(first.agent_id),
        type=harmless(first.type),
        key=harmless(first.key),
        id=harmless(ids[0]) if ids else None,
        secrets=[SecretCount(*where, count) for where, count in counts.items()],
    )
