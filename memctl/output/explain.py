"""The explanation of a memory as names and sentences."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from memctl.config.policies import DecayPolicy
from memctl.errors import counted, readable_bytes
from memctl.insight.explain import (
    ActiveMemory,
    ArchivedCopy,
    Condition,
    Explanation,
    Policies,
    Quota,
    Retention,
)
from memctl.storage.sqlite.holding import HoldRecord

MOST_IDS = 3  # that are shown

STATES = {
    "active": "active",
    "archived": "archived; restore it with `memctl restore`",
    "pruned": "permanently deleted from the archive",
    "gone": "gone: deleted by a client, or removed before the oldest event kept",
}


def explanation_facts(explanation: Explanation, policies: Policies) -> dict[str, object]:
    """Return the sentences that explain a memory, each by its name."""
    facts: dict[str, object] = {
        "memory": f"'{explanation.agent_id}' {explanation.type} '{explanation.key}'",
        "state": STATES[explanation.state],
    }
    if explanation.policy != ["decay", "prune"]:
        facts["policy"] = ", ".join(explanation.policy)
    for number, hold in enumerate(explanation.holds, 1):
        facts["hold" if number == 1 else f"hold {number}"] = _hold(hold)
    if explanation.earlier_ids:
        facts["earlier ids"] = _some(explanation.earlier_ids)
    if explanation.active:
        facts |= dict(_of_active(explanation.active, policies))
    for copy in explanation.archived:
        facts[f"copy {copy.archive_id}"] = _of_copy(copy, policies)
    return facts


def _some(ids: Sequence[str]) -> str:
    """Return the newest of some ids."""
    shown = ", ".join(f"'{memory_id}'" for memory_id in ids[-MOST_IDS:])
    left = len(ids) - MOST_IDS
    return f"{shown}, and {left:,} older" if left > 0 else shown


def _of_active(memory: ActiveMemory, policies: Policies) -> Iterator[tuple[str, object]]:
    fading = memory.fading
    yield "id", memory.id
    yield "written", memory.created_at
    yield "accesses", f"{memory.access_count} (last: {memory.last_accessed or 'never'})"
    yield "importance", _number(memory.importance)
    if fading.unreadable:
        yield "idle", f"does not decay: {fading.unreadable} is not a time"
    else:
        yield (
            "idle",
            f"{counted(fading.idle_days or 0, 'day')}: {_number(fading.charged)} points charged, "
            f"{_number(fading.due)} due; importance after the next decay:"
            f" {_number(fading.importance_after_next)}",
        )
    yield "decay", _rate(fading.rate, policies.decay)
    protected = policies.prune.protected_importance
    if fading.unprotected_at:
        yield f"below {_number(protected)}", f"{fading.unprotected_at}, if it is not read"
    if fading.floor_at:
        yield "at the floor", f"{fading.floor_at}, if it is not read"
    yield "expires", _expiry(memory)
    if memory.quota:
        yield "quota", _quota(memory.quota)
    if memory.retention:
        yield "pruned", f"its copy in the archive {_retention(memory.retention, protected)}"
    yield "promotion", _promotion(memory)


def _hold(hold: HoldRecord) -> str:
    """Return what a hold covers, and how long."""
    covers = (
        "all memories of the agent"
        if hold.memory_id is hold.type is None
        else f"the id '{hold.memory_id}'"
        if hold.type is None
        else "this type and key"
    )
    reason = "" if hold.reason is None else f" ({hold.reason})"
    end = f"until {hold.until}" if hold.until else "without end"
    return (
        f"on {covers}, {end}{reason}: what it covers does not expire or decay, and is not pruned;"
        " the times below apply without the hold"
    )


def _rate(rate: float | None, policy: DecayPolicy) -> str:
    if rate is not None:
        return (
            f"{_number(rate)} points per day after {policy.grace_days} idle days (the memory's own"
            " rate)"
        )
    return (
        f"{_number(policy.idle_rate)} points per day after {policy.grace_days} idle days, "
        f"{_number(policy.stale_rate)} after {policy.stale_days}, to a minimum of"
        f" {_number(policy.floor)}"
    )


def _expiry(memory: ActiveMemory) -> str:
    expiry = memory.expiry
    if expiry.state == "never":
        return "never"
    if expiry.state == "unreadable":
        return f"never: '{expiry.stored}' is not a time"
    moment = expiry.at or expiry.stored
    if expiry.state == "expired":
        return f"{moment}: the next cleanup archives it"
    return f"{moment}: the first cleanup after that archives it"


def _quota(quota: Quota) -> str:
    used = []
    if quota.most_memories is not None:
        used.append(f"{quota.memories:,} of {counted(quota.most_memories, 'memory')}")
    if quota.most_bytes is not None:
        used.append(f"{readable_bytes(quota.bytes)} of {readable_bytes(quota.most_bytes)}")
    has = f"its agent has {' and '.join(used)}"
    if quota.is_beyond:
        return f"the next cleanup archives it: {has}"
    return f"{has}; less valuable memories: {quota.less_valuable:,}"


def _promotion(memory: ActiveMemory) -> str:
    if memory.known_since:
        return f"promoted at {memory.known_since}, unchanged since"
    missing = [_lack(condition, memory) for condition in memory.promotion if not condition.met]
    earlier = f"promoted at {memory.promoted_at}; " if memory.promoted_at else ""
    return earlier + (
        f"not due: {', '.join(missing)}" if missing else "all four conditions are met"
    )


def _lack(condition: Condition, memory: ActiveMemory) -> str:
    name, found = condition.condition, condition.found
    number: Callable[[Any], str] = _number
    if name == "type":
        return f"type '{found}' is not one of {', '.join(_names(condition.needed))}"
    if name == "age_days":
        if found is None:
            return f"its age is unknown, because '{memory.created_at}' is not a time"
        if isinstance(found, int | float) and found < 0:
            return "created in the future"
        name, number = "age", _days
    elif name == "importance" and found != memory.importance:
        name = "importance after decay"
    lacks = "" if condition.lacks is None else f" ({number(condition.lacks)} too low)"
    return f"{name} {number(found)} of {number(condition.needed)}{lacks}"


def _names(value: object) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else [str(value)]


def _of_copy(copy: ArchivedCopy, policies: Policies) -> str:
    run = "by a client" if copy.run_id is None else f"by run {copy.run_id}"
    kept = _retention(copy.retention, policies.prune.protected_importance)
    return f"id '{copy.id}', {copy.archived_reason} at {copy.archived_at} {run}; it {kept}"


def _retention(retention: Retention, protected: float) -> str:
    if not retention.protected:
        return f"will be deleted by the first prune after {retention.at}"
    return (
        f"is kept permanently: importance {_number(retention.importance)} "
        f"is not below {_number(protected)}"
    )


def _days(days: float) -> str:
    """Return a number of days in its two largest units, such as `13 days 22 hours`."""
    minutes = round(days * 1440)
    counts = {"day": minutes // 1440, "hour": minutes // 60 % 24, "minute": minutes % 60}
    units = [counted(count, unit) for unit, count in counts.items() if count]
    return " ".join(units[:2]) or "less than a minute"


def _number(value: Any) -> str:
    """Return a number without a trailing `.0`, and anything else as text."""
    return f"{value:g}" if isinstance(value, float) else f"{value}"
