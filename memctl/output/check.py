"""The findings of a check, as lines for people and in the format of monitoring plug-ins."""

from collections.abc import Iterable

from memctl.errors import MemctlError, UsageError
from memctl.insight.check import CheckResult
from memctl.insight.findings import Finding

MOST_SHOWN = 3  # findings in the single line of a plug-in


def finding_facts(findings: Iterable[Finding]) -> list[tuple[str, str]]:
    """Return the severity of each finding, and its text."""
    return [
        (finding.severity, finding.message + (f"; {finding.advice}" if finding.advice else ""))
        for finding in findings
    ]


def plugin_line(result: CheckResult) -> tuple[str, int]:
    """Return the line and the exit code of a monitoring plug-in.

    https://nagios-plugins.org/doc/guidelines.html
    """
    errors, warnings = result.count("error"), result.count("warning")
    word, exit_code = ("CRITICAL", 2) if errors else ("WARNING", 1) if warnings else ("OK", 0)
    messages = [finding.message for finding in result.findings if finding.severity != "info"]
    text = "; ".join(messages[:MOST_SHOWN]) or "no problems found"
    if len(messages) > MOST_SHOWN:
        text += f"; and {len(messages) - MOST_SHOWN} more"
    figures = {
        "memories": result.memories or 0,
        "errors": errors,
        "warnings": warnings,
        "size": f"{result.database.size_bytes}B",
    }
    if result.database.wal_bytes is not None:
        figures["wal"] = f"{result.database.wal_bytes}B"
    drawn = " ".join(f"{name}={figure};;;0" for name, figure in figures.items())
    return f"{_plugin_text(word, text)}|{drawn}", exit_code


def plugin_failure(error: MemctlError) -> tuple[str, int]:
    """Return the line and the exit code for a check that could not be run."""
    if isinstance(error, UsageError):
        return _plugin_text("UNKNOWN", str(error)), 3
    return _plugin_text("CRITICAL", str(error)), 2


def _plugin_text(word: str, text: str) -> str:
    return f"MEMCTL {word} - {text}".replace("|", "/")  # what follows a bar are figures
