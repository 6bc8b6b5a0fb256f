"""What people type: the examples of each command's help and of the manual page.

Read only when help is asked for. Each can be run as it stands, by a shell, on a database that has
an agent `build_agent` with a learning `toolchain` of the id `m-1`.
"""

from typing import NamedTuple


class Example(NamedTuple):
    """A purpose, and the command line that serves it."""

    purpose: str
    line: str


FIRST_STEPS = (
    Example("Look at four months of an invented fleet", "memctl demo"),
    Example("Bring the database that MEMCTL_DB names up to date", "memctl migrate"),
    Example("What would happen, and to which memories", "memctl cleanup --dry-run --list"),
    Example("One line that runs everything from now on", "memctl schedule --cron"),
    Example("How is memory doing, what is wrong", "memctl metrics --table; memctl check"),
)

MORE = """
Examples of a command: memctl COMMAND --help. All on one page: man memctl.
The settings in force, and where each comes from: memctl config show.
"""

EXAMPLES = {
    "demo": (
        Example("See what memctl does, on a database that goes again", "memctl demo"),
        Example("Keep it, to try commands on", "memctl demo --keep demo.db"),
    ),
    "migrate": (
        Example("Which steps are applied, and which pending", "memctl migrate --list"),
        Example("Apply them, with a checked copy made before", "memctl migrate"),
    ),
    "rollback": (
        Example("Back to the table that the service made", "memctl rollback --to 1 --yes"),
    ),
    "status": (Example("In one look", "memctl status"),),
    "run": (
        Example("What is due, and what it would do", "memctl run --dry-run"),
        Example("Do it, and tell what was not due", "memctl run --verbose"),
    ),
    "cleanup": (
        Example("What would be archived, memory by memory", "memctl cleanup --dry-run --list"),
        Example("Archive it, for at most a minute", "memctl cleanup --max-seconds 60"),
    ),
    "decay": (
        Example(
            "How much importance each memory of an agent would lose",
            "memctl decay --agent build_agent --dry-run --list",
        ),
    ),
    "prune": (
        Example("What a shorter retention would remove", "memctl prune --older-than 30d -n --list"),
    ),
    "promote": (
        Example("Why each memory is promoted, or is not", "memctl promote --dry-run --list"),
    ),
    "snapshot": (Example("Keep today's figures", "memctl snapshot"),),
    "archived": (
        Example(
            "What was archived in the last week and speaks of npm",
            "memctl archived build_agent --since 7d --search npm --table",
        ),
    ),
    "archive": (Example("Put a memory aside", "memctl archive build_agent m-1"),),
    "restore": (
        Example(
            "What would come back of all that expired yesterday and since",
            "memctl restore build_agent --reason expired --since 1d -n --list",
        ),
        Example(
            "Take back a memory, for another month",
            "memctl restore build_agent m-1 --expires-in 30d",
        ),
    ),
    "remember": (
        Example(
            "A value for a day",
            "memctl remember build_agent context task:7 'step 3' --expires-in 1d",
        ),
        Example(
            "A value from a file, byte for byte",
            "memctl remember build_agent learning readme - < README",
        ),
    ),
    "recall": (Example("The bare value", "memctl recall build_agent learning toolchain --value"),),
    "list": (
        Example("What an agent has learnt", "memctl list build_agent --type learning --table"),
    ),
    "forget": (
        Example("One memory, into the archive", "memctl forget build_agent learning toolchain"),
    ),
    "summary": (Example("What matters most to an agent", "memctl summary build_agent --table"),),
    "metrics": (
        Example("All agents, the largest first", "memctl metrics --table"),
        Example("A month, day by day, for a spreadsheet", "memctl metrics --history 30d --csv"),
        Example("For Prometheus' node exporter", "memctl metrics --prometheus -o memctl.prom"),
    ),
    "report": (
        Example("The last week, in a terminal", "memctl report"),
        Example(
            "A month as a page with charts",
            "memctl report --since 30d --format html -o report.html",
        ),
    ),
    "events": (
        Example("What became of an agent's memories", "memctl events --agent build_agent --table"),
        Example("All from the first on, one a line", "memctl events --since 0 --nl"),
    ),
    "runs": (Example("The runs that failed", "memctl runs --status failed --table"),),
    "explain": (Example("Why is it where it is", "memctl explain build_agent learning toolchain"),),
    "check": (
        Example("Is anything wrong", "memctl check"),
        Example("The same for a monitoring system", "memctl check --nagios"),
    ),
    "enable": (
        Example("Let nothing that a client deletes be lost", "memctl enable archive-on-delete"),
    ),
    "disable": (Example("And off again", "memctl disable archive-on-delete"),),
    "export": (
        Example("All that an agent has and had", "memctl export build_agent -o build_agent.json"),
        Example("Everything, packed", "memctl export --all | gzip > all.json.gz"),
    ),
    "import": (
        Example(
            "What would a document bring",
            "memctl export --all | memctl import --all - --dry-run --json",
        ),
    ),
    "backup": (
        Example("A checked copy, and only the newest seven kept", "memctl backup --keep 7"),
        Example("Somewhere else, to try things on", "memctl backup -o copy.db"),
    ),
    "pause": (
        Example("Leave memory alone for two hours", "memctl pause --reason deploying --for 2h"),
    ),
    "resume": (Example("Go on", "memctl resume"),),
    "schedule": (
        Example("A line for `crontab -e`", "memctl schedule --cron"),
        Example("A service and a timer for systemd", "memctl schedule --systemd"),
    ),
    "config": (
        Example("Every setting, and where it comes from", "memctl config show"),
        Example("A commented file to begin with", "memctl config init --config memctl.toml"),
    ),
    "alerts": (Example("Does the alert command work", "memctl alerts test || echo it does not"),),
    "completion": (
        Example("In this shell from now on", "source <(memctl completion bash)"),
        Example("A file for ~/.config/fish/completions", "memctl completion fish > memctl.fish"),
    ),
}


def examples_text(examples: tuple[Example, ...]) -> str:
    """Return the lines that stand at the end of a help text."""
    lines = [f"  {example.purpose}:\n    {example.line}\n" for example in examples]
    return "".join(["\nExamples:\n", *lines])
