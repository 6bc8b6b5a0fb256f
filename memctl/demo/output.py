"""The output of `memctl demo`: a line for each scene, a table, and commands to try next."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from memctl.demo.fleet import FLEET, FORGOTTEN
from memctl.demo.story import Month, Scene
from memctl.insight.metrics import Metrics
from memctl.output.metrics import TABLE, metrics_document, metrics_note, metrics_records
from memctl.output.tables import Output, show_records
from memctl.output.terminal import show_document, show_styled

KEPT_AS = Path("demo.db")

LEFT = 11  # cells before the command of a scene

# Commands to try next, by what they do.
TRY_NEXT = {
    "print a health report": "report",
    "explain a restored memory": f"explain {FORGOTTEN[0]} {FORGOTTEN[1].type} {FORGOTTEN[1].key}",
    "list archived memories": "archived qa_agent --table --limit 5",
    "preview the next run": "run --dry-run",
    "check for problems": "check",
    "print a crontab line": "schedule --cron",
}


def show_beginning() -> None:
    """Print the headline."""
    sentence = f"Four months of {len(FLEET)} agents that store their memories in one SQLite file"
    show_styled((sentence, "bold"))
    show_styled()


def show_happened(happened: Scene | Month) -> None:
    """Print a scene, or the figures of a month."""
    if isinstance(happened, Scene):
        show_styled(
            (f"{happened.day:{LEFT}}", "dim"),
            (f"{happened.command:10}", "cyan"),
            (happened.sentence, ""),
        )
        return
    counts = happened._asdict()
    sums = [f"{counts.pop('written'):,} written", f"{counts.pop('reads'):,} reads"]
    name = f"month {counts.pop('month')}"
    sums += [f"{count:,} {what}" for what, count in counts.items() if count]
    show_styled((f"{name:{LEFT}}{', '.join(sums)}", "bold"))


def show_end(metrics: Metrics, *, program: str, kept: Path | None) -> None:
    """Print the metrics and commands to try next; `program` is how memctl was called."""
    show_styled()
    show_metrics(metrics)
    show_styled((metrics_note(metrics), "dim"))
    show_styled()
    database = shlex.quote(str(kept or KEPT_AS))
    commands = {what: f"--db {database} {words}" for what, words in TRY_NEXT.items()}
    if kept is None:
        commands = {"save the database first": f"demo --keep {database}", **commands}
    show_styled(("Try next", "bold"))
    width = max(map(len, commands))
    for what, words in commands.items():
        show_styled((f"  {what:{width}}  ", "dim"), (f"{program} {words}", "green"))


def show_metrics(metrics: Metrics) -> None:
    """Print the table that `memctl metrics --table` prints."""
    show_records(metrics_records(metrics), TABLE, Output("table", metrics.at))


def show_json(metrics: Metrics, happened: Sequence[Scene | Month], *, kept: Path | None) -> None:
    """Print scenes, months and metrics as one JSON document."""
    figures = metrics_document(metrics)
    del figures["database"], figures["jobs"]  # a temporary file; figures of this machine
    show_document(
        {
            "database": None if kept is None else str(kept),
            "scenes": [one._asdict() for one in happened if isinstance(one, Scene)],
            "months": [one._asdict() for one in happened if isinstance(one, Month)],
            "metrics": figures,
        }
    )
