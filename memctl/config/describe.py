"""The settings in force with their sources, the default file, and names that no memory has.

The default file is generated from the classes in `file`: it has every key with its default, each
as a comment, so that it changes nothing.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from memctl.config.file import MOST_PROBLEMS, Configuration
from memctl.config.policies import dotted
from memctl.config.sections import Section
from memctl.config.settings import Settings
from memctl.errors import RefusedError, counted
from memctl.storage.agents import unknown_agent
from memctl.storage.sqlite.database import reachable
from memctl.storage.sqlite.ownership import create_directory, create_file

if TYPE_CHECKING:
    from memctl.storage.store import Store

HEADING = """\
# Configuration of memctl. Commented-out lines show the defaults.

"""

POLICIES = """\
# All keys of [decay], [prune], [archive] and [quota] can also be set for an agent, and except those
# of [quota] also for a type, and for a type of an agent. Each key is resolved separately: a type of
# an agent takes precedence over the agent, the agent over the type, and the type over the table for
# all memories.
#
# [decay.types.context]
# grace_days = 1
#
# [agents."qa_agent".prune]
# retention_days = 365
#
# [agents."qa_agent".decay.types.context]
# grace_days = 3
#
# [agents."qa_agent".quota]
# memories = 5000
"""


@dataclass(frozen=True)
class Setting:
    """A value in force and its source: an option, the environment, the file or the default."""

    key: str
    value: object
    source: str


def effective_settings(settings: Settings) -> list[Setting]:
    """Return every setting, including the overrides for agents and types."""
    configuration = settings.configuration or Configuration.model_validate({})
    database = Setting("database", str(settings.database), settings.database_source)
    return [database, *_settings(configuration, (), f"file {settings.file}")]


def _settings(section: Section, path: tuple[str, ...], file: str) -> Iterator[Setting]:
    values = section.model_dump(mode="json")
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _settings(value, (*path, name), file)
        elif name in ("types", "agents"):  # overrides, which have no defaults
            for free_name, table in value.items():
                overrides = _settings(table, (*path, name, free_name), file)
                yield from (setting for setting in overrides if setting.source != "default")
        elif (*path, name) != ("database",):
            source = file if name in section.model_fields_set else "default"
            yield Setting(dotted((*path, name)), values[name], source)


def default_file() -> str:
    """Return a configuration file with every key and its default, commented out."""
    lines = []
    for name, field in Configuration.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, Section):
            lines += ["", f"[{name}]", *_commented(table)]
    return HEADING + "\n".join([*_commented(Configuration), *lines, "", POLICIES])


def _commented(section: type[Section]) -> list[str]:
    """Return the keys of one table, each with its default, or an example if it has none."""
    lines = []
    for name, field in section.model_fields.items():
        if field.description:
            value = field.default if field.examples is None else field.examples[0]
            lines.append(f"{f'# {name} = {_to_toml(value)}':<31} # {field.description}")
    return lines


def _to_toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_to_toml(item)}' for name, item in value.items())} }}"
    return json.dumps(value)


def write_default_file(path: Path, *, make_directory: bool) -> None:
    """Write the default file, and its directory if `make_directory`.

    Raises RefusedError if the path exists.
    """
    with reachable(path):
        if make_directory:
            create_directory(path.parent)
        try:
            descriptor = create_file(path, like=path, mode=0o644)
        except FileExistsError:
            raise RefusedError(f"{path} already exists", "it was not changed") from None
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(default_file())
        except OSError:
            path.unlink()
            raise


def unused_names(store: "Store", configuration: Configuration) -> list[str]:
    """Return a sentence for each agent and type in the file that no memory has."""
    if not store.is_migrated:
        return []
    memories = store.memories
    known = set(memories.agent_names())
    unknown = [agent for agent in configuration.agents if agent not in known]
    sentences = [str(unknown_agent(agent, known)) for agent in unknown[:MOST_PROBLEMS]]
    if len(unknown) > MOST_PROBLEMS:
        more = len(unknown) - MOST_PROBLEMS
        sentences.append(f"{counted(more, 'more agent')} without memories")
    policies = (configuration.decay_policy(), configuration.prune_policy())
    overrides = [override for policy in policies for override in policy.overrides]
    types = dict.fromkeys(override.type for override in overrides if override.type is not None)
    sentences += [
        f"no memory has type '{type_}'" for type_ in types if not memories.has_type(type_)
    ]
    return sentences
