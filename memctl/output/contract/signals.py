"""What the alert command and the hooks receive."""

from typing import Literal, NotRequired

from memctl.output.contract.documents import Document, Failure
from memctl.output.contract.jobs import AnyCounts
from memctl.output.contract.records import StoredText


class AlertDocument(Document):
    """What the alert command receives on stdin; the figures depend on the condition."""

    at: str
    database: str
    message: str
    condition: str
    agent_id: NotRequired[StoredText]


class HookDocument(Document):
    """What a hook receives on stdin."""

    hook: Literal["start", "success", "failure"]
    job: str
    run_id: int | None
    at: str
    database: str
    host: str
    pid: int
    memctl_version: str
    result: AnyCounts | None
    error: Failure | None
