"""The contract as JSON Schemas."""

from collections.abc import Iterator
from typing import Any

from memctl.output.contract.commands import COMMANDS
from memctl.output.contract.meanings import MEANINGS
from memctl.output.contract.version import VERSION

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(command: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what a command prints.

    Its `version` is that of the contract; documents have the same number as `schema`.
    """
    from pydantic import TypeAdapter

    schema = TypeAdapter(COMMANDS[command]).json_schema()
    for part in _parts(schema):
        part.pop("title", None)
        for name, value in part.get("properties", {}).items():
            value["description"] = MEANINGS[name]
    heading = {
        "$schema": DIALECT,
        "$id": f"urn:memctl:{command}:{VERSION}",
        "title": f"memctl {command}",
        "version": VERSION,
    }
    return heading | schema


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Yield every schema within a schema, and the schema itself."""
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            named = key in ("properties", "$defs")
            for part in value.values() if named else [value]:
                yield from _parts(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _parts(part)
