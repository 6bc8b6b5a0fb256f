"""Checks the JSON that the program prints against the schemas that it publishes."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from memctl.cli.program import NAMES
from memctl.output.contract.commands import COMMANDS
from memctl.output.contract.json_schema import json_schema


def require_contract(words: Sequence[str | bytes], out: str, err: str) -> None:
    """Assert that JSON on stdout and a JSON error on stderr have exactly the published fields."""
    command = next((word for word in words if word in NAMES), None)
    is_json = out[:1] in ("{", "[") and "--columns" not in words
    if is_json and isinstance(command, str) and command in COMMANDS:
        if "--nl" not in words and "--follow" not in words and "-f" not in words:
            _require(_validator(command), json.loads(out))
        elif command != "export":
            for line in out.splitlines():
                _require(_validator(command, of_records=True), json.loads(line))
    for line in err.splitlines():
        if line.startswith('{"error"'):
            _require(_validator("error"), json.loads(line))


def _require(validator: Draft202012Validator, document: Any) -> None:
    problems = [
        f"{error.json_path}: {error.message[:500]}" for error in validator.iter_errors(document)
    ]
    assert not problems, problems[:5]


@cache
def _validator(command: str, *, of_records: bool = False) -> Draft202012Validator:
    """Return what checks a command's JSON, or the records of its list; no other field may occur."""
    schema = json_schema(command)
    if of_records:
        lists = [part for part in (schema, *schema.get("anyOf", ())) if "items" in part]
        records = [part["items"] for part in lists]
        schema = {"anyOf": records, "$defs": schema.get("$defs", {})}
    return Draft202012Validator(_closed(schema))


def _closed(schema: Any) -> Any:
    """Return a schema whose objects have no other properties than it names."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(part) for name, part in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed
