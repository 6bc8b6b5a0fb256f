"""The JSON of commands for single memories."""

from memctl.output.contract.documents import Document
from memctl.output.contract.records import MemoryColumns, StoredText


class MemoryDocument(Document, MemoryColumns):
    """A memory."""


class ForgetDocument(Document):
    """How many memories were forgotten, and how many stay because they are held."""

    forgotten: int
    held: int


class SummaryDocument(Document):
    """A summary of an agent's memories."""

    agent_id: StoredText
    memories: int
    by_type: dict[str, int]
    top_memories: list[MemoryColumns]
