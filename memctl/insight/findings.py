"""What a check finds."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """One thing that is worth knowing.

    An error stops memctl's work or endangers a memory, a warning will in time, and an info is only
    good to know.
    """

    severity: Severity
    code: str
    message: str
    advice: str = ""
    fix: str | None = None  # what --fix does about it; None: nothing
