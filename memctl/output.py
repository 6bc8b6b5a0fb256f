"""Everything that is printed: results as sentences, JSON, CSV, NDJSON and tables, and errors.

stdout carries data only. Stored text is shown, never obeyed: JSON is pure ASCII, and elsewhere
control characters are spelled out. What is printed does not depend on a terminal, except that a
job which succeeds says so only there: cron mails every byte.
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, AnyStr, Literal

from memctl.database import to_bytes
from memctl.due import Affected
from memctl.errors import MemctlError
from memctl.jobs import JobResult, Report
from memctl.timestamps import to_text

Format = Literal["json", "nl", "csv", "table"]

# What each job did, with its counts filled in; and the same as a preview.
SENTENCES = {
    "archive": ("archived {archived} memories", "would archive {archived} memories"),
    "cleanup": (
        "archived {archived} expired memories",
        "would archive {archived} expired memories",
    ),
    "decay": (
        "lowered the importance of {decayed} idle memories",
        "would lower the importance of {decayed} idle memories",
    ),
    "prune": (
        "removed {pruned} old memories from the archive, kept {kept_important} important ones",
        "would remove {pruned} old memories from the archive and keep {kept_important} "
        "important ones",
    ),
    "restore": (
        "restored {restored} memories, skipped {skipped}, replaced {replaced}",
        "would restore {restored} memories, skip {skipped}, replace {replaced}",
    ),
}


def say(sentence: str, *, quiet: bool = False, only_on_terminal: bool = False) -> None:
    """Print a message for a person on stderr."""
    if quiet or (only_on_terminal and not (sys.stderr and sys.stderr.isatty())):
        return
    _write(sys.stderr, visible(sentence) + "\n")


def show_error(error: MemctlError, *, as_json: bool = False) -> None:
    """Print an error on stderr, as one line or as a JSON object."""
    if as_json:
        document = {
            "code": error.code,
            "exit_code": error.exit_code,
            "message": visible(error.message),
            "hint": visible(error.hint),
        }
        _write(sys.stderr, to_json({"error": document}) + "\n")
    else:
        say(f"memctl: {error}")


def show_report(report: Report[JobResult], *, as_json: bool, listing: bool, quiet: bool) -> None:
    """Print what a job did: JSON, or the list of memories, and a sentence."""
    if as_json:
        show_document(report_document(report, listing=listing))
        return
    if listing and report.result:
        show_rows((memory_row(memory) for memory in report.result.tally.memories), "table")
    say(report_sentence(report), quiet=quiet, only_on_terminal=not report.dry_run)


def report_document(report: Report[JobResult], *, listing: bool) -> dict[str, object]:
    """Return the JSON form of a job's result."""
    document: dict[str, object] = {
        "job": report.job,
        "run_id": report.run_id,
        "dry_run": report.dry_run,
        "cutoff": to_text(report.cutoff),
    }
    if report.result:
        tally = report.result.tally
        document |= report.result.counts
        agents = sorted((_key(agent), count) for agent, count in tally.agents.items())
        document |= {"remaining": tally.remaining, "agents": dict(agents)}
        if report.result.refusal:
            document["refused"] = report.result.refusal.message
        if listing:
            document["memories"] = [memory_row(memory) for memory in tally.memories]
    if report.pause:
        document["paused"] = report.pause._asdict()
    return document | {
        "duration_ms": report.duration_ms,
        "longest_lock_ms": report.longest_lock_ms,
    }


def report_sentence(report: Report[JobResult]) -> str:
    """Return what a job did in one sentence."""
    if report.pause:
        until = f"until {report.pause.until}" if report.pause.until else "until `memctl resume`"
        return f"{report.job}: paused {until} ({report.pause.reason}); nothing was done"
    if not report.result:
        raise AssertionError("a run has a result or a pause")
    did, would = SENTENCES[report.job]
    sentence = (would if report.dry_run else did).format(**report.result.counts)
    parts = [f"{report.job}: {sentence}"]
    if report.result.tally.remaining:
        parts.append(f"{report.result.tally.remaining} remain for the next run")
    if report.run_id is not None:
        parts.append(f"run {report.run_id}, {report.duration_ms / 1000:.1f} s")
    return "; ".join(parts)


def memory_row(memory: Affected) -> dict[str, object]:
    """Return one line of `--list`."""
    return {
        "id": memory.id,
        "agent_id": memory.agent_id,
        "type": memory.type,
        "key": memory.key,
        **dict(zip(memory.detail_names, memory.details, strict=True)),
    }


