"""What a job prints: a sentence on stderr, and JSON or the memories it changed on stdout."""

from memctl.jobs.engine import JobReport, JobResult
from memctl.output.messages import Message
from memctl.output.tables import show_rows
from memctl.output.terminal import json_key, show_document, show_message
from memctl.storage.rows import AffectedMemory
from memctl.storage.times import to_text

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
    "promote": (
        "promoted {promoted} memories, merged {merged} into entries that say the same, "
        "superseded the entries of {superseded}",
        "would promote {promoted} memories, merge {merged} into entries that say the same, "
        "supersede the entries of {superseded}",
    ),
    "import": (
        "imported {active[inserted]} active and {archived[inserted]} archived memories, replaced "
        "{active[replaced]} and {archived[replaced]}; {active[unchanged]} and "
        "{archived[unchanged]} were there already; expired: {expired}",
        "would import {active[inserted]} active and {archived[inserted]} archived memories, "
        "replace {active[replaced]} and {archived[replaced]}; {active[unchanged]} and "
        "{archived[unchanged]} are there already; expired: {expired}",
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
    "snapshot": (
        "kept the figures of the day in {rows} rows",
        "would keep the figures of the day in {rows} rows",
    ),
}


def show_report(report: JobReport[JobResult], *, as_json: bool, listing: bool, quiet: bool) -> None:
    """Print what a job did: JSON, or the list of memories, and a sentence."""
    if as_json:
        show_document(job_document(report, listing=listing))
    elif listing and report.result:
        show_rows((memory_row(memory) for memory in report.result.tally.memories), "table")
    show_outcome(report, as_json=as_json, quiet=quiet)


def show_outcome(report: JobReport[JobResult], *, as_json: bool, quiet: bool) -> None:
    """Print on stderr what a job did."""
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
        message,
        as_json=as_json,
        quiet=quiet,
        only_on_terminal=not (report.dry_run or warning),
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
            document["memories"] = [memory_row(memory) for memory in tally.memories]
    if report.pause:
        document["paused"] = report.pause._asdict()
    return document | {
        "duration_ms": report.duration_ms,
        "longest_lock_ms": report.longest_lock_ms,
    }


def job_sentence(report: JobReport[JobResult]) -> str:
    """Return what a job did in one sentence."""
    if report.pause:
        until = f"until {report.pause.until}" if report.pause.until else "until `memctl resume`"
        return f"{report.job}: paused {until} ({report.pause.reason}); nothing was done"
    if not report.result:
        raise AssertionError("a run has a result or a pause")
    did, would = SENTENCES[report.job]
    sentence = (would if report.dry_run else did).format(**report.result.counts)
    parts = [f"{report.job}: {sentence}"]
    if report.result.warning:
        parts.append(report.result.warning)
    if report.result.tally.remaining:
        parts.append(f"{report.result.tally.remaining} remain for the next run")
    if report.run_id is not None:
        parts.append(f"run {report.run_id}, {report.duration_ms / 1000:.1f} s")
        if report.result.at_once:
            parts.append(f"held the write lock for {report.longest_lock_ms / 1000:.1f} s")
    return "; ".join(parts)


def memory_row(memory: AffectedMemory) -> dict[str, object]:
    """Return one line of `--list`."""
    return {
        "id": memory.id,
        "agent_id": memory.agent_id,
        "type": memory.type,
        "key": memory.key,
        **dict(zip(memory.detail_names, memory.details, strict=True)),
    }
