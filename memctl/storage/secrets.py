"""Secrets in memories, such as keys and tokens: found by the rules of Kingfisher, without network.

https://github.com/mongodb/kingfisher
The package is optional and imported only here. Rules that depend on randomness alone are not used:
they find something in most texts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from memctl.errors import MemctlError
from memctl.storage.rows import SearchedField

if TYPE_CHECKING:
    from kingfisher_sdk import Finding, Scanner

INSTALL = "pip install 'agent-memctl[secrets]'"

CATALOGS = ("betterleaks.", "kingfisher.", "veles.secrets/")  # begin the ids of rules


class Texts(NamedTuple):
    """The searched fields of a memory; its key is the context of its value."""

    key: bytes
    value: bytes
    metadata: bytes


@dataclass(frozen=True)
class FoundSecret:
    """What looks like a secret in one field of a memory."""

    kind: str  # the rule that found it
    found_in: SearchedField
    content: bytes = field(repr=False)  # never printed


class Detector(Protocol):
    """Finds secrets in memories."""

    def find(self, texts: Texts) -> list[FoundSecret]:
        """Return the secrets in a memory, in the order of the fields; one in two fields is two."""


class _Span(NamedTuple):
    start: int
    end: int
    kind: str


def require_detector() -> Detector:
    """Return what detects secrets. Raises MemctlError if its package is not installed."""
    try:
        from kingfisher_sdk import Rules, Scanner
    except ImportError:
        raise MemctlError(
            "the package that detects secrets is missing", f"run `{INSTALL}`"
        ) from None
    return _Kingfisher(Scanner(Rules()))


class _Kingfisher:
    """The rules of Kingfisher."""

    def __init__(self, scanner: "Scanner") -> None:
        self._scanner = scanner

    def find(self, texts: Texts) -> list[FoundSecret]:
        # Without the first line, a key that begins with a byte order mark would be recoded.
        content = b"\n%b: %b\n%b" % texts
        spans = self._spans(content)
        if not spans:
            return []
        return [
            FoundSecret(span.kind, name, content[max(start, span.start) : min(end, span.end)])
            for name, (start, end) in _places(texts).items()
            for span in spans
            if span.start < end and span.end > start
        ]

    def _spans(self, content: bytes) -> list[_Span]:
        """Return where secrets are, without those inside of others.

        A rule may require a companion, such as the id that belongs to a key, which is a finding
        that is not visible. It is a secret only beside one.
        """
        found = self._scanner.scan(content)
        if not any(finding.visible for finding in found):
            return []
        spans: list[_Span] = []
        for span in sorted(map(_span, found), key=lambda span: (span.start, -span.end)):
            if not spans or span.end > spans[-1].end:
                spans.append(span)
        return spans


def _span(finding: "Finding") -> _Span:
    kind = finding.rule_id
    for catalog in CATALOGS:
        kind = kind.removeprefix(catalog)
    return _Span(finding.location["start_offset"], finding.location["end_offset"], kind)


def _places(texts: Texts) -> Mapping[SearchedField, tuple[int, int]]:
    """Return where the fields are in the text that is searched."""
    key = 1 + len(texts.key)
    value = key + 2 + len(texts.value)
    return {
        "key": (1, key),
        "value": (key + 2, value),
        "metadata": (value + 1, value + 1 + len(texts.metadata)),
    }
