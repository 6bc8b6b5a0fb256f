"""Look for what is wrong with a database, and with the care it is given.

Every look is short, so that nobody's checkpoint waits for it. Only the two that let SQLite read
the whole file are not, and therefore must be asked for: `quick` and `full`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import Literal, NamedTuple

from memctl.config.policies import AlertPolicy, CheckPolicy
from memctl.errors import SchemaError
from memctl.insight.check_jobs import find_in_jobs, find_in_numbers
from memctl.insight.check_memories import find_in_memories
from memctl.insight.check_stamps import find_in_stamps
from memctl.insight.findings import Finding
from memctl.insight.metrics import database_size
from memctl.storage.spool import Failure
from memctl.storage.sqlite import migrations
from memctl.storage.sqlite.alerts import count_memories
from memctl.storage.sqlite.backup import STAMP
from memctl.storage.sqlite.database import table_exists
from memctl.storage.sqlite.features import read_features
from memctl.storage.sqlite.locking import somebody_is_at_work
from memctl.storage.sqlite.manifests import manifest_path, read_manifest
from memctl.storage.sqlite.service_events import service_events_obstacle

Depth = Literal["quick", "full"]

HUGE_WAL_BYTES = 256 << 20  # beside a busy writer a job leaves about a fifth of it
MOST_DAMAGES = 5

# The first and the last of what the steps of the schema create.
NEEDED_TABLES = ("agent_memory", "archived_memories", "memory_runs", "memory_state")


class Wanted(NamedTuple):
    """By what a database is measured."""

    alerts: AlertPolicy = AlertPolicy()
    check: CheckPolicy = CheckPolicy()
    service_events: bool = False


@dataclass(frozen=True)
class CheckResult:
    """What was found, the worst first, and a few figures for those who draw them."""

    findings: list[Finding]
    depth: Depth | None
    memories: int | None  # None: the schema is not there to be looked at
    size_bytes: int
    wal_bytes: int

    def count(self, severity: str) -> int:
        """Return how many findings there are of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def check(
    db: Connection,
    path: Path,
    wanted: Wanted,
    *,
    now: datetime,
    depth: Depth | None = None,
    spooled: Sequence[Failure] = (),
) -> CheckResult:
    """Look at everything; reads only. `spooled` are failures that the ledger does not know yet."""
    size = database_size(path)
    findings = [*_find_in_file(db, size.wal_bytes, depth), *_find_in_schema(db)]
    memories = None
    if all(table_exists(db, table) for table in NEEDED_TABLES):
        of_agents = count_memories(db)
        memories = sum(of_agents.values())
        findings += _find_in_features(db, wanted)
        findings += find_in_memories(db, now=now)
        findings += find_in_stamps(db, now=now)
        findings += find_in_numbers(db, of_agents, wanted.alerts, now=now)
        findings += find_in_jobs(db, path, wanted.check, now=now, spooled=spooled)
    findings += _find_in_backups(path, wanted.check, now=now)
    order = ("error", "warning", "info")
    return CheckResult(
        findings=sorted(findings, key=lambda finding: order.index(finding.severity)),
        depth=depth,
        memories=memories,
        size_bytes=size.size_bytes,
        wal_bytes=size.wal_bytes,
    )


def _find_in_file(db: Connection, wal_bytes: int, depth: Depth | None) -> Iterator[Finding]:
    if depth:
        pragma = "integrity_check" if depth == "full" else "quick_check"
        for (damage,) in db.execute(f"PRAGMA {pragma}({MOST_DAMAGES})").fetchall():
            if damage != "ok":
                yield Finding(
                    "error",
                    "damaged",
                    f"the file is damaged: {damage}",
                    "stop the programs that use it and restore a backup, or try `sqlite3 FILE"
                    " .recover`",
                )
    (mode,) = db.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal":
        yield Finding(
            "warning",
            "journal_mode",
            f"the journal mode is {mode}: writers and readers hold each other up",
            "while nobody uses it, run `PRAGMA journal_mode = WAL`",
        )
    if wal_bytes > HUGE_WAL_BYTES:
        yield Finding(
            "warning",
            "wal_size",
            f"the write-ahead log has {wal_bytes >> 20} MB",
            "somebody keeps a read transaction open for long",
            fix="move it into the database",
        )


def _find_in_schema(db: Connection) -> Iterator[Finding]:
    try:
        migrations.require_current(db)
    except SchemaError as error:
        yield Finding("error", "schema", error.message, error.hint)


def _find_in_features(db: Connection, wanted: Wanted) -> Iterator[Finding]:
    for feature in read_features(db):
        if feature.state in ("outdated", "missing"):
            what = "is gone" if feature.state == "missing" else "is not what it should be"
            yield Finding(
                "warning",
                f"feature_{feature.state}",
                f"{feature.feature} is enabled, but its trigger {what}",
                f"run `memctl enable {feature.feature}`",
                fix=f"enable {feature.feature} again",
            )
    obstacle = service_events_obstacle(db) if wanted.service_events else None
    if obstacle:
        yield Finding(
            "warning",
            "service_events",
            f"the service is not told of runs: {obstacle}",
            "set events = false in [observability], or use it with the service it is for",
        )


def drafts_left(path: Path) -> list[Path]:
    """Return what backups that were killed have left beside the database.

    While a memctl is at work it may be its own.
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
                "`--keep` neither counts nor removes it: remove it when it is no longer needed",
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
                "make one" if scheduled else "make them regularly, unless you do so elsewhere",
            )
    elif not files:
        yield Finding(
            "info",
            "no_backup",
            "there is no backup beside the database",
            "make them regularly, unless you do so elsewhere",
        )
    left = drafts_left(path)
    if left and not somebody_is_at_work(path):
        yield Finding(
            "info",
            "backup_draft",
            f"a backup that was killed has left {left[0].name}",
            "it is of no use",
            fix=f"remove {len(left)} drafts",
        )
