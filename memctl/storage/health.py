"""The query for the health of jobs, which is the same on each engine but for how times are read."""

from collections.abc import Callable


def health_of_jobs(as_text: Callable[[str], str] = lambda column: column) -> str:
    """Return SQL for the newest run of each job, its last success, and its failures since.

    `as_text` returns SQL for a time as text. A run with the status `running` has crashed unless it
    is the newest run, which may be at work.
    """
    return f"""
        SELECT newest.job, newest.run_id, {as_text("newest.started_at")}, newest.status,
            newest.duration_ms, newest.longest_lock_ms, {as_text("good.finished_at")},
            (
                SELECT count(*) FROM memory_runs AS bad
                WHERE bad.job = newest.job
                    AND bad.run_id > coalesce(good.run_id, 0)
                    AND (bad.status = 'failed' OR bad.status = 'running' AND bad.run_id < last)
            )
        FROM (
            SELECT max(run_id) AS run_id,
                max(CASE WHEN status = 'ok' THEN run_id END) AS good_run_id,
                (SELECT max(run_id) FROM memory_runs) AS last
            FROM memory_runs
            GROUP BY job
        ) AS runs
        JOIN memory_runs AS newest ON newest.run_id = runs.run_id
        LEFT JOIN memory_runs AS good ON good.run_id = runs.good_run_id
        ORDER BY newest.job
    """
