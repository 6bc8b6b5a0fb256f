"""What holds on each engine."""

from tests.support.engines import Engine
from tests.support.program import NOW


def test_cleanup_archives_what_has_expired(engine: Engine) -> None:
    expired = engine.insert(key="old", expires_at="2026-11-22T09:43:57.000Z", last_accessed=None)
    engine.insert(key="new", expires_at="2026-11-22T09:43:58.000Z")

    result = engine.memctl.ok("cleanup", "--json").json

    assert result["archived"] == 1
    assert [row["key"] for row in engine.rows()] == ["new"]
    ((archived),) = engine.rows("archived_memories")
    assert archived["id"] == expired
    assert archived["archived_at"] == NOW.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert archived["expires_at"] == "2026-11-22T09:43:57.000Z"
