"""Check a database, its jobs and its backups for problems.

Every query is short, so that it does not delay a checkpoint. The exceptions are the two checks in
which SQLite reads the whole file, `quick` and `full`, which must be requested.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from memctl.config.policies import AlertPolicy, CheckPolicy, QuotaPolicy
from memctl.errors import SchemaError
from memctl.insight.check_erasures import find_in_erasures
from memctl.insight.check_jobs import find_in_jobs, find_in_numbers
from memctl.insight.check_memories import find_in_memories
from memctl.insight.check_quota import find_in_quotas
from memctl.insight.check_secrets import MemoryWithSecrets, find_written_again
from memctl.insight.check_timestamps import find_in_timestamps
from memctl.insight.findings import Finding, by_severity
from memctl.storage.progress import NO_PROGRESS, Progress
from memctl.storage.rows import DatabaseSize
from memctl.storage.spool import Failure
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.alerts import count_memories
from memctl.storage.sqlite.backup_list import STAMP
from memctl.storage.sqlite.checks import find_damage, journal_mode
from memctl.storage.sqlite.database import Connection, table_exists
from memctl.storage.sqlite.features import hold_triggers_state, read_features
from memctl.storage.sqlite.locking import is_memctl_running
from memctl.storage.sqlite.manifests import manifest_path, read_manifest
from memctl.storage.sqlite.service_events import service_events_obstacle
from memctl.storage.sqlite.space import database_size

Depth = Literal["quick", "full"]

HUGE_WAL_BYTES = 256 << 20  # about five times its size after a job, while another program writes
MOST_DAMAGES = 5

BACK_UP_REGULARLY = "run `memctl backup` regularly, unless backups are made elsewhere"

# Created by the first and by the last of the migrations.
NEEDED_TABLES = ("agent_memory", "archived_memories", "memory_runs", "memory_state")


class CheckPolicies(NamedTuple):
    """The policies that apply to a check, and whether the service's events are expected."""

    alerts: AlertPolicy = AlertPolicy()
    check: CheckPolicy = CheckPolicy()
    service_events: bool = False
    quota: QuotaPolicy = QuotaPolicy()


@dataclass(frozen=True)
class CheckResult:
    """The findings, the most severe first, and figures for monitoring."""

    findings: list[Finding]
    depth: Depth | None
    memories: int | None  # None: tables are missing
    database: DatabaseSize
    secrets: Sequence[MemoryWithSecrets] | None = None  # None: not searched for

    def count(self, severity: str) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def check(
    db: Connection,
    path: Path,
    policies: CheckPolicies,
    *,
    now: datetime,
    depth: Depth | None = None,
    spooled: Sequence[Failure] = (),
    every_memory: bool = True,
    progress: Progress = NO_PROGRESS,
) -> CheckResult:
    """Run all checks; reads only. `spooled` are failures that are not yet in the ledger.

    Without `every_memory`, those that read all memories are left out; the others take a few
    milliseconds.
    """
    database = database_size(db, path)
    progress.phase("reading the whole file" if depth else "reading")
    findings = [*_find_in_file(db, database.wal_bytes, depth), *_find_in_schema(db)]
    progress.phase("checking memories")
    memories = None
    if all(table_exists(db, table) for table in NEEDED_TABLES):
        of_agents = count_memories(db)
        memories = sum(of_agents.values())
        findings += _find_in_features(db, policies)
        if every_memory:
            findings += find_in_memories(db, now=now)
            findings += find_in_timestamps(db, now=now)
            findings += find_in_quotas(db, policies.quota, policies.check, now=now)
            findings += find_written_again(db)
        findings += find_in_erasures(db, every_memory=every_memory)
        findings += find_in_numbers(db, of_agents, policies.alerts, now=now)
        findings += find_in_jobs(db, path, policies.check, now=now, spooled=spooled)
    findings += _find_in_backups(path, policies.check, now=now)
    return CheckResult(
        findings=by_severity(findings),
        depth=depth,
        memories=memories,
        database=database,
    )


