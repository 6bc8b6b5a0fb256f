"""Export: write the memories of one agent, or of all, as a document that restores them exactly.

All rows are first copied to temporary tables of SQLite in one read transaction. A slow reader of
the document therefore blocks no other program, and the document may be larger than memory.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from memctl.documents.document import Form, Header, write_document
from memctl.errors import RefusedError
from memctl.storage.documents import Documents
from memctl.storage.progress import Progress
from memctl.storage.sqlite.exports import copied_rows, copied_to_both, count_copied
from memctl.storage.sqlite.sections import HOLDS, SECTIONS, DocumentSection
from memctl.storage.store import Store


def export(
    store: Store,
    *,
    agent: str | None,
    sections: Sequence[DocumentSection],
    form: Form,
    now: datetime,
    progress: Progress,
) -> Iterator[str]:
    """Return the document in pieces of text; sections that are not given have no rows.

    Raises NotFoundError for an agent without memories, and RefusedError if a memory is both active
    and archived.
    """
    store.require_agent(agent)
    progress.phase("reading")
    documents = store.documents
    documents.copy_rows(agent, sections, now=now)
    _require_in_one_place(documents)
    db = documents.db
    counts = {section.name: count_copied(db, section) for section in SECTIONS.values()}
    if not counts[HOLDS.name]:
        del counts[HOLDS.name]
    progress.phase("writing", total=sum(counts.values()))

    def rows(section: DocumentSection) -> Iterator[Sequence[Any]]:
        for row in copied_rows(db, section):
            yield row
            progress.advance()

    return write_document(Header(now, agent, counts), rows, form)


def _require_in_one_place(documents: Documents) -> None:
    """Raise RefusedError if a memory is both active and archived: it could not be imported."""
    found = copied_to_both(documents.db, ids_per_agent=documents.ids_per_agent)
    if found:
        raise RefusedError(
            "memories that are both active and archived could not be imported: "
            f"{found.total}, the first '{found.memory_id}' of '{found.agent_id}'",
            "delete one of each, or export twice, with --active-only and with --archived-only",
        )
