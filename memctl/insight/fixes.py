"""Fix findings of a check where that is safe; memories are never changed."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from memctl.insight.check import drafts_left
from memctl.insight.findings import Finding
from memctl.storage.sqlite.checks import truncate_log
from memctl.storage.sqlite.database import Connection, transaction
from memctl.storage.sqlite.features import enable, read_features, renew_triggers
from memctl.storage.sqlite.run_summaries import end_crashed_runs


def fix_findings(db: Connection, path: Path, findings: Sequence[Finding], *, now: datetime) -> None:
    """Apply the fixes that the findings offer. The caller holds memctl's lock."""
    codes = {finding.code for finding in findings if finding.fix}
    if "crashed" in codes:
        with transaction(db):
            end_crashed_runs(db, now=now)
    if codes & {"feature_missing", "feature_outdated"}:
        for status in read_features(db):
            if status.state in ("missing", "outdated"):
                enable(db, status.feature, now=now)
    if "hold_triggers" in codes:
        with transaction(db):
            renew_triggers(db)
    if "backup_draft" in codes:
        for draft in drafts_left(path):
            draft.unlink(missing_ok=True)
    if "wal_size" in codes:
        truncate_log(db)