def _find_in_file(db: Connection, wal_bytes: int | None, depth: Depth | None) -> Iterator[Finding]:
    if depth:
        for damage in find_damage(db, full=depth == "full", limit=MOST_DAMAGES):
            yield Finding(
                "error",
                "damaged",
                f"the file is damaged: {damage}",
                "stop the programs that use it and restore a backup, or try `sqlite3 FILE"
                " .recover`",
            )
    mode = journal_mode(db)
    if mode != "wal":
        yield Finding(
            "warning",
            "journal_mode",
            f"the journal mode is {mode}: readers and writers block each other",
            "run `PRAGMA journal_mode = WAL` while no other program uses the database",
        )
    if wal_bytes is not None and wal_bytes > HUGE_WAL_BYTES:
        yield Finding(
            "warning",
            "wal_size",
            f"the size of the write-ahead log is {wal_bytes >> 20} MB",
            "a program keeps a read transaction open for a long time",
            fix="move it into the database, and truncate it",
        )


def _find_in_schema(db: Connection) -> Iterator[Finding]:
    try:
        migrations.require_current(db)
    except SchemaError as error:
        yield Finding("error", "schema", error.message, error.hint)


def _find_in_features(db: Connection, policies: CheckPolicies) -> Iterator[Finding]:
    for feature in read_features(db):
        if feature.state in ("outdated", "missing"):
            problem = "are missing" if feature.state == "missing" else "are outdated"
            yield Finding(
                "warning",
                f"feature_{feature.state}",
                f"{feature.feature} is enabled, but its triggers {problem}",
                f"run `memctl enable {feature.feature}`",
                fix=f"enable {feature.feature} again",
            )
    hold_triggers = hold_triggers_state(db)
    if hold_triggers in ("outdated", "missing"):
        yield Finding(
            "warning",
            "hold_triggers",
            f"memories are held, but a trigger that archives what clients delete or replace of them"
            f" is {hold_triggers}",
            "run `memctl check --fix`",
            fix="renew the triggers of held memories",
        )
    obstacle = service_events_obstacle(db) if policies.service_events else None
    if obstacle:
        yield Finding(
            "warning",
            "service_events",
            f"runs are not recorded in the service's events: {obstacle}",
            "set events = false in [observability], or use a database of the service",
        )


def drafts_left(path: Path) -> list[Path]:
    """Return the files that interrupted backups have left beside the database.

    While another memctl is running, they may belong to it.
    """
    path = path.resolve()
    draft = re.compile(rf"\.{re.escape(path.name)}\.(before|backup)-")
    return sorted(file for file in path.parent.iterdir() if draft.match(file.name))


def _find_in_backups(path: Path, policy: CheckPolicy, *, now: datetime) -> Iterator[Finding]:
    path = path.resolve()
    backup = re.compile(
        rf"{re.escape(path.name)}\.(before-[a-z]+|backup)-(\d{{8}}T\d{{6}}Z)(-\d+)?"
    )
    files = {
        file: match for file in path.parent.iterdir() if (match := backup.fullmatch(file.name))
    }
    stamps = {file: datetime.strptime(files[file][2], STAMP).replace(tzinfo=UTC) for file in files}
    for file in sorted(files):
        manifest = read_manifest(manifest_path(file))
        if stamps[file] > now or (manifest and manifest.is_from_future(now=now)):
            del stamps[file]
            yield Finding(
                "warning",
                "backup_in_future",
                f"the backup {file.name} has a time in the future",
                "`--keep` neither counts nor deletes it: delete it when it is no longer needed",
            )
    if stamps:
        newest = max(stamps.values())
        old = now - newest > timedelta(days=policy.backup_days)
        scheduled = any(files[file][1] == "backup" for file in stamps)
        if old:
            yield Finding(
                "warning" if scheduled else "info",
                "backup_age",
                f"the newest backup beside the database is {(now - newest).days} days old",
                "run `memctl backup`" if scheduled else BACK_UP_REGULARLY,
            )
    elif not files:
        yield Finding(
            "info", "no_backup", "there is no backup beside the database", BACK_UP_REGULARLY
        )
    left = drafts_left(path)
    if left and not is_memctl_running(path):
        yield Finding(
            "info",
            "backup_draft",
            f"an interrupted backup left the file {left[0].name}",
            "it is incomplete and can be deleted",
            fix=f"delete files of interrupted backups: {len(left)}",
        )