def show_document(document: Mapping[str, object]) -> None:
    """Print one JSON object, led by the number of its schema."""
    _write(sys.stdout, to_json({"schema": 1, **document}, indent=2) + "\n")


def show_rows(rows: Iterable[Mapping[str, object]], form: Format) -> None:
    """Print records as a JSON array, as JSON a line, as CSV, or as a table."""
    if form == "nl":
        for row in rows:
            _write(sys.stdout, to_json(row) + "\n")
    elif form == "json":
        lines = ",\n".join(f" {to_json(row)}" for row in rows)
        _write(sys.stdout, f"[\n{lines}\n]\n" if lines else "[]\n")
    elif form == "csv":
        _show_csv(rows)
    else:
        _show_table(list(rows))


def show_text(stored: str | bytes) -> None:
    """Print nothing but a stored text: its bytes, or on a terminal what is safe to show of it."""
    if sys.stdout is None:
        return
    content = to_bytes(stored) if isinstance(stored, str) else stored
    if sys.stdout.isatty():
        lines = content.decode("utf-8", "surrogateescape").split("\n")
        _write(sys.stdout, "\n".join(map(visible, lines)) + "\n")
    else:
        _write(sys.stdout.buffer, content)


def show_line(text: str) -> None:
    """Print nothing but a text of one line."""
    _write(sys.stdout, visible(text) + "\n")


def show_facts(facts: Mapping[str, object]) -> None:
    """Print names and values, a line each."""
    width = max(map(len, facts))
    for name, fact in facts.items():
        _write(sys.stdout, f"{name:<{width}}  {_plain(fact)}\n")


def _show_csv(rows: Iterable[Mapping[str, object]]) -> None:
    import csv
    import io

    for number, row in enumerate(rows):
        line = io.StringIO()
        writer = csv.writer(line, lineterminator="\n")
        if number == 0:
            writer.writerow(row)
        writer.writerow(_plain(value) for value in row.values())
        _write(sys.stdout, line.getvalue())


def _show_table(rows: Sequence[Mapping[str, object]]) -> None:
    if not rows:
        return
    import io
    import shutil

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        numeric = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_plain(value)) for value in row.values()))
    # Off a terminal rich assumes 80 columns and cuts; there the table is as wide as it needs.
    terminal = sys.stdout is not None and sys.stdout.isatty()
    printed = io.StringIO()
    Console(
        file=printed,
        highlight=False,
        force_terminal=terminal,
        width=shutil.get_terminal_size().columns if terminal else 1_000_000,
    ).print(table)
    lines = (line.rstrip() for line in printed.getvalue().splitlines())
    _write(sys.stdout, "\n".join(lines) + "\n")


def _plain(value: object) -> str:
    if value is None:
        return ""
    return visible(value if isinstance(value, str) else str(value))


def visible(text: str) -> str:
    """Spell out whatever a terminal would obey or hide: control, format and invalid characters."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def to_json(value: object, *, indent: int | None = None) -> str:
    """Return JSON in pure ASCII, whatever was stored.

    Text that is not UTF-8 becomes `{"base64": "…"}`, a BLOB `{"blob_base64": "…"}`, and infinity,
    for which JSON has no number, the text "inf".
    """
    document = json.dumps(_encodable(value), indent=indent, allow_nan=False)
    return document.replace("\x7f", "\\u007f")


def _encodable(value: Any) -> object:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return {"base64": _base64(to_bytes(value))}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, bytes):
        return {"blob_base64": _base64(value)}
    if isinstance(value, Mapping):
        return {_key(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return value


def _key(text: str | bytes) -> str:
    """Return a name as a JSON key; bytes that are not UTF-8 are spelled out."""
    content = text if isinstance(text, bytes) else to_bytes(text)
    return content.decode("utf-8", "backslashreplace")


def _base64(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode("ascii")


def _write(stream: IO[AnyStr] | None, content: AnyStr) -> None:
    """Print, and end with 141 when nobody reads any more, as a shell's own tools do.

    Raises MemctlError when what was printed cannot be written.
    """
    if stream is None:  # closed by whoever started us
        return
    try:
        stream.write(content)
        stream.flush()
    except OSError as error:
        # Python flushes once more at exit: give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise SystemExit(141) from None
        raise MemctlError(
            f"the output cannot be written ({error.strerror})", "what was to be done is done"
        ) from None
