"""The JSON of commands that set memctl up."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from memctl.output.contract.documents import Document, Pause
from memctl.output.contract.records import StoredText


class MigrateDocument(Document):
    """The steps that were applied, or would be."""

    database: str
    schema_step: int
    applied: list[str]
    created: bool
    baseline: bool
    backup: str | None
    triggers: list[StoredText]
    dry_run: bool
    adds: NotRequired[list[StoredText] | None]
    sql: NotRequired[str]


class RollbackDocument(Document):
    """The steps that were rolled back, or would be."""

    database: str
    schema_step: int
    rolled_back: list[str]
    backup: str | None
    archived_in_backup: int
    tombstones: int
    archive_command: str | None
    dry_run: bool
    archived_deleted: NotRequired[int]
    days_deleted: NotRequired[int]
    removes: NotRequired[list[StoredText] | None]
    to_confirm: NotRequired[str | None]
    sql: NotRequired[str]


class FeatureDocument(Document):
    """Whether a feature is enabled now."""

    feature: str
    enabled: bool
    changed: bool


class PauseDocument(Document):
    """A pause that began."""

    paused: Pause


class ResumeDocument(Document):
    """Whether a pause was ended."""

    resumed: bool


class ScheduleDocument(Document):
    """The text of each file that a scheduler needs."""

    files: dict[str, str]


class SettingInForce(TypedDict):
    """A setting, its value and its source."""

    setting: str
    value: Any
    source: str


class ConfigShowDocument(Document):
    """The settings in force."""

    file: str | None
    settings: list[SettingInForce]


class ConfigFileDocument(Document):
    """A configuration file."""

    file: str


class ConfigProblem(TypedDict):
    """An invalid setting."""

    setting: str
    message: str
    hint: str


class ConfigValidateDocument(Document):
    """The problems of a configuration file."""

    file: str | None
    problems: list[ConfigProblem]
    unused_names: list[str] | None


class CompletionDocument(Document):
    """A completion script."""

    shell: str
    script: str


class HelpDocument(Document):
    """The help of a command, or of memctl itself."""

    command: str | None
    help: str


class TestedDocument(Document):
    """An alert command that accepted a test alert."""

    command: list[str]
    delivered: Literal[True]
