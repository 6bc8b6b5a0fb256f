"""Running a command on several databases, one after the other, each with its own configuration.

A failure on one does not stop the others. Each file names its database, and the environment does
not override it; each run reads the clock anew. Messages begin with the path of the database; with
--json there is one document with an entry for each file.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import typer

from memctl.cli.options import GlobalOptions
from memctl.config.directory import VARIABLES, configuration_files, require_private
from memctl.config.settings import Settings
from memctl.errors import MemctlError, UsageError, explained, is_bug
from memctl.output.terminal import about_database, error_document, show_document, show_error
from memctl.storage.addresses import Address
from memctl.storage.sqlite.database import reachable

REFUSED = 3


class CommandOnOne(Protocol):
    """A command with all its options except the global ones."""

    def __call__(self, call: GlobalOptions, *, seconds: float | None) -> None:
        """Run it on the database of the call, for at most `seconds`, if given."""


@dataclass
class Outcome:
    """The outcome of the command on the database of one file."""

    configuration: Path
    database: Address | None = None  # None: the file names none
    exit_code: int = 0
    result: Mapping[str, object] | None = None
    error: MemctlError | None = None
    bug: Exception | None = None

    def document(self) -> dict[str, object]:
        """Return the outcome in its JSON form."""
        return {
            "configuration": str(self.configuration),
            "database": None if self.database is None else str(self.database),
            "exit_code": self.exit_code,
            "result": self.result,
            "error": error_document(self.error) if self.error else None,
        }


def options_of_files(call: GlobalOptions, directory: Path) -> Iterator[tuple[Path, GlobalOptions]]:
    """Yield each configuration file in a directory, and the options of a call that uses only it.

    Removes the variables that name a database or a configuration from the environment, also for
    programs that are started. Raises UsageError if an option names one, or for a directory without
    configuration files.
    """
    if call.db or call.config:
        raise UsageError("--config-dir cannot be used with --db or --config", "choose one")
    files = configuration_files(directory.absolute())
    for name in VARIABLES:
        os.environ.pop(name, None)
    for file in files:
        yield file, replace(call, config=file)


def settings_of_file(file: Path, call: GlobalOptions) -> Settings:
    """Return the settings in a configuration file. Raises UsageError if it names no database."""
    if call.settings.database_is_default:
        raise UsageError(f"{file} names no database", 'add `database = "PATH"` to it')
    return call.settings


def run_on_each(
    call: GlobalOptions,
    directory: Path,
    command: CommandOnOne,
    *,
    max_seconds: float | None,
) -> None:
    """Run a command for each configuration file, with an equal share of the seconds that are left.

    Raises Exit with the exit code of the first failure, or else with 3 if something was refused or
    found.
    """
    files = list(options_of_files(call, directory))
    require_private(directory.absolute(), users=[os.geteuid()])
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    for number, (file, options) in enumerate(files):
        share = max_seconds
        if max_seconds is not None:
            left = max(0.0, max_seconds - (time.monotonic() - begun))
            share = left / (len(files) - number)
        known = {found.database: found for found in outcomes if found.database}
        outcome = Outcome(file)
        outcomes.append(outcome)
        _run_on(outcome, options, known, partial(command, seconds=share))
    if call.json:
        show_document({"databases": [outcome.document() for outcome in outcomes]})
    for outcome in outcomes:
        if outcome.bug:
            raise outcome.bug
    codes = [outcome.exit_code for outcome in outcomes if outcome.exit_code]
    if codes:
        raise typer.Exit(next((code for code in codes if code != REFUSED), REFUSED))


def _run_on(
    outcome: Outcome,
    call: GlobalOptions,
    known: Mapping[Address, Outcome],
    command: Callable[[GlobalOptions], None],
) -> None:
    """Run the command for one file, and print and record its error."""
    file = outcome.configuration
    try:
        require_private(file, users=[os.geteuid()])
        database = _database(settings_of_file(file, call))
        if other := known.get(database):
            raise UsageError(
                f"{file} names the same database as {other.configuration}", "remove one of them"
            )
    except Exception as raised:
        _fail(outcome, raised, call)
        return
    outcome.database = database
    with about_database(str(database)) as documents:
        try:
            command(call)
        except typer.Exit as end:
            outcome.exit_code = end.exit_code
        except Exception as raised:
            _fail(outcome, raised, call)
    outcome.result = documents[0] if documents else None


def _database(settings: Settings) -> Address:
    """Return the database; links of a path are resolved."""
    if not isinstance(settings.database, Path):
        return settings.database
    with reachable(settings.database):
        return settings.database.resolve()


def _fail(outcome: Outcome, raised: Exception, call: GlobalOptions) -> None:
    """Print and record an error."""
    error = explained(raised)
    outcome.error, outcome.exit_code = error, error.exit_code
    outcome.bug = raised if is_bug(raised) else None
    show_error(error, as_json=call.json)
