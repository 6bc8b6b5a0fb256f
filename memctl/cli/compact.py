"""The command that gives free space in the file back to the disk: compact."""

from typing import Annotated

import typer

from memctl.cli.options import ChangeOptions, GlobalOptions
from memctl.cli.session import run_job
from memctl.jobs.compact import compact as compact_file


def compact(
    call: GlobalOptions,
    job: ChangeOptions,
    incremental: Annotated[
        bool,
        typer.Option(
            "--incremental",
            help="Rewrite the file once so that it can be compacted in steps from then on.",
        ),
    ] = False,
) -> None:
    """Give free pages of the database file back to the disk.

    A file with auto_vacuum shrinks in steps of about ten milliseconds beside the service. Any other
    file is rewritten, and other programs cannot write meanwhile: this is refused while one of them
    writes, and skipped if it would free little; --force overrides both.
    """
    run_job(
        "compact",
        lambda run: compact_file(run, incremental=incremental),
        call,
        job,
        by_hand=True,
    )
