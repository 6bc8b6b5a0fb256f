"""The write lock is never left held."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest

from memctl.database import transaction


class SignalledConnection(sqlite3.Connection):
    """A connection whose user presses Ctrl-C at the worst moment."""

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> sqlite3.Cursor:  # type: ignore[override]
        """Execute, and be interrupted right after a transaction has begun."""
        cursor = super().execute(sql, parameters)
        if sql.startswith("BEGIN"):
            raise KeyboardInterrupt
        return cursor


def test_a_signal_right_after_the_start_of_a_transaction_ends_it() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None, factory=SignalledConnection)

    with pytest.raises(KeyboardInterrupt), transaction(db):
        pytest.fail("the block was entered")

    assert not db.in_transaction
    db.close()
