"""Commands for the configuration: config, alerts."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from memctl.cli.engines import unavailable_settings
from memctl.cli.options import GlobalOptions
from memctl.cli.session import alert_document, run_alert_command, show_result
from memctl.config.settings import find_configuration, new_configuration, users_configuration
from memctl.errors import MemctlError, NotFoundError, UsageError
from memctl.output.tables import show_facts
from memctl.output.terminal import json_text, show_document, show_line, show_notice
from memctl.storage.engines import open_store
from memctl.storage.times import to_text

if TYPE_CHECKING:  # pydantic is slow to import
    from memctl.config.describe import Setting
    from memctl.config.file import Configuration

Action = Literal["show", "path", "validate", "init"]
AlertsAction = Literal["test"]

NO_FILE = "there is no configuration file; the defaults apply"


def config(
    call: GlobalOptions,
    action: Annotated[Action, typer.Argument(metavar="|".join(get_args(Action)))],
) -> None:
    """Show the settings and their sources; locate, validate or create the configuration file.

    show: print each setting and its source: an option, the environment, the file or the default.
    path: print the file in use. validate: report problems in the file. init: create a file with
    every key and its default, commented out, at --config or in the user's configuration directory.
    """
    actions = {"show": _show, "path": _path, "validate": _validate, "init": _init}
    actions[action](call)


def _show(call: GlobalOptions) -> None:
    from memctl.config.describe import effective_settings

    settings = effective_settings(call.settings)
    if call.json:
        file = call.settings.file
        rows = [
            {"setting": setting.key, "value": setting.value, "source": setting.source}
            for setting in settings
        ]
        show_document({"file": None if file is None else str(file), "settings": rows})
        return
    show_facts((setting.key, setting_text(setting)) for setting in settings)


def setting_text(setting: "Setting") -> str:
    """Return a value and its source."""
    value = setting.value
    text = "none" if value is None else value if isinstance(value, str) else json_text(value)
    return f"{text}  ({setting.source})"


def _path(call: GlobalOptions) -> None:
    file = find_configuration(call.config, os.environ)
    if file is None:
        place = new_configuration(call.config, os.environ)
        raise NotFoundError(NO_FILE, f"`memctl config init` creates {place}")
    if call.json:
        show_document({"file": str(file)})
        return
    show_line(str(file))


def _validate(call: GlobalOptions) -> None:
    from memctl.config.file import (
        Configuration,
        ConfigurationError,
        Problem,
        command_problems,
        directory_problems,
        read_configuration,
    )

    file = find_configuration(call.config, os.environ)
    problems: list[Problem] = []
    unused = None
    try:
        configuration = read_configuration(file) if file else Configuration.model_validate({})
        problems = command_problems(configuration)
        if file:
            problems += directory_problems(configuration, file)
            problems += [
                Problem(key, "this is not available on PostgreSQL", f"remove it; {instead}")
                for key, instead in _unavailable_settings(call).items()
            ]
        unused = _unused_names(call, configuration)
    except ConfigurationError as error:
        problems = [*error.problems]
    if call.json:
        name = None if file is None else str(file)
        rows = [
            {"setting": problem.key, "message": problem.message, "hint": problem.hint}
            for problem in problems
        ]
        show_document({"file": name, "problems": rows, "unused_names": unused})
    else:
        show_facts((problem.key, f"{problem.message}; {problem.hint}") for problem in problems)
    if problems:
        raise UsageError(f"{file} is invalid", "correct the problems listed")
    if call.json:
        return
    message = f"{file} is valid" if file else NO_FILE
    if unused is None:
        message += "; its names were not checked, because there is no database"
    for sentence in (message, *(unused or ())):
        show_notice(f"config: {sentence}", quiet=call.quiet)


def _unavailable_settings(call: GlobalOptions) -> Mapping[str, str]:
    """Return the keys that have no effect on the database; none if no database is specified."""
    try:
        return unavailable_settings(call.settings)
    except MemctlError:
        return {}


def _unused_names(call: GlobalOptions, configuration: "Configuration") -> list[str] | None:
    """Return names in the file that no memory has; None if there is no database."""
    from memctl.config.describe import unused_names

    try:
        with open_store(call.settings.database, read_only=True) as store:
            return unused_names(store, configuration)
    except MemctlError:
        return None


def _init(call: GlobalOptions) -> None:
    from memctl.config.describe import write_default_file

    file = new_configuration(call.config, os.environ)
    write_default_file(file, make_directory=file == users_configuration(os.environ))
    show_result(call, {"file": str(file)}, f"config: wrote {file}")


def alerts(
    call: GlobalOptions,
    action: Annotated[AlertsAction, typer.Argument(metavar="|".join(get_args(AlertsAction)))],
) -> None:
    """Test the configured alert command.

    test: send the command a test alert, as a job would, and report the result.
    """
    from memctl.storage.sqlite.alerts import Alert

    command = call.settings.alert_command
    if not command:
        raise MemctlError(
            "no alert command is configured", "set `command` under [alerts] in the configuration"
        )
    alert = Alert("test", "this is a test of the alert command", {})
    run_alert_command(command, alert_document(call, alert, at=to_text(call.moment)))
    show_result(
        call,
        {"command": list(command), "delivered": True},
        f"alerts: {command[0]} accepted the test alert",
    )
