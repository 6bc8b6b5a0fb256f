"""Every command, with arguments with which it succeeds on a prepared database."""

from pathlib import Path

from tests.support.program import Words

# Every command that opens the database, and succeeds on the one that `memories` makes.
COMMANDS: dict[str, Words] = {
    "migrate": ("migrate",),
    "rollback": ("rollback", "--yes"),
    "migrate preview": ("migrate", "--dry-run"),
    "migrate sql": ("migrate", "--sql"),
    "rollback preview": ("rollback", "--dry-run"),
    "status": ("status",),
    "compact": ("compact", "--force"),
    "compact preview": ("compact", "--dry-run"),
    "run": ("run",),
    "cleanup": ("cleanup",),
    "decay": ("decay",),
    "prune": ("prune",),
    "promote": ("promote",),
    "snapshot": ("snapshot",),
    "archived": ("archived", "build_agent"),
    "archive": ("archive", "build_agent", "active"),
    "restore": ("restore", "build_agent", "archived"),
    "hold": ("hold", "build_agent", "archived", "--reason", "review", "--until", "30d"),
    "release": ("release", "build_agent", "--type", "learning", "--key", "held"),
    "holds": ("holds",),
    "metrics": ("metrics",),
    "report": ("report",),
    "remember": ("remember", "build_agent", "learning", "k", "new", "--keep-replaced"),
    "recall": ("recall", "build_agent", "learning", "k"),
    "list": ("list", "build_agent"),
    "forget": ("forget", "build_agent", "learning", "k"),
    "forget all": ("forget", "build_agent", "learning"),
    "summary": ("summary", "build_agent"),
    "search": ("search", "k"),
    "agents": ("agents",),
    "export": ("export", "build_agent"),
    "import": ("import", "--all", str(Path(__file__).with_name("export_of_nothing.json"))),
    "backup": ("backup",),
    "backup preview": ("backup", "--keep-daily", "7", "--dry-run"),
    "pause": ("pause", "--reason", "deploy"),
    "resume": ("resume",),
    "preview": ("cleanup", "--dry-run"),
    "events": ("events",),
    "runs": ("runs",),
    "explain": ("explain", "build_agent", "active"),
    "history": ("history", "build_agent", "learning", "k"),
    "check": ("check", "-q"),
    "enable": ("enable", "access-boost"),
    "disable": ("disable", "access-boost"),
    "schedule": ("schedule", "--cron", "--quiet"),
}


# Commands that need no database.
NEED_NO_DATABASE: dict[str, Words] = {
    "alerts": ("alerts", "test", "--config", str(Path(__file__).with_name("alerts.toml"))),
    "config show": ("config", "show"),
    "config path": ("config", "path", "--config", __file__),
    "config validate": ("config", "validate"),
    "config init": ("config", "init"),
    "schema": ("schema", "list"),
    "completion": ("completion", "bash"),
    "help": ("help",),
    "demo": ("demo", "--quiet"),
}


# Commands that work on a read-only database.
READING = (
    "migrate preview",
    "migrate sql",
    "rollback preview",
    "status",
    "compact preview",
    "archived",
    "holds",
    "list",
    "summary",
    "search",
    "agents",
    "metrics",
    "report",
    "preview",
    "export",
    "backup",
    "backup preview",
    "events",
    "runs",
    "explain",
    "history",
    "check",
    "schedule",
)
