"""The service, running in its own thread."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.database import Row, connect, text_of
from tests.support.processes import eventually
from tests.support.service import COLUMNS, FIND, Service

TODAY = datetime.now(UTC).replace(microsecond=0)  # the service has no other clock
TOMORROW = text_of(TODAY + timedelta(days=1))


class ServiceAtWork(threading.Thread):
    """The service in its own thread: does a chore every few milliseconds."""

    def __init__(self, path: Path, chore: Callable[[Service, int], Row]) -> None:
        super().__init__()
        self.acknowledged: dict[tuple[str, str, str], Row] = {}
        self.errors: list[sqlite3.Error] = []
        self.rounds = 0
        self._path = path
        self._chore = chore
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Work until stopped; keep the last acknowledged version of each memory."""
        try:
            with closing(Service(self._path)) as service:
                while not self._stop_asked.wait(0.002):
                    memory = self._chore(service, self.rounds)
                    self.acknowledged[memory["agent_id"], memory["type"], memory["key"]] = memory
                    self.rounds += 1
        except sqlite3.Error as error:
            self.errors.append(error)

    def stop(self) -> None:
        """Stop after the current round."""
        self._stop_asked.set()
        self.join()

    def active(self, path: Path) -> dict[tuple[str, str, str], Row]:
        """Return the memories that are now stored under the acknowledged names."""
        with closing(connect(path)) as db:
            db.row_factory = sqlite3.Row
            found = [db.execute(FIND, name).fetchone() for name in self.acknowledged]
        return {(row["agent_id"], row["type"], row["key"]): memory_of(row) for row in found if row}


@contextmanager
def service_at_work(path: Path, chore: Callable[[Service, int], Row]) -> Iterator[ServiceAtWork]:
    """Run the service while the block runs; the two are guaranteed to overlap."""
    worker = ServiceAtWork(path, chore)
    worker.start()
    try:
        eventually(lambda: worker.rounds > 10 or not worker.is_alive())
        yield worker
        rounds = worker.rounds
        eventually(lambda: worker.rounds > rounds or not worker.is_alive())
    finally:
        worker.stop()


def memory_of(row: sqlite3.Row) -> Row:
    """Return the service's own columns of a row."""
    return {column: row[column] for column in COLUMNS}


def read_row(service: Service, agent: str, kind: str, key: str) -> Row:
    """Return a memory without counting an access."""
    return memory_of(service.db.execute(FIND, (agent, kind, key)).fetchone())


def use_memories(service: Service, number: int) -> Row:
    """Remember a new memory and read it, or replace an older one; then list all."""
    if number % 3 == 2:
        memory = memory_of(service.remember("service", "learning", f"key {number // 2}", "again"))
    else:
        service.remember("service", "learning", f"key {number}", "first", expires_at=TOMORROW)
        service.recall("service", "learning", f"key {number}")
        memory = read_row(service, "service", "learning", f"key {number}")
    service.recall_all("service")
    return memory
