"""What `memctl config` tells of the configuration: which settings hold and why, and what it names.

The file that it writes comes from the classes of `configuration`, so that it has every key with its
default; there each line is a comment, so that it changes nothing.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from memctl.config.file import MOST_PROBLEMS, Configuration, Section
from memctl.config.policies import dotted
from memctl.config.settings import Settings
from memctl.errors import RefusedError
from memctl.storage.sqlite.agents import agents, unknown_agent
from memctl.storage.sqlite.database import reachable, table_exists, to_bytes
from memctl.storage.sqlite.memories import TYPES
from memctl.storage.sqlite.ownership import create_directory, create_file

HEADING = """\
# The configuration of memctl. What is commented out here shows the defaults.

"""

POLICIES = """\
# All keys of [decay] and [prune] can also be set for a type, for an agent, and for a type of an
# agent. Each key is decided on its own: a type of an agent wins over the agent, the agent over the
# type, and the type over [decay] or [prune].
#
# [decay.types.context]
# grace_days = 1
#
# [agents."qa_agent".prune]
# retention_days = 365
#
# [agents."qa_agent".decay.types.context]
# grace_days = 3
"""


@dataclass(frozen=True)
class Setting:
    """A value in force, and where it comes from: an option, the environment, a file, a default."""

    key: str
    value: object
    source: str


def effective_settings(settings: Settings) -> list[Setting]:
    """Return every setting: the general ones, and whatever is said of some memories."""
    configuration = settings.configuration or Configuration.model_validate({})
    database = Setting("database", str(settings.database), settings.database_source)
    return [database, *_settings(configuration, (), f"file {settings.file}")]


def _settings(section: Section, path: tuple[str, ...], file: str) -> Iterator[Setting]:
    values = section.model_dump(mode="json")
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _settings(value, (*path, name), file)
        elif name in ("types", "agents"):  # tables for some memories, which have no defaults
            for free_name, table in value.items():
                said = _settings(table, (*path, name, free_name), file)
                yield from (setting for setting in said if setting.source != "default")
        elif (*path, name) != ("database",):
            source = file if name in section.model_fields_set else "default"
            yield Setting(dotted((*path, name)), values[name], source)


def default_file() -> str:
    """Return a configuration file that has every key with its default, as a comment."""
    lines = []
    for name, field in Configuration.model_fields.items():
        table = field.annotation
        if isinstance(table, type) and issubclass(table, Section):
            lines += ["", f"[{name}]", *_commented(table)]
    return HEADING + "\n".join([*_commented(Configuration), *lines, "", POLICIES])


def _commented(section: type[Section]) -> list[str]:
    """Return the keys of one table, each with its default, or else an example."""
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
    """Write the default file, and its directory if it may be made.

    Raises RefusedError when there is anything at the path already.
    """
    with reachable(path):
        if make_directory:
            create_directory(path.parent)
        try:
            descriptor = create_file(path, like=path, mode=0o644)
        except FileExistsError:
            raise RefusedError(f"{path} already exists", "it is left as it is") from None
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(default_file())
        except OSError:
            path.unlink()
            raise


def unused_names(db: Connection, configuration: Configuration) -> list[str]:
    """Say of each agent and each type that the file names, and no memory has, that it is so."""
    if not table_exists(db, "archived_memories"):
        return []
    known = set(agents(db))
    unknown = [agent for agent in configuration.agents if agent not in known]
    said = [str(unknown_agent(agent, known)) for agent in unknown[:MOST_PROBLEMS]]
    if len(unknown) > MOST_PROBLEMS:
        said.append(f"{len(unknown) - MOST_PROBLEMS} more agents have no memory here")
    policies = (configuration.decay_policy(), configuration.prune_policy())
    overrides = [override for policy in policies for override in policy.overrides]
    types = dict.fromkeys(override.type for override in overrides if override.type is not None)
    said += [f"no memory here is of type '{type_}'" for type_ in types if not _in_use(db, type_)]
    return said


def _in_use(db: Connection, type_: str) -> bool:
    return type_ in TYPES or any(
        db.execute(
            f"SELECT 1 FROM {table} WHERE type = CAST(? AS TEXT) LIMIT 1", (to_bytes(type_),)
        ).fetchone()
        for table in ("agent_memory", "archived_memories")
    )
