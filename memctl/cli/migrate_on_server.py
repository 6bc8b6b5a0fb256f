"""The commands migrate and rollback on a PostgreSQL server.

Without backup, rehearsal and the verification of a service's table, little is left of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from memctl.cli.options import GlobalOptions, LockOptions
from memctl.cli.session import show_result
from memctl.output.schema_changes import migrated, rolled_back, would_migrate, would_roll_back
from memctl.storage.addresses import ServerAddress
from memctl.storage.engines import exclusive, open_server
from memctl.storage.migrations import Applied, Migration, require_step

if TYPE_CHECKING:  # they import psycopg
    from memctl.storage.postgresql.lease import Lease


def migrate_on_server(
    call: GlobalOptions, address: ServerAddress, *, to: int | None, dry_run: bool
) -> None:
    """Apply the pending steps, or show what would be done."""
    with open_server(address) as db:
        from memctl.storage.postgresql.migrate import migrate, preview_migration
        from memctl.storage.postgresql.migrations import available

        if to is not None:
            require_step(to, available())
        if dry_run:
            preview = preview_migration(db, to=to)
            document = asdict(preview)
            del document["sql"]
            show_result(call, document, *would_migrate(preview, address))
            return
        result = migrate(db, now=call.moment, to=to)
    show_result(call, asdict(result), *migrated(result, address))


def roll_back_on_server(
    call: GlobalOptions,
    lock: LockOptions,
    address: ServerAddress,
    last_step: Callable[[Sequence[Applied]], int],
    *,
    dry_run: bool,
    confirmed: bool,
) -> None:
    """Roll back steps, or show what would be done.

    `last_step` returns the last step to keep, from those that the database has.
    """
    with open_server(address) as db:
        from memctl.storage.postgresql.migrations import applied, table_exists
        from memctl.storage.postgresql.rollback import preview_rollback, roll_back

        last = last_step(applied(db))
        if dry_run:
            preview = preview_rollback(db, to=last)
            show_result(
                call,
                {**asdict(preview), "archive_command": None},
                *would_roll_back(preview, address),
            )
            return
        with _lease(address, lock, needed=table_exists(db, "memory_leases")) as lease:
            result = roll_back(db, lease, to=last, confirmed=confirmed)
    document = {**asdict(result), "archive_command": None}
    show_result(call, document, *rolled_back(result, address))


def steps_on_server(
    address: ServerAddress,
) -> tuple[list[Migration], list[Applied], list[Migration]]:
    """Return all steps, those that the database has, and the pending ones."""
    with open_server(address) as db:
        from memctl.storage.postgresql.migrations import applied, available, pending

        return available(), applied(db), pending(db)


@contextmanager
def _lease(address: ServerAddress, lock: LockOptions, *, needed: bool) -> Iterator["Lease | None"]:
    """Exclude other memctl processes, if the database has the table for that."""
    if not needed:
        yield None
        return
    with exclusive(address, job="rollback", wait=lock.lock_wait) as lease:
        yield lease
