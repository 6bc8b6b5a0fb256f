"""The findings of a check."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)  # the most severe first


@dataclass(frozen=True)
class Finding:
    """One finding.

    An error prevents memctl's work or endangers memories, a warning will do so in time, and an info
    needs no action.
    """

    severity: Severity
    code: str
    message: str
    advice: str = ""
    fix: str | None = None  # what --fix does; None: nothing

    @property
    def sentence(self) -> str:
        """The finding and its advice as a sentence."""
        text = f"{self.message}; {self.advice}" if self.advice else self.message
        return f"{text[:1].upper()}{text[1:]}."


def by_severity(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings in their order, the most severe first."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
