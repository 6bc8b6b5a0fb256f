"""The contract of the JSON output: a schema for every command, and one meaning for every name.

`tests.support.program` holds every JSON that any test prints against these schemas.
"""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from memctl.cli.program import NAMES
from memctl.output.contract.commands import COMMANDS
from memctl.output.contract.json_schema import DIALECT, json_schema
from memctl.output.contract.meanings import MEANINGS
from tests.support.contract import require_contract
from tests.support.program import Memctl, complaint

# What has a schema without being a command, and commands that print no JSON of their own.
NO_COMMANDS = {"error", "alert", "hook"}
NO_JSON = {"schema"}


def properties(schema: Any) -> set[str]:
    """Return the names of all properties in a schema."""
    if isinstance(schema, list):
        return set().union(*map(properties, schema))
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", ())).union(*map(properties, schema.values()))


def test_every_command_has_a_schema() -> None:
    assert set(COMMANDS) - NO_COMMANDS == set(NAMES) - NO_JSON


@pytest.mark.parametrize("name", COMMANDS)
def test_a_schema_is_printed_as_valid_json_schema_with_its_version(
    name: str, memctl: Memctl
) -> None:
    schema = memctl.ok("schema", name).json

    Draft202012Validator.check_schema(schema)
    assert schema == json_schema(name)
    assert (schema["$schema"], schema["$id"], schema["version"]) == (
        DIALECT,
        f"urn:memctl:{name}:1",
        1,
    )


def test_every_name_has_one_meaning_and_every_meaning_a_name() -> None:
    used = set().union(*(properties(json_schema(name)) for name in COMMANDS))

    assert used == set(MEANINGS)


def test_the_names_of_the_schemas_are_listed(memctl: Memctl) -> None:
    assert memctl.ok("schema").out.splitlines() == list(COMMANDS)
    assert memctl.ok("schema", "--json").json == list(COMMANDS)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("lst", "did you mean list?"), ("nonsense", "`memctl schema` lists the names")],
)
def test_an_unknown_name_is_a_usage_error(name: str, hint: str, memctl: Memctl) -> None:
    answer = memctl("schema", name)

    assert answer.exit_code == 2
    assert complaint(answer) == f"memctl: there is no schema '{name}'; {hint}"


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"schema": 1, "forgotten": "one", "held": 0}, id="another type"),
        pytest.param({"schema": 1}, id="a missing field"),
        pytest.param({"schema": 1, "forgotten": 1, "held": 0, "more": 2}, id="an unknown field"),
        pytest.param({"schema": 2, "forgotten": 1, "held": 0}, id="another version"),
    ],
)
def test_output_that_breaks_the_contract_fails_the_test_that_prints_it(wrong: object) -> None:
    require_contract(["forget", "--json"], json.dumps({"schema": 1, "forgotten": 1, "held": 0}), "")

    with pytest.raises(AssertionError):
        require_contract(["forget", "--json"], json.dumps(wrong), "")


def test_additions_do_not_break_readers_that_validate() -> None:
    later = {"schema": 1, "forgotten": 1, "held": 0, "added_later": True}

    Draft202012Validator(json_schema("forget")).validate(later)
    with pytest.raises(ValidationError):
        Draft202012Validator(json_schema("forget")).validate({"schema": 1})
