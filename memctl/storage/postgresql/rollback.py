"""Rolling back steps of the schema on a server, down to a database without anything of memctl.

No backup is made: what the tables contain is deleted. The memories themselves are never deleted.
"""

from memctl.errors import RefusedError, UsageError
from memctl.storage.migrations import Migration, step_name
from memctl.storage.postgresql import migrations
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.lease import Lease
from memctl.storage.schema_changes import ServerRollback, ServerRollbackPreview

STEP_WITH_MEMORIES = 1
STEP_WITH_ARCHIVE = 2

AS_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"

# A change of nothing, which takes the lock that DROP TABLE needs: what is counted after it is what
# is deleted, because each statement sees what was committed before it.
BLOCK = {
    STEP_WITH_MEMORIES: "ALTER TABLE agent_memory ALTER COLUMN id DROP DEFAULT",
    STEP_WITH_ARCHIVE: "ALTER TABLE archived_memories ALTER COLUMN id DROP DEFAULT",
}

FORGET_STEP = "DELETE FROM memctl_migrations WHERE version = %(version)s"
COUNT_ARCHIVED = "SELECT count(*) FROM archived_memories"
COUNT_DAYS = "SELECT count(DISTINCT snapshot_date) FROM memory_analytics"


def roll_back(db: Database, lease: Lease | None, *, to: int, confirmed: bool) -> ServerRollback:
    """Roll back every step above version `to`, the newest first, in one transaction.

    `lease` excludes other memctl processes; None if the database has no table of leases. Raises
    RefusedError, before anything is changed, if memories would be lost, or if archived ones or
    figures would and `confirmed` is false.
    """

    def work() -> ServerRollback:
        if lease:
            lease.renew(db)
        steps = find_steps(db, to=to)
        for step in steps:
            db.execute(BLOCK[step.version])
        result = _losses(db, steps, to=to)
        if result.lost and not confirmed:
            raise RefusedError(
                f"{result.lost} would be deleted",
                "first run `memctl export --all --archived-only`, or make a copy with pg_dump; then"
                " confirm with --yes; nothing was changed",
            )
        for step in steps:
            db.execute(step.down)
            db.execute(FORGET_STEP, {"version": step.version})
        if steps and not result.schema_step:
            db.execute("DROP TABLE memctl_migrations")
        return result

    return db.transaction(work, first=AS_COMMITTED)


def preview_rollback(db: Database, *, to: int) -> ServerRollbackPreview:
    """Return what `roll_back` would do; reads only. Raises the same errors, except to confirm."""
    steps = find_steps(db, to=to)
    result = _losses(db, steps, to=to)
    return ServerRollbackPreview(
        **{**vars(result), "dry_run": True},
        to_confirm=f"{result.lost} would be deleted" if result.lost else None,
        removes=[name for step in steps for name in reversed(migrations.objects_of(step))],
    )


def find_steps(db: Database, *, to: int) -> list[Migration]:
    """Return the applied steps above version `to`, the newest first.

    Raises UsageError if there is no such version, and SchemaError for a changed or newer schema.
    """
    migrations.pending(db)
    present = {record.version for record in migrations.applied(db)}
    if to < 0 or (present and to > max(present)):
        raise UsageError(
            f"cannot roll back to step {to}",
            f"the database is at step {migrations.schema_step(db)}",
        )
    found = [step for step in migrations.available() if step.version in present]
    return [step for step in reversed(found) if step.version > to]


def _losses(db: Database, steps: list[Migration], *, to: int) -> ServerRollback:
    """Return what is deleted with these steps. Raises RefusedError for active memories."""
    versions = {step.version for step in steps}
    if STEP_WITH_MEMORIES in versions and db.row("SELECT 1 FROM agent_memory LIMIT 1"):
        raise RefusedError(
            "step 001 cannot be rolled back: agent_memory contains memories",
            "`memctl rollback --to 1` rolls back the other steps; to remove all, export them with"
            " `memctl export --all`, and then delete them with SQL; nothing was changed",
        )
    has_archive = STEP_WITH_ARCHIVE in versions
    return ServerRollback(
        database=str(db.address),
        schema_step=min(to, migrations.schema_step(db)),
        rolled_back=[*map(step_name, steps)],
        backup=None,
        archived_deleted=db.value(COUNT_ARCHIVED) if has_archive else 0,
        days_deleted=db.value(COUNT_DAYS) if has_archive else 0,
    )
