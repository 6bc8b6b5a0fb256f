"""The examples in the help of each command and in the manual page.

Imported only for help. A shell can run each example unchanged on a database with an agent
`build_agent` that has a learning `toolchain` with the id `m-1`.
"""

from typing import NamedTuple


class Example(NamedTuple):
    """A command line and its purpose."""

    purpose: str
    line: str


FIRST_STEPS = (
    Example("Try memctl on four months of sample data", "memctl demo"),
    Example("Create or upgrade the database that MEMCTL_DB names", "memctl migrate"),
    Example("Preview which memories would be archived", "memctl cleanup --dry-run --list"),
    Example("Print crontab lines that run all jobs", "memctl schedule --cron"),
    Example("Show metrics, and check for problems", "memctl metrics --table; memctl check"),
)

MORE = """
Examples for a command: memctl COMMAND --help. Full manual: man memctl.
Settings and their sources: memctl config show.
"""

EXAMPLES = {
    "demo": (
        Example("Run the demo on a temporary database", "memctl demo"),
        Example("Save the database, to try commands on", "memctl demo --keep demo.db"),
    ),
    "migrate": (
        Example("List applied and pending steps", "memctl migrate --list"),
        Example("Show what the pending steps would do", "memctl migrate --dry-run"),
        Example("Print the SQL that would be executed", "memctl migrate --sql"),
        Example("Apply the pending steps, after a verified backup", "memctl migrate"),
    ),
    "rollback": (
        Example("Show what would be removed from the database", "memctl rollback --dry-run"),
        Example("Return to the table that the service created", "memctl rollback --to 1 --yes"),
    ),
    "status": (Example("Show the state of the database", "memctl status"),),
    "compact": (
        Example("Show how much smaller the file would become", "memctl compact --dry-run"),
        Example(
            "Rewrite it beside the service, so that later runs can work in steps",
            "memctl compact --incremental --force",
        ),
    ),
    "run": (
        Example("Show which jobs are due, and what they would do", "memctl run --dry-run"),
        Example("Run them, and report skipped jobs", "memctl run --verbose"),
        Example(
            "Run the due jobs of several databases",
            "memctl run --config-dir /etc/memctl/conf.d || echo failed",
        ),
    ),
    "cleanup": (
        Example("List the memories that would be archived", "memctl cleanup --dry-run --list"),
        Example("Archive for at most one minute", "memctl cleanup --max-seconds 60"),
    ),
    "decay": (
        Example(
            "Preview how much importance an agent's memories would lose",
            "memctl decay --agent build_agent --dry-run --list",
        ),
    ),
    "prune": (Example("Preview a shorter retention", "memctl prune --older-than 30d -n --list"),),
    "promote": (
        Example(
            "Show why each memory would or would not be promoted", "memctl promote --dry-run --list"
        ),
    ),
    "snapshot": (Example("Record today's figures", "memctl snapshot"),),
    "archived": (
        Example(
            "Search memories archived in the last week for npm",
            "memctl archived build_agent --since 7d --search npm --table",
        ),
    ),
    "archive": (Example("Archive a memory by id", "memctl archive build_agent m-1"),),
    "restore": (
        Example(
            "Preview restoring everything that expired in the last day",
            "memctl restore build_agent --reason expired --since 1d -n --list",
        ),
        Example(
            "Preview going back to the last version of a memory",
            "memctl restore build_agent --type learning --key k -n || echo none",
        ),
        Example(
            "Restore a memory for another 30 days",
            "memctl restore build_agent m-1 --expires-in 30d",
        ),
    ),
    "hold": (
        Example(
            "Hold a memory until the end of a review",
            "memctl hold build_agent m-1 --reason 'review 17' --until 30d",
        ),
        Example(
            "Hold all versions of a memory, whatever ids they have",
            "memctl hold build_agent --type learning --key toolchain",
        ),
    ),
    "release": (
        Example(
            "Release the hold on a memory",
            "memctl hold build_agent m-1 && memctl release build_agent m-1",
        ),
    ),
    "holds": (Example("List all holds as a table", "memctl holds --table"),),
    "remember": (
        Example(
            "Store a value for one day",
            "memctl remember build_agent context task:7 'step 3' --expires-in 1d",
        ),
        Example(
            "Store the content of a file",
            "memctl remember build_agent learning readme - < README",
        ),
    ),
    "recall": (
        Example("Print only the value", "memctl recall build_agent learning toolchain --value"),
    ),
    "list": (
        Example(
            "List an agent's learnings as a table",
            "memctl list build_agent --type learning --table",
        ),
        Example("List what all agents stored today", "memctl list --all --since 1d --table"),
    ),
    "forget": (Example("Archive one memory", "memctl forget build_agent learning toolchain"),),
    "summary": (
        Example("Summarize an agent's memories as tables", "memctl summary build_agent --table"),
    ),
    "search": (
        Example("Find memories that mention npm, active or archived", "memctl search npm --table"),
        Example(
            "Find an agent's archived memories by a text that starts with a dash",
            "memctl search --agent build_agent --archived -- --frozen",
        ),
    ),
    "agents": (
        Example("Show when each agent last wrote and read memories", "memctl agents --table"),
    ),
    "redact": (
        Example(
            "Show how much a redaction would change",
            "memctl redact build_agent m-1 --match 'cache the' --dry-run",
        ),
        Example(
            "Redact a text that is read from stdin",
            "echo cache the | memctl redact build_agent m-1 --match - --yes",
        ),
    ),
    "metrics": (
        Example("Show all agents, largest first", "memctl metrics --table"),
        Example("Export 30 days of daily figures as CSV", "memctl metrics --history 30d --csv"),
        Example(
            "Write a file for Prometheus' node exporter",
            "memctl metrics --prometheus -o memctl.prom",
        ),
    ),
    "report": (
        Example("Print a report of the last week", "memctl report"),
        Example(
            "Write a report of 30 days as an HTML page with charts",
            "memctl report --since 30d --format html -o report.html",
        ),
    ),
    "events": (
        Example(
            "Show the events of an agent's memories", "memctl events --agent build_agent --table"
        ),
        Example("Print the first events, one per line", "memctl events --since 0 --nl"),
    ),
    "runs": (Example("List failed runs", "memctl runs --status failed --table"),),
    "explain": (Example("Explain a memory", "memctl explain build_agent learning toolchain"),),
    "history": (
        Example(
            "List the versions of a memory", "memctl history build_agent learning toolchain --table"
        ),
    ),
    "check": (
        Example("Check for problems", "memctl check"),
        Example("Check from a monitoring system", "memctl check --nagios"),
        Example("Find memories with keys and tokens", "memctl check --secrets"),
    ),
    "enable": (
        Example("Archive what any client deletes", "memctl enable archive-on-delete"),
        Example("Archive what any client overwrites", "memctl enable archive-on-replace"),
    ),
    "disable": (Example("Disable it again", "memctl disable archive-on-delete"),),
    "export": (
        Example(
            "Export an agent's memories to a file", "memctl export build_agent -o build_agent.json"
        ),
        Example("Export all agents, compressed", "memctl export --all | gzip > all.json.gz"),
    ),
    "import": (
        Example(
            "Preview an import",
            "memctl export --all | memctl import --all - --dry-run --json",
        ),
    ),
    "backup": (
        Example("Make a verified backup and keep the newest seven", "memctl backup --keep 7"),
        Example(
            "Show which backups these rules would keep, and why",
            "memctl backup --keep-daily 7 --keep-weekly 5 --keep-monthly 12 -n",
        ),
        Example("List the backups beside the database", "memctl backup --list --table"),
        Example("Copy the database to another file", "memctl backup -o copy.db"),
    ),
    "erase": (
        Example(
            "Show what would be erased with one memory",
            "memctl erase build_agent m-1 --dry-run --list",
        ),
        Example(
            "Erase a memory from the database and from its backups",
            "memctl erase build_agent m-1 --backups --yes",
        ),
        Example(
            "Erase everything that contains a leaked text, and write a receipt",
            "memctl erase --all-agents --match toolchain --receipt r.json --yes",
        ),
    ),
    "pause": (Example("Pause all jobs for two hours", "memctl pause --reason deploying --for 2h"),),
    "resume": (Example("End the pause", "memctl resume"),),
    "schedule": (
        Example("Print lines for `crontab -e`", "memctl schedule --cron"),
        Example("Print services and timers for systemd", "memctl schedule --systemd"),
    ),
    "config": (
        Example("Show every setting and its source", "memctl config show"),
        Example("Create a commented configuration file", "memctl config init --config memctl.toml"),
    ),
    "alerts": (Example("Test the alert command", "memctl alerts test || echo failed"),),
    "schema": (Example("Print the JSON Schema of `memctl list`", "memctl schema list"),),
    "completion": (
        Example("Enable completion in this shell", "source <(memctl completion bash)"),
        Example(
            "Write a file for ~/.config/fish/completions", "memctl completion fish > memctl.fish"
        ),
    ),
    "help": (Example("Show the help of a command", "memctl help cleanup"),),
}


def examples_text(examples: tuple[Example, ...]) -> str:
    """Return the lines at the end of a help text."""
    lines = [f"  {example.purpose}:\n    {example.line}\n" for example in examples]
    return "".join(["\nExamples:\n", *lines])
