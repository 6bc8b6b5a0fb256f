"""The output of a job: a sentence on stderr, and JSON or the changed memories on stdout."""

from collections.abc import Mapping, Sequence

from memctl.errors import counted, readable_bytes
from memctl.jobs.engine import JobReport, JobResult
from memctl.output.fields import Ranks
from memctl.output.messages import Message
from memctl.output.tables import Output, show_records
from memctl.output.terminal import json_key, show_document, show_message
from memctl.storage.rows import AffectedMemory
from memctl.storage.times import to_text

# The result of each job, and of its preview. `{archived:memory}` is a number with its noun.
SENTENCES = {
    "archive": ("archived {archived:memory}", "would archive {archived:memory}"),
    "compact": ("freed {freed_bytes:bytes}", "would free {freed_bytes:bytes}"),
    "cleanup": ("archived {archived:expired memory}", "would archive {archived:expired memory}"),
    "decay": (
        "lowered the importance of {decayed:idle memory}",
        "would lower the importance of {decayed:idle memory}",
    ),
    "promote": (
        "promoted {promoted:memory}, merged {merged} into existing entries, "
        "superseded {superseded:entry}",
        "would promote {promoted:memory}, merge {merged} into existing entries, "
        "supersede {superseded:entry}",
    ),
    "erase": (
        "erased {erased:memory}, {rows:row} in all",
        "would erase {erased:memory}, {rows:row} in all",
    ),
    "hold": (
        "added {added:hold}, changed {changed}, {unchanged} unchanged",
        "would add {added:hold}, change {changed}, leave {unchanged} unchanged",
    ),
    "import": (
        "imported {imported:memory} ({active} active, {archived} archived); "
        "{replaced} replaced, {skipped} skipped, {unchanged} unchanged",
        "would import {imported:memory} ({active} active, {archived} archived); "
        "{replaced} replaced, {skipped} skipped, {unchanged} unchanged",
    ),
    "prune": (
        "deleted {pruned:archived memory}, kept {kept_important:important memory}",
        "would delete {pruned:archived memory} and keep {kept_important:important memory}",
    ),
    "redact": (
        "replaced {occurrences:occurrence} in {redacted:version}",
        "would replace {occurrences:occurrence} in {redacted:version}",
    ),
    "release": ("released {released:hold}", "would release {released:hold}"),
    "report": ("wrote {path}", "would write {path}"),
    "restore": (
        "restored {restored:memory}, skipped {skipped}, replaced {replaced}",
        "would restore {restored:memory}, skip {skipped}, replace {replaced}",
    ),
    "snapshot": (
        "recorded today's figures in {rows:row}",
        "would record today's figures in {rows:row}",
    ),
}


def left_held(count: int) -> str:
    """Return a sentence about memories that were left because they are held."""
    return f"left {counted(count, 'held memory')}"


class _Count(int):
    """A number in a sentence, printed with the noun that its format names, or as a size."""

    def __format__(self, noun: str) -> str:
        if noun == "bytes":
            return readable_bytes(int(self))
        return counted(int(self), noun) if noun else f"{int(self):,}"


def show_report(report: JobReport[JobResult], *, as_json: bool, listing: bool, quiet: bool) -> None:
    """Print the result of a job: a sentence on stderr, and on stdout JSON or a list."""
    if as_json:
        show_document(job_document(report, listing=listing))
    elif listing and report.result:
        records = [memory_row(memory) for memory in report.result.tally.memories]
        show_records(records, memory_ranks(records), Output("table", report.cutoff))
    show_outcome(report, as_json=as_json, quiet=quiet)


def show_outcome(report: JobReport[JobResult], *, as_json: bool, quiet: bool) -> None:
    """Print the result of a job as a message on stderr."""
    event = "previewed" if report.dry_run else "finished"
    document = job_document(report, listing=False)
    message = Message(
        job_sentence(report),
        event="paused" if report.pause else event,
        job=report.job,
        facts={name: fact for name, fact in document.items() if name not in ("job", "agents")},
    )
    warning = report.result and report.result.warning
    show_message(
        message, as_json=as_json, quiet=quiet, only_on_terminal=not (report.dry_run or warning)
    )


def job_document(report: JobReport[JobResult], *, listing: bool) -> dict[str, object]:
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
        agents = sorted((json_key(agent), count) for agent, count in tally.agents.items())
        document |= {"remaining": tally.remaining, "agents": dict(agents)}
        if report.result.refusal:
            document["refused"] = report.result.refusal.message
        if listing:
            document["listed"] = [memory_row(memory) for memory in tally.memories]
    if report.pause:
        document["paused"] = report.pause._asdict()
    return document | {"duration_ms": report.duration_ms, "longest_lock_ms": report.longest_lock_ms}


def job_sentence(report: JobReport[JobResult]) -> str:
    """Return the result of a job in one sentence."""
    if report.pause:
        until = f"until {report.pause.until}" if report.pause.until else "until `memctl resume`"
        return f"{report.job}: paused {until} ({report.pause.reason}); nothing was done"
    if not report.result:
        raise AssertionError("a run has a result or a pause")
    done, preview = SENTENCES[report.job]
    facts = {**report.result.counts, **report.result.totals}
    values = {name: _Count(fact) if isinstance(fact, int) else fact for name, fact in facts.items()}
    parts = [f"{report.job}: {(preview if report.dry_run else done).format(**values)}"]
    if report.result.remark:
        parts.append(report.result.remark)
    if held := report.result.totals.get("held"):
        parts.append(left_held(held))
    if report.result.warning:
        parts.append(report.result.warning)
    if report.result.tally.remaining:
        parts.append(f"{report.result.tally.remaining:,} left for the next run")
    if report.run_id is not None:
        parts.append(f"run {report.run_id}, {report.duration_ms / 1000:.1f} s")
        if locks := report.result.held_at_once:
            parts.append(f"held {locks} for {report.longest_lock_ms / 1000:.1f} s")
    return "; ".join(parts)


def memory_ranks(records: Sequence[Mapping[str, object]]) -> Ranks:
    """Return the ranks of the fields of memories that a job changes, and of what it changes."""
    ranks = {"job": 0, "key": 0, "why": 0, "id": 1, "agent_id": 1, "outcome": 2, "type": 4}
    ranks |= dict.fromkeys(
        ("decayed", "expires_at", "archived_at", "archived_reason"), 1
    )  # why it is listed
    names = dict.fromkeys(name for record in records for name in record)
    return {name: ranks.get(name, 3) for name in names}


def memory_row(memory: AffectedMemory) -> dict[str, object]:
    """Return one row of `--list`."""
    return {
        "id": memory.id,
        "agent_id": memory.agent_id,
        "type": memory.type,
        "key": memory.key,
        **dict(zip(memory.detail_names, memory.details, strict=True)),
    }
