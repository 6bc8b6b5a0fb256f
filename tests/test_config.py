"""The configuration: the values in force and their sources, errors in it, and a new file."""

import json
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memctl.config.file import Configuration
from memctl.config.policies import CheckPolicy
from tests.support.program import PROGRAM, Answer, Memctl

DEFAULTS: list[tuple[str, Any]] = [
    ("decay.floor", 1.0),
    ("decay.grace_days", 7),
    ("decay.idle_rate", 0.1),
    ("decay.stale_days", 30),
    ("decay.stale_rate", 0.2),
    ("decay.since", None),
    ("prune.retention_days", 90),
    ("prune.protected_importance", 8.0),
    ("archive.keep_versions", None),
    ("quota.memories", None),
    ("quota.bytes", None),
    ("promote.importance", 8.0),
    ("promote.accesses", 5),
    ("promote.age_days", 14),
    ("alerts.agent_memories", 10_000),
    ("alerts.command", []),
    ("hooks.start", []),
    ("hooks.success", []),
    ("hooks.failure", []),
    ("heartbeat.url", None),
    ("report.every", "never"),
    ("report.format", "html"),
    ("report.directory", None),
    ("check.backup_days", 8),
    ("check.overdue_days", dict(CheckPolicy().overdue_days)),
    ("observability.events", False),
    ("run.cleanup", "always"),
    ("run.decay", "daily"),
    ("run.promote", "daily"),
    ("run.snapshot", "daily"),
    ("run.prune", "weekly"),
]
OF_DECAY_AND_PRUNE = 8  # the first of them

WRONG = """\
database = "memory.db"

[decay]
grace_day = 5
stale_days = 3.5

[prune.types.context]
retention_days = [
    1,
]
[agents."qa agent".prunes]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The path of the user's configuration file, which does not exist yet."""
    return tmp_path / ".config" / "memctl" / "config.toml"


def config(memctl: Memctl, *words: str | Path, without: str = "", **environment: str) -> Answer:
    """Run `memctl config` with variables added to or removed from the environment."""
    variables = memctl.environment() | environment
    variables.pop(without, None)
    ran = subprocess.run([PROGRAM, "config", *words], env=variables, capture_output=True, text=True)
    return Answer(ran.returncode, ran.stdout, ran.stderr)


def test_without_a_file_every_default_is_shown(memctl: Memctl) -> None:
    answer = memctl.ok("config", "show", "--json").json

    assert answer == {
        "schema": 1,
        "file": None,
        "settings": [
            {
                "setting": "database",
                "value": str(memctl.database),
                "source": "environment MEMCTL_DB",
            },
            *({"setting": key, "value": value, "source": "default"} for key, value in DEFAULTS),
        ],
    }


def shown_value(value: object) -> str:
    """Return a value as `config show` prints it."""
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value)


