"""What an import does, on lists of memories in the order of their tables."""

from typing import NamedTuple

from hypothesis import strategies as st

from memctl.storage.sqlite.conflicts import ImportConflict


class Memory(NamedTuple):
    """An active memory, or an archived one if it has a reason."""

    id: str | None
    agent_id: str
    key: str
    value: str
    created_at: str
    last_accessed: str
    archived_reason: str | None = None

    @property
    def name(self) -> tuple[str, str]:
        """The name by which an agent knows it."""
        return self.agent_id, self.key

    @property
    def written(self) -> tuple[str, str]:
        """When it was last written, and read."""
        return self.created_at, self.last_accessed


class RefusedByModelError(Exception):
    """The model refuses the import."""


def have_same_id(one: Memory, other: Memory, *, ids_per_agent: bool) -> bool:
    """Return whether two memories are related by their ids."""
    if ids_per_agent and one.agent_id != other.agent_id:
        return False
    return one.id is not None and one.id == other.id


def rivals(
    new: Memory, stored: list[Memory], coming: list[Memory], *, ids_per_agent: bool
) -> list[Memory]:
    """Return the memories that conflict with a memory."""
    return [
        old
        for old in stored
        if not (old.archived_reason and old in coming)
        and (
            have_same_id(old, new, ids_per_agent=ids_per_agent)
            or (old.name == new.name and not new.archived_reason)
        )
    ]


def last_written(new: Memory, coming: list[Memory], *, ids_per_agent: bool) -> tuple[str, str]:
    """Return when the last imported version of a memory was written: versions are adjacent."""
    return max(
        version.written
        for version in coming
        if version is new or have_same_id(version, new, ids_per_agent=ids_per_agent)
    )


def import_by_model(
    stored: list[Memory],
    coming: list[Memory],
    rule: ImportConflict,
    run: int,
    *,
    ids_per_agent: bool = False,
) -> tuple[list[Memory], list[str]]:
    """Return the content of the database afterwards, and the outcome for each imported memory.

    If `ids_per_agent`, memories of two agents may have the same id.
    """
    fates = []
    gone: list[Memory] = []
    for place, new in enumerate(coming):
        in_the_way = rivals(new, stored, coming, ids_per_agent=ids_per_agent)
        if stored.count(new) > coming[:place].count(new):
            fates.append("unchanged")
        elif not in_the_way:
            fates.append("inserted")
        elif rule == "fail" or (
            rule != "skip" and any(old.agent_id != new.agent_id for old in in_the_way)
        ):
            raise RefusedByModelError
        elif rule == "replace" or (
            rule == "newest"
            and all(
                last_written(new, coming, ids_per_agent=ids_per_agent) > old.written
                for old in in_the_way
            )
        ):
            fates.append("replaced")
            gone += [old for old in in_the_way if not old.archived_reason and old not in gone]
        else:
            fates.append("skipped")
    taken = [new for new, fate in zip(coming, fates, strict=True) if fate in TAKEN]
    successors = {
        (new.agent_id, new.id)
        for new, fate in zip(coming, fates, strict=True)
        if fate == "replaced"
    }
    before = [old for old in stored if old not in gone]
    before += [old._replace(archived_reason="replaced") for old in stored if old in gone]
    after = [
        old._replace(id=f"{old.id}~{run}")
        if old.archived_reason
        and old.id
        and (old.agent_id, old.id) in successors
        and old not in coming
        else old
        for old in before
    ]
    return after + taken, fates


TAKEN = ("inserted", "replaced")

memories = st.builds(
    Memory,
    id=st.sampled_from([None, "1", "2", "3", "4"]),
    agent_id=st.sampled_from(["a", "a", "a", "b"]),
    key=st.sampled_from(["k", "l", "m"]),
    value=st.sampled_from(["u", "v"]),
    created_at=st.sampled_from(["2026-11-01 00:00:00", "2026-11-02 00:00:00"]),
    last_accessed=st.sampled_from(["2026-11-03 00:00:00", "2026-11-04 00:00:00"]),
    archived_reason=st.sampled_from([None, "expired"]),
)


def legal(drawn: list[Memory]) -> list[Memory]:
    """Remove what no database can hold: duplicate ids or names, ids both active and archived."""
    kept: list[Memory] = []
    for new in drawn:
        active = [old for old in kept if not old.archived_reason]
        same_id = [old for old in kept if new.id is not None and old.id == new.id]
        if new.archived_reason:
            allowed = all(old.archived_reason for old in same_id)
        else:
            allowed = not same_id and all(old.name != new.name for old in active)
        if allowed:
            kept.append(new)
    return [old for old in kept if not old.archived_reason] + [
        old for old in kept if old.archived_reason
    ]


databases = st.lists(memories, max_size=7).map(legal)


def place_of(memory: Memory) -> tuple[bool, str]:
    """Sort archived memories after active ones, and keep the order otherwise.

    Only replaced memories have no order: each is archived with the batch that replaces it.
    """
    return (
        memory.archived_reason is not None,
        repr(memory) if memory.archived_reason == "replaced" else "",
    )
