"""The command demo."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from memctl.cli.options import GlobalOptions
from memctl.errors import UsageError
from memctl.storage.engines import open_store
from memctl.storage.sqlite.files import output_path


def demo(
    call: GlobalOptions,
    keep: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=output_path, help="Save the demo database to this new file."
        ),
    ] = None,
) -> None:
    """Simulate four months of a fleet of agents in about a second, using the real jobs.

    Uses a temporary database, which --keep saves to a file, and the default configuration; reads
    no other database and no configuration file. With --quiet, prints only the metrics.
    """
    from memctl.cli.metrics import SPARKLINE
    from memctl.demo import output as demo_output
    from memctl.demo.story import demo_database, live
    from memctl.insight.metrics import read_metrics

    if call.db or call.config:
        raise UsageError(
            "demo uses its own database and the default configuration",
            "omit --db and --config; save the demo database with --keep FILE",
        )
    now = call.moment
    narrated = not (call.json or call.quiet)
    story = []
    with demo_database(keep) as path:
        if narrated:
            demo_output.show_beginning()
        for happened in live(path, now=now):
            story.append(happened)
            if narrated:
                demo_output.show_happened(happened)
        with open_store(path, read_only=True) as store:
            metrics = read_metrics(store, path, now=now, history=SPARKLINE)
    if call.json:
        demo_output.show_json(metrics, story, kept=keep)
    elif call.quiet:
        demo_output.show_metrics(metrics)
    else:
        demo_output.show_end(metrics, program=_program(), kept=keep)


def _program() -> str:
    """Return the command that starts this memctl in a shell."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m memctl"
    found = shutil.which("memctl")
    if found and Path(found).resolve() == called.resolve():
        return "memctl"
    return shlex.quote(str(called))
