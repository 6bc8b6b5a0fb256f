"""What differs on PostgreSQL: the source of what is refused there, and of the documentation.

Everything that is not named here does the same on both engines.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from memctl.config.settings import Settings
from memctl.errors import UsageError

# What to use instead of a command, and of an option of a command.
INSTEAD = {
    "alerts": "use the hooks of the configuration, or monitor `memctl runs --json`",
    "backup": "use pg_dump, or the server's own point-in-time recovery",
    "compact": "autovacuum reuses the space of deleted rows; see VACUUM in PostgreSQL's manual",
    "disable": "features are triggers of SQLite; there are none on PostgreSQL",
    "enable": "features are triggers of SQLite: use `memctl forget` instead of DELETE",
    "erase": "use `memctl forget` and `memctl prune`, then VACUUM",
    "explain": "use `memctl events --agent A --key K`, and `memctl archived`",
    "history": "use `memctl archived AGENT --key KEY`",
    "hold": "set expires_at to NULL and importance_decay_rate to 0",
    "holds": "there are no holds on PostgreSQL",
    "redact": "replace the text with UPDATE, in agent_memory and in archived_memories",
    "release": "there are no holds on PostgreSQL",
    "report": "use `memctl metrics --history 30d`",
}
OPTIONS_INSTEAD = {
    ("check", "--fix"): "correct the findings with SQL",
    ("check", "--full"): "use pg_amcheck",
    ("check", "--quick"): "use pg_amcheck",
    ("check", "--secrets"): "export the memories, and search the document",
    ("events", "--follow"): "run `memctl events --since CURSOR` repeatedly",
    ("migrate", "--sql"): "see the folder migrations/postgresql of the source",
    ("rollback", "--sql"): "see the folder migrations/postgresql of the source",
}
# By key of the configuration.
SETTINGS_INSTEAD = {
    "alerts.command": "use the failure hook of [hooks]",
    "observability.events": "use the hooks of [hooks]",
    "quota": "use expiry, or [prune] and [decay], to limit what an agent keeps",
    "report.every": "use `memctl metrics --history 30d`",
}


def unavailable_settings(settings: Settings) -> Mapping[str, str]:
    """Return the keys that are set but have no effect on PostgreSQL, and what to use instead."""
    if isinstance(settings.database, Path):
        return {}
    is_set = {
        "alerts.command": bool(settings.alert_command),
        "observability.events": settings.service_events,
        "quota": settings.quota.is_limited,
        "report.every": settings.report.every != "never",
    }
    return {key: instead for key, instead in SETTINGS_INSTEAD.items() if is_set[key]}


def require_available_settings(settings: Settings) -> None:
    """Raise UsageError for a key of the configuration that has no effect on PostgreSQL."""
    for key, instead in unavailable_settings(settings).items():
        raise UsageError(
            f"{settings.file}: {key} is not available on PostgreSQL", f"remove it; {instead}"
        )


class Difference(NamedTuple):
    """What a command does on each engine."""

    sqlite: str
    postgresql: str


DIFFERENCES = {
    "migrate": Difference(
        "creates the file; takes over the table of a service; makes a backup first",
        "the database must exist, without tables of these names; makes no backup",
    ),
    "rollback": Difference(
        "keeps what is removed in a backup",
        "deletes the archive and the figures after `--yes`; makes no backup",
    ),
    "status": Difference(
        "shows the free pages of the file, and the optional features",
        "shows the size of the database, and which process on which machine runs a job",
    ),
    "check": Difference(
        "checks the file, the memories, the jobs, the backups and the optional features",
        "checks the tables, the memories and the jobs",
    ),
    "snapshot": Difference(
        "counts accesses if the feature access-counting is enabled", "does not count accesses"
    ),
    "metrics": Difference(
        "shows the size of the file, of its write-ahead log and of its free pages",
        "shows the size of the database",
    ),
    "events": Difference(
        "lists every event at once; their numbers have no gaps",
        "lists those of clients after the next run; their numbers may have gaps",
    ),
    "demo": Difference("makes a SQLite file of its own", "the same; `--db` is refused"),
}


def refusal(command: str, given: Mapping[str, Any]) -> UsageError | None:
    """Return the error on PostgreSQL for a command with these options; None if there is none."""
    for of_command, option in OPTIONS_INSTEAD:
        if of_command == command and given[option.removeprefix("--")]:
            return refused_on_postgresql(command, option)
    return refused_on_postgresql(command) if command in INSTEAD else None


def refused_on_postgresql(command: str, option: str = "") -> UsageError:
    """Return the error for a command, or for one of its options, that needs a SQLite file."""
    if option:
        return UsageError(
            f"`memctl {command} {option}` is not available on PostgreSQL",
            OPTIONS_INSTEAD[command, option],
        )
    return UsageError(
        f"`memctl {command}` is not available on PostgreSQL",
        INSTEAD.get(command, "use a SQLite database"),
    )
