"""The password in the URL of a database is never printed, nor passed to other programs."""

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctl import AgentMemory
from memctl.errors import MemctlError, UsageError
from memctl.storage.addresses import ServerAddress, parse_address
from tests.support.engines import PostgresEngine
from tests.support.program import Memctl
from tests.support.properties import examples

WORD = "cret-word"  # a part of every password here, in any encoding
PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8).map(
    lambda text: f"{text}{WORD}{text}"
)
URLS = [
    pytest.param("postgresql://u:s%40{}@127.0.0.1:1/d", id="before the host"),
    pytest.param("postgresql://u@127.0.0.1:1/d?connect_timeout=2&password=s%26{}", id="an option"),
    pytest.param("postgresql://u@127.0.0.1:1/d?Password={}", id="an unknown option"),
    pytest.param("postgresql://u:%zz{}@127.0.0.1:1/d", id="an invalid encoding"),
    pytest.param("postgresql://u@127.0.0.1:1/d?sslpassword=%zz{}", id="an invalid option"),
    pytest.param("postgresql://u:a/b{}@127.0.0.1:1/d", id="a slash"),
    pytest.param("postgresql://u:a@b{}@127.0.0.1:1/d", id="an at sign"),
    pytest.param("postgresql://u:a?b={}@127.0.0.1:1/d", id="a question mark"),
    pytest.param("postgresql:/u:{}@127.0.0.1:1/d", id="one slash"),
    pytest.param("POSTGRES:u:{}@127.0.0.1:1/d", id="no slash"),
]
COMMANDS = [
    ["run"],
    ["remember", "a", "learning", "k", "v"],
    ["list", "--all"],
    ["schedule", "--cron"],
    ["report"],
    ["config", "show"],
]


@examples(1)
@given(password=PASSWORDS)
def test_no_form_of_an_address_has_the_password(password: str) -> None:
    encoded = quote(password, safe="")
    for url in (
        f"postgresql://u:{encoded}@h1,h2:5432/d?application_name=x",
        f"postgresql://u@h/d?password={encoded}&sslpassword={encoded}",
    ):
        address = ServerAddress(url)
        message = address.without_secrets(f"1 {encoded} 2 {password} 3")

        assert WORD not in f"{address} {address!r}"
        assert message == "1 *** 2 *** 3"
        assert address.has_password


def test_an_address_keeps_the_rest_of_its_url() -> None:
    url = "postgresql://u%20v:x@h1:1,h2:2/d%20e?application_name=a%20b+c&password=y&service=s"

    assert str(parse_address(url)) == (
        "postgresql://u%20v@h1:1,h2:2/d%20e?application_name=a%20b+c&service=s"
    )


@pytest.mark.parametrize("url", URLS)
def test_no_command_prints_the_password(tmp_path: Path, url: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"database = {json.dumps(url.format(WORD))}\n")
    memctl = Memctl(tmp_path / "unused.db", url=url.format(WORD))
    configured = replace(memctl, prefix=("env", "-u", "MEMCTL_DB"))

    answers = [memctl(*words) for words in COMMANDS]
    answers.append(memctl("cleanup", "--json", "--db", url.format(WORD)))
    answers.append(configured("run", "--config", str(file)))

    for answer in answers:
        assert WORD not in answer.out + answer.err, answer
        assert "Traceback" not in answer.err, answer


@pytest.mark.parametrize("url", URLS)
def test_the_api_does_not_name_the_password(url: str) -> None:
    for database in (url.format(WORD), Path(url.format(WORD))):
        with pytest.raises(MemctlError) as raised:
            AgentMemory(database)

        error: BaseException | None = raised.value
        while error is not None:
            assert WORD not in f"{error!r} {error}"
            error = error.__cause__


def test_a_path_that_was_a_url_is_refused() -> None:
    with pytest.raises(UsageError, match="the URL of the database is invalid"):
        AgentMemory(Path("postgresql://127.0.0.1/d"))


def test_hooks_processes_and_the_ledger_do_not_get_the_password(
    on_server: PostgresEngine, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    script = f"cat >> {seen}; ps -eo args >> {seen}"
    file = tmp_path / "config.toml"
    file.write_text(
        f'database = "{on_server.url}?password=s%26{WORD}"\n'
        f"[hooks]\nstart = {json.dumps(['sh', '-c', script])}\n"
        f"success = {json.dumps(['sh', '-c', script])}\n"
    )
    memctl = replace(on_server.memctl, prefix=("env", "-u", "MEMCTL_DB"))

    answers = [
        memctl(*words, "--config", str(file))
        for words in (
            ["cleanup", "--json", "--verbose"],
            ["runs"],
            ["config", "show"],
            ["config", "validate"],
            ["schedule", "--cron"],
            ["schedule", "--systemd"],
        )
    ]

    documents = seen.read_text()
    assert [answer.exit_code for answer in answers] == [0] * len(answers), answers
    assert f'"database": "{on_server.address}"' in documents
    assert documents.count(str(file)) >= 2  # the processes were listed
    everything = documents + "".join(answer.out + answer.err for answer in answers)
    assert WORD not in everything
    assert WORD not in str(on_server.rows("memory_runs"))
    assert "the password is left out; put it in ~/.pgpass" in answers[-1].err


def test_a_directory_of_configurations_has_databases_on_servers(
    on_server: PostgresEngine, tmp_path: Path
) -> None:
    directory = tmp_path / "conf.d"
    directory.mkdir(mode=0o755)
    (directory / "a.toml").write_text(
        f'database = "{on_server.address}?password={WORD}"\n[run]\n'
        'decay = "never"\npromote = "never"\nprune = "never"\nsnapshot = "never"\n'
    )
    (directory / "b.toml").write_text('database = "postgresql://127.0.0.1:1/d"\n')

    answer = on_server.memctl("run", "--config-dir", str(directory), "--json")
    lines = on_server.memctl("schedule", "--cron", "--config-dir", str(directory))

    outcomes = answer.json["databases"]
    assert [one["exit_code"] for one in outcomes] == [0, 10], answer
    assert outcomes[0]["database"] == str(on_server.address)
    assert WORD not in answer.out + answer.err + lines.out + lines.err
