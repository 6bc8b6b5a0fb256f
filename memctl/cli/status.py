"""The command that shows the state of the database: status."""

from dataclasses import asdict

from memctl.cli.options import GlobalOptions
from memctl.errors import counted
from memctl.output.contract.documents import storage
from memctl.output.readable import readable_bytes
from memctl.output.tables import Output, show_facts, show_records
from memctl.output.terminal import show_document
from memctl.storage.engines import open_store
from memctl.storage.rows import DatabaseSize
from memctl.storage.status import ServerStatus

JOBS = {"job": 0, "status": 0, "started_at": 0, "run_id": 0, "duration_ms": 1, "error": 2}
FEATURE_STATES = {
    "on": "on since {since}",
    "outdated": "on, but created by another version of memctl: run `memctl enable {feature}`",
    "missing": "enabled since {since}, but its triggers are missing: run `memctl enable {feature}`",
}


def status(call: GlobalOptions) -> None:
    """Show the schema version, the number of memories, and the last run of each job."""
    database = call.settings.database
    with open_store(database, read_only=True) as store:
        found = store.read_status(database, now=call.moment)
    paused = found.paused
    if call.json:
        document = asdict(found) | {"paused": paused._asdict() if paused else None}
        del document["database"]
        sizes = storage(found.database)
        show_document({"database": found.database.path, "storage": sizes, **document})
        return
    state = ", current" if not found.problem else ""
    if found.pending:
        state = f", pending: {', '.join(found.pending)}"
    facts = {
        "database": f"{found.database.path} ({_size(found.database)})",
        "schema": f"step {found.schema_step}{state}",
        "memories": "no table" if found.memories is None else f"{found.memories:,}",
        "archived": "no table" if found.archived is None else f"{found.archived:,}",
        "problem": found.problem,
        "paused": paused and f"until {paused.until or '`memctl resume`'}: {paused.reason}",
    }
    if isinstance(found, ServerStatus) and found.running:
        running = found.running
        facts["running"] = f"{running.job} (process {running.pid} on {running.host})"
    facts |= {
        feature.feature: FEATURE_STATES[feature.state].format(**asdict(feature))
        for feature in found.features
        if feature.state != "off"
    }
    show_facts((name, fact) for name, fact in facts.items() if fact is not None)
    show_records(map(asdict, found.jobs), JOBS, Output("table", call.moment))


def _size(database: DatabaseSize) -> str:
    """Return the size of the file, and its free pages."""
    size = readable_bytes(database.size_bytes)
    if not database.free_pages or database.free_bytes is None:
        return size
    free = readable_bytes(database.free_bytes)
    return f"{size}, of which {free} in {counted(database.free_pages, 'free page')}"