def test_values_from_the_file_are_shown_with_its_name(memctl: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "memctl.toml"
    file.write_text(
        """
        decay.floor = 1
        decay.since = 2026-11-22
        decay.types.context.grace_days = 0
        [agents."a b".prune]
        retention_days = 7
        types.mood.protected_importance = 3
        """
    )

    answer = memctl.ok("config", "show", "--config", str(file), "--db", "other.db")

    shown = [re.split(r"\s{2,}", line.strip()) for line in answer.out.splitlines()]
    source = f"(file {file})"
    assert shown == [
        ["database", "other.db", "(option --db)"],
        ["decay.floor", "1.0", source],
        ["decay.grace_days", "7", "(default)"],
        ["decay.idle_rate", "0.1", "(default)"],
        ["decay.stale_days", "30", "(default)"],
        ["decay.stale_rate", "0.2", "(default)"],
        ["decay.since", "2026-11-22", source],
        ["decay.types.context.grace_days", "0", source],
        ["prune.retention_days", "90", "(default)"],
        ["prune.protected_importance", "8.0", "(default)"],
        *([key, shown_value(value), "(default)"] for key, value in DEFAULTS[OF_DECAY_AND_PRUNE:]),
        ['agents."a b".prune.retention_days', "7", source],
        ['agents."a b".prune.types.mood.protected_importance', "3.0", source],
    ]
    assert answer.err == ""


@pytest.mark.parametrize(
    ("environment", "words", "expected", "source"),
    [
        pytest.param(
            {"MEMCTL_DB": "a", "HARNESS_DB_PATH": "b"},
            ["--db", "c"],
            "c",
            "option --db",
            id="option",
        ),
        pytest.param(
            {"MEMCTL_DB": "a", "HARNESS_DB_PATH": "b"},
            [],
            "a",
            "environment MEMCTL_DB",
            id="our variable",
        ),
        pytest.param(
            {"MEMCTL_DB": "", "HARNESS_DB_PATH": "b"},
            [],
            "b",
            "environment HARNESS_DB_PATH",
            id="the service's variable",
        ),
        pytest.param({"MEMCTL_DB": ""}, [], "{folder}/m.db", "file {folder}/m.toml", id="file"),
        pytest.param(
            {"MEMCTL_DB": "", "MEMCTL_CONFIG": "", "STATE_DIRECTORY": "/s"},
            [],
            "/s/memory.db",
            "default",
            id="default",
        ),
    ],
)
def test_the_database_comes_from_the_first_that_names_it(
    memctl: Memctl,
    tmp_path: Path,
    environment: dict[str, str],
    words: list[str],
    expected: str,
    source: str,
) -> None:
    file = tmp_path / "m.toml"
    file.write_text('database = "m.db"\n')

    answer = config(memctl, "show", "--json", *words, **{"MEMCTL_CONFIG": str(file)} | environment)

    assert answer.json["settings"][0] == {
        "setting": "database",
        "value": expected.format(folder=tmp_path),
        "source": source.format(folder=tmp_path),
    }


def test_the_path_of_the_file_in_force_is_printed(
    memctl: Memctl, file: Path, tmp_path: Path
) -> None:
    file.parent.mkdir(parents=True)
    file.touch()
    named = tmp_path / "named.toml"
    named.touch()

    own = config(memctl, "path")
    variable = config(memctl, "path", MEMCTL_CONFIG=str(named))
    option = config(memctl, "path", "--json", "--config", named, MEMCTL_CONFIG="missing")

    assert own == Answer(0, f"{file}\n", "")
    assert variable == Answer(0, f"{named}\n", "")
    assert option.json == {"schema": 1, "file": str(named)}


def test_a_file_can_begin_with_a_byte_order_mark(memctl: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "memctl.toml"
    file.write_text("[decay]\ngrace_days = 3\n", encoding="utf-8-sig")

    settings = memctl.ok("config", "show", "--json", "--config", str(file)).json["settings"]

    assert {"setting": "decay.grace_days", "value": 3, "source": f"file {file}"} in settings


def test_without_a_file_its_default_path_is_printed(memctl: Memctl, file: Path) -> None:
    answer = config(memctl, "path")

    assert answer == Answer(
        1,
        "",
        "memctl: there is no configuration file; the defaults apply; "
        f"`memctl config init` creates {file}\n",
    )


def test_every_error_is_reported_with_its_key(memctl: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "memctl.toml"
    file.write_text(WRONG)

    answer = memctl("config", "validate", "--json", "--config", str(file))
    table = memctl("config", "validate", "--config", str(file))
    job = memctl("cleanup", "--config", str(file))

    number = {"message": "Input should be a valid integer", "hint": "correct it"}
    unknown = "unknown key"
    assert answer.json == {
        "schema": 1,
        "file": str(file),
        "problems": [
            {"setting": "decay.stale_days", **number},
            {
                "setting": "decay.grace_day",
                "message": unknown,
                "hint": "did you mean grace_days?",
            },
            {"setting": "prune.types.context.retention_days", **number},
            {
                "setting": 'agents."qa agent".prunes',
                "message": unknown,
                "hint": "did you mean prune?",
            },
        ],
        "unused_names": None,
    }
    assert (answer.exit_code, table.exit_code, job.exit_code) == (2, 2, 2)
    assert table.err == f"memctl: {file} is invalid; correct the problems listed\n"
    problems = [
        (line["setting"], f"{line['message']}; {line['hint']}") for line in answer.json["problems"]
    ]
    margin = max(len(key) for key, _ in problems) + 2
    assert table.out == "".join(f"{key:{margin}}{text}\n" for key, text in problems)
    assert job.err == (
        f"memctl: {file}: decay.stale_days: Input should be a valid integer "
        "(and 3 more: see `memctl config validate`); correct it\n"
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(
            'database = "a\\u0000b"\n',
            ": database: A file name cannot contain a NUL character; correct it",
            id="an impossible name",
        ),
        pytest.param(
            "[agents.a]\nretention_days = 1\n",
            ": agents.a.retention_days: unknown key; use one of decay, prune",
            id="in the wrong table",
        ),
        pytest.param(
            "agents.a.decay.types.context.flor = 1\n",
            ": agents.a.decay.types.context.flor: unknown key; did you mean floor?",
            id="in the narrowest table",
        ),
        pytest.param(
            "[decay]\ngrace_days = 31\n",
            ": decay.grace_days: grace_days (31) exceeds stale_days (30); decrease grace_days or"
            " increase stale_days",
            id="grace after stale",
        ),
        pytest.param(
            "[decay]\nstale_days = 10\n[decay.types.context]\nfloor = 2\ngrace_days = 11\n",
            ": decay.types.context.grace_days: grace_days (11) exceeds stale_days (10); "
            "decrease grace_days or increase stale_days",
            id="grace of a type after the general stale",
        ),
        pytest.param(
            "[decay.types.context]\ngrace_days = 20\n[agents.a.decay]\nstale_days = 19\n",
            ": agents.a.decay.stale_days: grace_days (20) exceeds stale_days (19); "
            "decrease grace_days or increase stale_days",
            id="grace of a type after the stale of an agent",
        ),
        pytest.param(
            "agents.a.decay.types.context = 7\n",
            ": agents.a.decay.types.context: Input should be a table; correct it",
            id="a number instead of a table",
        ),
        pytest.param("a = " + "[" * 5000, " is not valid TOML: ", id="nested too deeply"),
    ],
)
def test_an_error_is_reported_in_one_line(
    memctl: Memctl, tmp_path: Path, content: str, complaint: str
) -> None:
    file = tmp_path / "memctl.toml"
    file.write_text(content)

    answer = memctl("prune", "--config", str(file))

    assert (answer.exit_code, answer.out) == (2, "")
    assert answer.err.startswith(f"memctl: {file}{complaint}")
    assert answer.err.count("\n") == 1


def test_bounds_are_checked_for_each_agent_and_not_across_agents(
    memctl: Memctl, tmp_path: Path
) -> None:
    file = tmp_path / "memctl.toml"
    file.write_text(
        "[agents.a.decay]\ngrace_days = 40\nstale_days = 50\n[agents.b.decay]\nstale_days = 8\n"
    )

    answer = memctl.ok("config", "validate", "--config", str(file))

    assert answer.err == (
        f"config: {file} is valid; its names were not checked, because there is no database\n"
    )


def test_unused_names_are_reported_but_are_not_errors(
    migrated: Memctl, remember: Callable[..., str], tmp_path: Path
) -> None:
    remember(agent_id="qa_agent", type="mood")
    file = tmp_path / "memctl.toml"
    file.write_text(
        """
        [decay.types]
        context = {floor = 2}
        mood = {floor = 2}
        contxt = {floor = 2}
        [agents]
        qa_agent.prune.retention_days = 7
        qa_agnet.prune.retention_days = 7
        """
    )

    answer = migrated.ok("config", "validate", "--config", str(file))
    document = migrated.ok("config", "validate", "--json", "--config", str(file)).json

    unused = [
        "agent 'qa_agnet' has no memories; did you mean 'qa_agent'?",
        "no memory has type 'contxt'",
    ]
    assert answer == Answer(
        0, "", f"config: {file} is valid\nconfig: {unused[0]}\nconfig: {unused[1]}\n"
    )
    assert document == {
        "schema": 1,
        "file": str(file),
        "problems": [],
        "unused_names": unused,
    }


def test_only_the_first_of_many_unused_names_are_listed(migrated: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "memctl.toml"
    file.write_text("".join(f"[agents.a-{n}.prune]\nretention_days = 7\n" for n in range(1000)))

    document = migrated.ok("config", "validate", "--json", "--config", str(file)).json

    assert document["unused_names"] == [
        *(f"agent 'a-{n}' has no memories; names are case-sensitive" for n in range(10)),
        "990 more agents without memories",
    ]


def test_without_a_file_there_is_nothing_to_validate(migrated: Memctl) -> None:
    answer = migrated.ok("config", "validate")

    assert answer.err == "config: there is no configuration file; the defaults apply\n"


def test_a_file_can_be_validated_without_a_database(memctl: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "memctl.toml"
    file.touch()

    ran = subprocess.run(
        [PROGRAM, "config", "validate", "--config", file], env={}, capture_output=True, text=True
    )

    assert (ran.returncode, ran.stdout) == (0, "")


def test_a_new_file_changes_no_value_and_has_every_key(memctl: Memctl, file: Path) -> None:
    before = memctl.ok("config", "show", "--json").json["settings"]

    answer = memctl.ok("config", "init")
    after = memctl.ok("config", "show", "--json").json["settings"]

    written = file.read_text(encoding="utf-8")
    general, _ = written.split("# All keys of")
    uncommented = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", general, flags=re.MULTILINE))
    assert answer == Answer(0, "", f"config: wrote {file}\n")
    assert after == before
    assert {
        f"{section}.{key}": value
        for section, keys in uncommented.items()
        if section != "database"
        for key, value in keys.items()
    } == dict(DEFAULTS) | {
        "decay.since": "2026-11-22",
        "quota.memories": 1000,
        "quota.bytes": 10_000_000,
        "alerts.command": ["/usr/local/bin/send-alert"],
        "hooks.start": ["/usr/local/bin/memctl-start"],
        "hooks.success": ["/usr/local/bin/memctl-done"],
        "hooks.failure": ["/usr/local/bin/memctl-failed"],
        "archive.keep_versions": 100,
        "heartbeat.url": "https://hc-ping.com/your-uuid",
        "report.directory": "reports",
    }
    assert uncommented["database"] == "memory.db"
    Configuration.model_validate(uncommented)


def test_the_policies_in_a_new_file_are_valid_when_uncommented(memctl: Memctl, file: Path) -> None:
    memctl.ok("config", "init")

    _, example = file.read_text(encoding="utf-8").split("# all memories.\n#\n")
    policies = tomllib.loads(example.replace("# ", "").replace("#", ""))

    assert policies == {
        "decay": {"types": {"context": {"grace_days": 1}}},
        "agents": {
            "qa_agent": {
                "prune": {"retention_days": 365},
                "decay": {"types": {"context": {"grace_days": 3}}},
                "quota": {"memories": 5000},
            }
        },
    }
    Configuration.model_validate(policies)


def test_an_existing_file_is_not_overwritten(memctl: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "memctl.toml"
    file.write_text("[decay]\n")

    answer = memctl("config", "init", "--json", "--config", str(file))

    assert (answer.exit_code, answer.out) == (3, "")
    assert f"{file} already exists" in answer.err
    assert file.read_text() == "[decay]\n"


def test_a_named_file_is_created_only_in_an_existing_directory(
    memctl: Memctl, tmp_path: Path
) -> None:
    file = tmp_path / "there" / "memctl.toml"

    missing = memctl("config", "init", "--config", str(file))
    file.parent.mkdir()
    made = memctl.ok("config", "init", "--json", "--config", str(file)).json

    assert missing == Answer(
        1,
        "",
        f"memctl: {file} cannot be accessed (No such file or directory); "
        "check the path and its permissions\n",
    )
    assert made == {"schema": 1, "file": str(file)}
    assert file.exists()


def test_the_error_for_an_unreachable_home_suggests_an_option(
    memctl: Memctl,
) -> None:
    home = Path("/") / ("x" * 300)

    answer = config(memctl, "path", HOME=str(home))

    assert answer == Answer(
        1,
        "",
        f"memctl: {home}/.config/memctl/config.toml cannot be accessed (File name too long); "
        "set HOME to this user's home directory, or specify a file with --config\n",
    )


def test_without_a_home_directory_the_file_has_no_default_path(memctl: Memctl) -> None:
    answer = config(memctl, "init", without="HOME")

    assert answer == Answer(
        1,
        "",
        "memctl: no configuration file is specified, and there is no home directory; "
        "specify one with --config\n",
    )


def test_an_unknown_action_is_a_usage_error(memctl: Memctl) -> None:
    answer = memctl("config", "shwo")

    assert (answer.exit_code, answer.out) == (2, "")
    assert "'shwo' is not one of 'show', 'path', 'validate', 'init'" in answer.err
