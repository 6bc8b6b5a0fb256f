"""Tombstones: what was erased or redacted, as salted hashes, so that it can be recognized.

An erased memory has one tombstone for its name, which covers every version that was written before
the erasure, and one for each value that it had, which covers that value under the name at any time.
A redacted text has one with the name of its memory and the length of the text: it is found in any
value of that name. From the hashes, the text cannot be read; who has the database can only test a
guess.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from memctl.storage.text import stored_bytes

Kind = Literal["erased", "redacted"]
SALT_BYTES = 32

Stored = str | bytes | None  # a text that may be invalid UTF-8, or a BLOB


class Name(NamedTuple):
    """What identifies a memory to its users; all its versions have it."""

    agent_id: Stored
    type: Stored
    key: Stored


@dataclass(frozen=True)
class Tombstone:
    """One row of memory_tombstones."""

    kind: Kind
    erased_at: int  # seconds since 1970
    salt: bytes
    name_hash: bytes
    content_hash: bytes | None = None
    secret_hash: bytes | None = None
    secret_bytes: int | None = None


def hash_name(salt: bytes, name: Name) -> bytes:
    """Return the salted hash of the name of a memory."""
    return _keyed_hash(salt, "name", name)


def hash_content(salt: bytes, name: Name, value: Stored) -> bytes:
    """Return the salted hash of a value under the name of a memory."""
    return _keyed_hash(salt, "content", (*name, value))


def hash_secret(salt: bytes, secret: bytes) -> bytes:
    """Return the salted hash of a text that was redacted."""
    return _keyed_hash(salt, "secret", (secret,))


def _keyed_hash(salt: bytes, purpose: str, parts: Sequence[Stored]) -> bytes:
    """Return the HMAC-SHA256 of parts; each is preceded by its length."""
    import hmac  # slow to import, and needed only once something was erased

    message = [purpose.encode()]
    for part in parts:
        content = stored_bytes(part) or b""
        message.append(b"\0%d:" % len(content) + content)
    return hmac.digest(salt, b"".join(message), "sha256")


class Tombstones:
    """Recognizes what was erased or redacted."""

    def __init__(self, tombstones: Iterable[Tombstone]) -> None:
        self._by_name: dict[bytes, list[Tombstone]] = {}
        for tombstone in tombstones:
            self._by_name.setdefault(tombstone.name_hash, []).append(tombstone)
        self._salts = {tombstone.salt for found in self._by_name.values() for tombstone in found}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def __iter__(self) -> Iterator[Tombstone]:
        for found in self._by_name.values():
            yield from found

    def is_known(self, name: Name) -> bool:
        """Return whether a memory of this name was ever erased, or its text redacted."""
        return any(True for _ in self.of(name))

    def has(self, kind: Kind, name: Name) -> bool:
        """Return whether a memory of this name was erased, or a text in it redacted."""
        return any(tombstone.kind == kind for tombstone in self.of(name))

    def of(self, name: Name) -> Iterator[Tombstone]:
        """Yield the tombstones with this name."""
        for salt in self._salts:
            yield from self._by_name.get(hash_name(salt, name), ())

    def is_erased(self, name: Name, value: Stored, *, written_at: float | None) -> bool:
        """Return whether a version of a memory was erased.

        `written_at` is in seconds since 1970; None for a time that cannot be read, which counts as
        before every erasure.
        """
        return any(
            tombstone.kind == "erased"
            and (
                written_at is None or written_at <= tombstone.erased_at
                if tombstone.content_hash is None
                else tombstone.content_hash == hash_content(tombstone.salt, name, value)
            )
            for tombstone in self.of(name)
        )

    def erased_values(self, name: Name, value: Stored) -> bool:
        """Return whether exactly this value was erased under the name, whenever it was written."""
        return any(
            tombstone.content_hash is not None
            and tombstone.content_hash == hash_content(tombstone.salt, name, value)
            for tombstone in self.of(name)
        )

    def secrets_in(self, name: Name, value: Stored) -> list[bytes]:
        """Return the redacted texts that a value of this name contains, as bytes, without order."""
        content = stored_bytes(value)
        found: set[bytes] = set()
        for tombstone in self.of(name):
            size = tombstone.secret_bytes
            if content is None or size is None:
                continue
            for start in range(len(content) - size + 1):
                part = content[start : start + size]
                if part not in found and hash_secret(tombstone.salt, part) == tombstone.secret_hash:
                    found.add(part)
        return list(found)
