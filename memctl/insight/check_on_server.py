"""Check a database on a PostgreSQL server: its tables, its memories and its jobs."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import takewhile

from memctl.config.policies import CheckPolicy
from memctl.errors import SchemaError
from memctl.insight.check import CheckResult
from memctl.insight.check_jobs import (
    crash_finding,
    failures_finding,
    overdue_finding,
    pause_finding,
)
from memctl.insight.check_memories import MEANINGS, MOST_TYPES, Meaning
from memctl.insight.findings import Finding, by_severity
from memctl.storage.addresses import ServerAddress
from memctl.storage.memory import TYPES
from memctl.storage.postgresql import migrations
from memctl.storage.postgresql.checks import (
    CONDITIONS,
    count_old_unnumbered,
    count_types,
    find_problems,
    missing_objects,
)
from memctl.storage.postgresql.database import Database
from memctl.storage.postgresql.store import PostgresStore
from memctl.storage.rows import RunFilter
from memctl.storage.times import parse_moment

MOST_RUNS = 100

ONLY_ON_SERVERS = {
    "importance_out_of_range": Meaning(
        "warning",
        "memories whose importance is not from 0 to 10",
        "change the program that writes them to use numbers from 1 to 10",
    ),
    "expired_active": Meaning(
        "warning",
        "memories that expired over a week ago are still active",
        "check that `memctl cleanup` is scheduled, and that it can run",
    ),
}


def check_on_server(
    db: Database,
    address: ServerAddress,
    policy: CheckPolicy,
    *,
    now: datetime,
    every_memory: bool = True,
) -> CheckResult:
    """Run all checks, or those that do not look for values of memories; reads only."""
    store = PostgresStore(db)
    findings, memories = [*_find_in_schema(db)], None
    if not findings:
        types = count_types(db)
        memories = sum(types.values())
        if every_memory:
            findings += _find_in_memories(db, types, now=now)
        findings += _find_in_jobs(db, store, address, policy, now=now)
    return CheckResult(
        findings=by_severity(findings),
        depth=None,
        memories=memories,
        database=store.database_size(address),
    )


def _find_in_schema(db: Database) -> Iterator[Finding]:
    try:
        migrations.require_utf8(db)
        migrations.require_current(db)
    except SchemaError as error:
        yield Finding("error", "schema", error.message, error.hint)
    missing = missing_objects(db)
    if missing:
        yield Finding(
            "error",
            "objects_missing",
            f"the database lacks {', '.join(missing)}",
            "another program has removed or replaced them: create them again as in the folder"
            " migrations/postgresql of the source",
        )


def _find_in_memories(db: Database, types: dict[str, int], *, now: datetime) -> Iterator[Finding]:
    found = find_problems(db, now=now)
    meanings = {**dict[str, Meaning](MEANINGS.items()), **ONLY_ON_SERVERS}
    for problem in CONDITIONS:
        if problem in found:
            meaning, (total, one) = meanings[problem], found[problem]
            message = f"{meaning.memories}: {total}, such as '{one}'"
            yield Finding(meaning.severity, problem, message, meaning.advice)
    unknown = [kind for kind in types if kind not in TYPES]
    if unknown:
        named = ", ".join(f"'{kind}'" for kind in unknown[:MOST_TYPES])
        more = f" and {len(unknown) - MOST_TYPES} more" if len(unknown) > MOST_TYPES else ""
        total = sum(types[kind] for kind in unknown)
        yield Finding(
            "info",
            "type_unknown",
            f"memories of unknown types: {total}, of {named}{more}",
            "they are treated like all others, but never promoted",
        )


def _find_in_jobs(
    db: Database,
    store: PostgresStore,
    address: ServerAddress,
    policy: CheckPolicy,
    *,
    now: datetime,
) -> Iterator[Finding]:
    if wrong_clock := store.clock_error(now=now):
        yield Finding("error", "clock", wrong_clock.message, wrong_clock.hint)
    if pause := store.current_pause(now=now):
        yield pause_finding(pause, now=now)
    if waiting := count_old_unnumbered(db, now=now):
        yield Finding(
            "warning",
            "events_unnumbered",
            f"events that no reader sees yet, because no job has numbered them: {waiting}",
            "check that `memctl run` is scheduled, and that it can run",
        )
    for health in store.job_health():
        days = policy.overdue_days.get(health.job)
        idle = health.last_ok_at and now - parse_moment(health.last_ok_at)
        if days is not None and idle and idle > timedelta(days=days):
            yield overdue_finding(health.job, idle)
        yield from _find_failures(store, address, health.job)


def _find_failures(store: PostgresStore, address: ServerAddress, job: str) -> Iterator[Finding]:
    runs = store.list_runs(RunFilter(job=job), database=address, limit=MOST_RUNS, offset=0)
    ended = [run for run in runs if run.status != "running"]
    failed = [*takewhile(lambda run: run.status != "ok", ended)]
    if failed:
        refused = failed[0].status == "refused"
        error = failed[0].error or "the process was killed"
        yield failures_finding(job, len(failed), refused=refused, error=error)
    for run in ended:
        if run.status == "crashed":
            yield crash_finding(run, completed=run not in failed)
