"""Bring the schema of a database on a server up to date."""

from datetime import datetime

from memctl.storage.migrations import step_name
from memctl.storage.postgresql import migrations
from memctl.storage.postgresql.database import Database
from memctl.storage.times import to_text


def migrate(db: Database, *, now: datetime, to: int | None = None) -> list[str]:
    """Apply the pending steps, up to a number, and return their names."""
    migrations.require_utf8(db)
    migrations.create_records(db)
    steps = [step for step in migrations.pending(db) if to is None or step.version <= to]
    for step in steps:
        migrations.apply_step(db, step, now=to_text(now))
    return [*map(step_name, steps)]
