"""memctl's own lock, and whether another process holds it."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memctl.storage.sqlite import locking
from memctl.storage.sqlite.locking import exclusive, is_memctl_running, lock_path


@pytest.fixture
def no_lock_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when anything locks a file: a job that does not wait would find it locked."""

    def fail(*_arguments: object) -> None:
        pytest.fail("a lock was taken")

    monkeypatch.setattr(fcntl, "flock", fail)


@pytest.fixture
def holder(path: Path) -> Iterator[int]:
    """The lock file, held by another memctl process."""
    path.touch()
    descriptor = os.open(lock_path(path), os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    yield descriptor
    os.close(descriptor)


def test_a_held_lock_is_detected_without_locking(
    path: Path, holder: int, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("no_lock_is_taken")

    assert is_memctl_running(path)


def test_a_free_lock_is_detected_without_locking(
    path: Path, request: pytest.FixtureRequest
) -> None:
    path.touch()
    with exclusive(path, job="cleanup", wait=0):
        assert is_memctl_running(path)
    request.getfixturevalue("no_lock_is_taken")

    assert not is_memctl_running(path)


def test_a_shared_lock_does_not_count_as_held(path: Path, holder: int) -> None:
    fcntl.flock(holder, fcntl.LOCK_SH)

    assert not is_memctl_running(path)


def test_a_process_in_another_container_holds_the_lock_until_its_note_is_replaced(
    path: Path,
) -> None:
    path.touch()
    note = {"job": "cleanup", "pid": 7, "namespace": "pid:[1]"}
    lock_path(path).write_text(json.dumps(note))
    assert is_memctl_running(path)

    with exclusive(path, job="cleanup", wait=0):
        pass

    assert not is_memctl_running(path)


def test_a_held_lock_is_detected_where_the_kernel_lists_no_locks(
    path: Path, holder: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "LOCKS", Path("/nowhere"))
    assert is_memctl_running(path)

    fcntl.flock(holder, fcntl.LOCK_UN)

    assert not is_memctl_running(path)


def test_locking_does_not_change_a_foreign_file_with_the_name_of_the_lock(
    path: Path, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("content")
    lock_path(path).hardlink_to(precious)

    with exclusive(path, job="cleanup", wait=0):
        assert precious.read_text() == "content"

    assert precious.read_text() == "content"
