"""What a migration or a rollback of the schema has done, or would do."""

from dataclasses import dataclass

from memctl.errors import counted


@dataclass(frozen=True)
class MigrateResult:
    """The steps that were applied, the backup, and the triggers of other programs."""

    database: str
    schema_step: int  # after the migration
    applied: list[str]
    created: bool  # the file was empty or did not exist
    baseline: bool
    backup: str | None
    triggers: list[str]
    dry_run: bool = False


@dataclass(frozen=True)
class MigratePreview(MigrateResult):
    """What a migration would do, what it would add to the schema, and its SQL."""

    dry_run: bool = True
    adds: list[str] | None = None  # None: unknown, because the schema needs another SQLite
    sql: str = ""


@dataclass(frozen=True)
class RollbackResult:
    """The steps that were rolled back, and what remains where."""

    database: str
    schema_step: int  # after the rollback
    rolled_back: list[str]
    backup: str | None
    archived_in_backup: int = 0  # which the database no longer has
    tombstones: int = 0  # which the database keeps
    dry_run: bool = False


@dataclass(frozen=True)
class RollbackPreview(RollbackResult):
    """What a rollback would do, what it would remove from the schema, and its SQL."""

    dry_run: bool = True
    to_confirm: str | None = None  # what --yes confirms
    removes: list[str] | None = None  # None: unknown, because the schema needs another SQLite
    sql: str = ""


@dataclass(frozen=True)
class ServerRollback(RollbackResult):
    """What a rollback on a server has deleted; no backup is made there."""

    archived_deleted: int = 0  # archived memories
    days_deleted: int = 0  # days with figures

    @property
    def lost(self) -> str:
        """What is deleted, as a part of a sentence; empty if nothing is."""
        found = []
        if self.archived_deleted:
            found.append(counted(self.archived_deleted, "archived memory"))
        if self.days_deleted:
            found.append(f"the figures of {counted(self.days_deleted, 'day')}")
        return " and ".join(found)


@dataclass(frozen=True)
class ServerRollbackPreview(ServerRollback):
    """What a rollback on a server would do, and what it would remove from the schema."""

    dry_run: bool = True
    to_confirm: str | None = None  # what --yes confirms
    removes: list[str] | None = None
