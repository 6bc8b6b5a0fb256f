"""Listing the ledger: which runs there were and how each ended."""

from datetime import timedelta

import pytest

from memctl import __version__
from memctl.storage.engines import exclusive
from tests.support.engines import Engine
from tests.support.program import NOW, Answer, Memctl


def numbers(answer: Answer) -> list[int]:
    """Return the numbers of the runs in a JSON array."""
    return [run["run_id"] for run in answer.json]


@pytest.fixture
def ledger(engine: Engine) -> Memctl:
    """Five runs: good, refused, failed, crashed, and one that is the newest and running."""
    ended = {"finished_at": "2026-11-20T09:00:01Z", "duration_ms": 10, "longest_lock_ms": 0.0}
    for run_id, job, started_at, columns in (
        (
            1,
            "cleanup",
            "2026-11-20T09:00:00Z",
            {
                **ended,
                "status": "ok",
                "duration_ms": 1000,
                "counts": '{"archived": 3}',
                "longest_lock_ms": 9.5,
            },
        ),
        (2, "prune", "2026-11-21T09:00:00Z", {**ended, "status": "refused", "error": "too much"}),
        (
            3,
            "decay",
            "2026-11-21T10:00:00Z",
            {**ended, "status": "failed", "error": "the disk is full"},
        ),
        (4, "cleanup", "2026-11-21T11:00:00Z", {"status": "running"}),
        (5, "cleanup", "2026-11-22T09:00:00Z", {"status": "running"}),
    ):
        engine.insert(
            "memory_runs",
            run_id=run_id,
            job=job,
            started_at=started_at,
            complete=False,
            memctl_version=__version__,
            host="h",
            pid=run_id,
            **columns,
        )
    return engine.memctl


def test_runs_are_listed_newest_first_with_their_counts(ledger: Memctl) -> None:
    listed = ledger.ok("runs").json

    assert [run["run_id"] for run in listed] == [5, 4, 3, 2, 1]
    assert listed[-1] == {
        "run_id": 1,
        "job": "cleanup",
        "started_at": "2026-11-20T09:00:00Z",
        "finished_at": "2026-11-20T09:00:01Z",
        "duration_ms": 1000,
        "status": "ok",
        "counts": {"archived": 3},
        "longest_lock_ms": 9.5,
        "error": None,
        "memctl_version": __version__,
        "host": "h",
        "pid": 1,
    }


def test_an_unfinished_run_is_crashed_when_no_memctl_is_running(
    engine: Engine, ledger: Memctl
) -> None:
    before = engine.rows("memory_runs")

    statuses = [run["status"] for run in ledger.ok("runs").json]

    assert statuses == ["crashed", "crashed", "failed", "refused", "ok"]
    assert engine.rows("memory_runs") == before


def test_only_the_newest_run_can_be_running(engine: Engine, ledger: Memctl) -> None:
    with exclusive(engine.address, job="cleanup", wait=0):
        statuses = [run["status"] for run in ledger.ok("runs", "--limit", "2").json]

    assert statuses == ["running", "crashed"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["--job", "cleanup"], [5, 4, 1], id="by job"),
        pytest.param(["--status", "failed"], [3], id="by status failed"),
        pytest.param(["--status", "crashed"], [5, 4], id="by status crashed"),
        pytest.param(["--status", "running"], [], id="by status running"),
        pytest.param(["--since", "2026-11-22"], [5], id="since a date"),
        pytest.param(["--since", "1d"], [5, 4, 3], id="since a duration"),
        pytest.param(["--limit", "1"], [5], id="the newest"),
        pytest.param(["--job", "cleanup", "--status", "ok"], [1], id="by job and status"),
    ],
)
def test_runs_can_be_filtered(ledger: Memctl, words: list[str], expected: list[int]) -> None:
    assert numbers(ledger.ok("runs", *words)) == expected


def test_a_table_shows_each_run_with_its_error_on_one_line(ledger: Memctl) -> None:
    table = ledger.ok("runs", "--table", "--since", "2d", "--limit", "3")

    assert table.out == (
        "                                                longest\n"
        "run  job      started           status    took     lock  error\n"
        "  5  cleanup  2026-11-22 09:00  crashed\n"
        "  4  cleanup  2026-11-21 11:00  crashed\n"
        "  3  decay    2026-11-21 10:00  failed   10 ms     0 ms  the disk is full\n"
    )
    assert table.err == "runs: there are more than 3 rows; see --limit and --offset\n"


def test_the_ledger_records_the_result_of_a_job(engine: Engine) -> None:
    engine.insert(expired_for=timedelta(hours=1))
    engine.memctl.ok("cleanup")
    engine.memctl("archive", "build_agent", "nobody")

    runs = engine.memctl.ok("runs").json

    assert [(run["job"], run["status"], run["counts"]) for run in runs] == [
        ("archive", "refused", None),
        (
            "cleanup",
            "ok",
            {
                "archived": 1,
                "over_quota": 0,
                "held_over_quota": 0,
                "held": 0,
                "versions_pruned": 0,
            },
        ),
    ]


def test_a_crash_is_detected_whatever_the_clock(ledger: Memctl) -> None:
    statuses = [run["status"] for run in ledger.at(NOW - timedelta(days=9)).ok("runs").json]

    assert statuses == ["crashed", "crashed", "failed", "refused", "ok"]
