"""Mend what a check found, as far as that is safe: no memory is touched."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from sqlite3 import Connection

from memctl.insight.check import drafts_left
from memctl.insight.findings import Finding
from memctl.jobs.features import enable
from memctl.storage.sqlite.database import transaction
from memctl.storage.sqlite.features import read_features
from memctl.storage.times import to_text

TRUNCATE_WAIT_MS = 100  # nobody can write while it waits

# The caller holds memctl's lock, so none of them is running.
END_CRASHED_RUNS = """
    UPDATE memory_runs
    SET status = 'failed', finished_at = :now, error = 'it was killed, or the machine stopped'
    WHERE status = 'running'
"""


def fix_findings(db: Connection, path: Path, findings: Sequence[Finding], *, now: datetime) -> None:
    """Do what the findings offer as their fix. The caller holds memctl's lock."""
    codes = {finding.code for finding in findings if finding.fix}
    if "crashed" in codes:
        with transaction(db):
            db.execute(END_CRASHED_RUNS, {"now": to_text(now)})
    if codes & {"feature_missing", "feature_outdated"}:
        for status in read_features(db):
            if status.state in ("missing", "outdated"):
                enable(db, status.feature, now=now)
    if "backup_draft" in codes:
        for draft in drafts_left(path):
            draft.unlink(missing_ok=True)
    if "wal_size" in codes:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the long part, which holds no lock
        db.execute(f"PRAGMA busy_timeout = {TRUNCATE_WAIT_MS}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
