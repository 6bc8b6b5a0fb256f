"""What `memctl migrate` and `memctl rollback` print."""

from collections.abc import Iterable, Iterator

from memctl.errors import counted
from memctl.storage.addresses import Address, ServerAddress
from memctl.storage.schema_changes import (
    MigratePreview,
    MigrateResult,
    RollbackPreview,
    RollbackResult,
    ServerRollback,
    ServerRollbackPreview,
)

FIRST_STEP = "001_agent_memory"
USE_PG_DUMP = "on a server, use pg_dump"


def migrated(result: MigrateResult, database: Address) -> Iterator[str]:
    """Yield the sentences about the steps that were applied, and their consequences."""
    if not result.applied:
        yield f"migrate: {database} is up to date"
        return
    if result.created:
        yield f"migrate: created {database}"
    yield f"migrate: applied {', '.join(result.applied)} to {database}"
    if result.baseline:
        yield "migrate: agent_memory already existed and was kept unchanged"
    yield from _consequences(result)
    if result.backup:
        yield f"migrate: the previous database was saved as {result.backup}"
    elif isinstance(database, ServerAddress) and FIRST_STEP not in result.applied:
        yield f"migrate: made no backup: {USE_PG_DUMP}"


def would_migrate(preview: MigratePreview, database: Address) -> Iterator[str]:
    """Yield the sentences about what a migration would do."""
    if not preview.applied:
        yield f"migrate: {database} is up to date"
        return
    if preview.created:
        yield f"migrate: would create {database}"
    if preview.backup:
        yield f"migrate: would first save the database as {preview.backup}"
    elif isinstance(database, ServerAddress) and FIRST_STEP not in preview.applied:
        yield f"migrate: would make no backup: {USE_PG_DUMP}"
    elif not isinstance(database, ServerAddress) and not preview.created:
        yield "migrate: would make no backup"
    yield f"migrate: would apply {', '.join(preview.applied)} to {database}"
    if preview.baseline:
        yield "migrate: agent_memory already exists and would be kept unchanged"
    if preview.adds:
        yield f"migrate: would add to the schema: {_by_kind(preview.adds)}"
    yield from _consequences(preview)


def _by_kind(objects: Iterable[str]) -> str:
    """Return objects of a schema, such as `table a`, as a text such as `tables a, b; index c`."""
    names: dict[str, list[str]] = {}
    for kind, _, name in (text.partition(" ") for text in objects):
        names.setdefault(kind, []).append(name)
    plurals = {"index": "indexes"}
    return "; ".join(
        f"{kind if len(some) == 1 else plurals.get(kind, f'{kind}s')} {', '.join(some)}"
        for kind, some in names.items()
    )


def _consequences(result: MigrateResult) -> Iterator[str]:
    had_memories = result.baseline or FIRST_STEP not in result.applied
    if had_memories and "002_memory_persistence" in result.applied:
        yield (
            "migrate: the first `memctl decay` will charge all idle time up to now; preview it with"
            " --dry-run, or set `since` under [decay] in the configuration"
        )
    if result.triggers:
        triggers = ", ".join(result.triggers)
        yield f"migrate: triggers of other programs also fire on changes by memctl: {triggers}"


def rolled_back(
    result: RollbackResult, database: Address, command: str | None = None
) -> Iterator[str]:
    """Yield the sentences about the steps that were rolled back."""
    if not result.rolled_back:
        yield f"rollback: {database} has no steps to roll back"
        return
    yield f"rollback: rolled back {', '.join(result.rolled_back)}"
    if result.backup:
        yield f"rollback: the previous database{_with(result)} was saved as {result.backup}"
    if isinstance(result, ServerRollback) and result.lost:
        yield f"rollback: deleted {result.lost}"
    if result.tombstones:
        yield f"rollback: kept {_kept(result)}"
    if command:
        yield f"rollback: to bring the archive back, run: {command}"


def would_roll_back(
    preview: RollbackPreview | ServerRollbackPreview, database: Address, command: str | None = None
) -> Iterator[str]:
    """Yield the sentences about what a rollback would do."""
    if not preview.rolled_back:
        yield f"rollback: {database} has no steps to roll back"
        return
    if preview.backup:
        yield f"rollback: would first save the database{_with(preview)} as {preview.backup}"
    elif isinstance(database, ServerAddress):
        yield f"rollback: would make no backup: {USE_PG_DUMP}"
    yield f"rollback: would roll back {', '.join(preview.rolled_back)}"
    if preview.removes:
        yield f"rollback: would remove from the schema: {_by_kind(preview.removes)}"
    if preview.to_confirm:
        yield f"rollback: would require --yes: {preview.to_confirm}"
    if preview.tombstones:
        yield f"rollback: would keep {_kept(preview)}"
    if command:
        yield f"rollback: this command would then bring the archive back: {command}"


def _with(result: RollbackResult) -> str:
    """Return what only the backup has, as a part of a sentence."""
    archived = result.archived_in_backup
    return f", with {counted(archived, 'archived memory')}," if archived else ""


def _kept(result: RollbackResult) -> str:
    """Return what the database keeps, as a part of a sentence."""
    return (
        f"{counted(result.tombstones, 'tombstone')}, by which later imports and restores recognize"
        " what was erased; `DROP TABLE memory_tombstones` removes them"
    )
