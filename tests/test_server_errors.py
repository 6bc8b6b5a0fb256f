"""Errors of a PostgreSQL server: one line without the password, and an exit code."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests.support.disks import fill_disk
from tests.support.engines import PostgresEngine
from tests.support.program import PROGRAM, Memctl, complaint
from tests.support.servers import Server, private_server

PASSWORD = "p@ss:w/rd?#%&="  # noqa: S105


def at(url: str, place: Path) -> Memctl:
    return Memctl(place / "unused.db", url=url)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A migrated server that requires a password."""
    with private_server("max_connections=8", password=PASSWORD) as server:
        at(with_password(server, PASSWORD), Path.cwd()).ok("migrate")
        yield server


def with_password(server: Server, password: str) -> str:
    return server.url().replace("@", f":{quote(password, safe='')}@")


# Before a connection exists


def test_without_a_server_there_is_no_database(tmp_path: Path) -> None:
    answer = at("postgresql://127.0.0.1:1/memctl", tmp_path)("cleanup")

    assert answer.exit_code == 10
    assert complaint(answer).startswith(
        "memctl: no server answers at postgresql://127.0.0.1:1/memctl"
    )


def test_an_unknown_host_is_no_server(tmp_path: Path) -> None:
    answer = at("postgresql://no-such-host.invalid/memctl", tmp_path)("cleanup")

    assert answer.exit_code == 10
    assert "no server answers at postgresql://no-such-host.invalid/memctl" in complaint(answer)


def test_a_missing_database_is_named(on_server: PostgresEngine, tmp_path: Path) -> None:
    url = on_server.url.rpartition("/")[0] + "/no_such_database"

    for command in ("cleanup", "migrate"):
        answer = at(url, tmp_path)(command)
        assert answer.exit_code == 10
        assert complaint(answer) == (
            f"memctl: there is no database at {url}; check --db, or create it with `createdb`"
        )


def test_a_database_without_tables_is_to_be_migrated(guarded: Server, tmp_path: Path) -> None:
    url = with_password(guarded, PASSWORD).rpartition("/")[0] + "/postgres"

    answer = at(url, tmp_path)("cleanup")

    assert answer.exit_code == 12
    assert "run `memctl migrate`" in complaint(answer)


@pytest.mark.parametrize(
    "password",
    [
        pytest.param("wrong", id="plain"),
        pytest.param("wr%20ng%40x", id="encoded"),
        pytest.param("wr%3A%2F%3F%23%5B%5D%26%3D", id="special characters"),
    ],
)
@pytest.mark.parametrize("place", ["before the host", "in an option"])
def test_a_wrong_password_is_not_printed(
    password: str, place: str, guarded: Server, tmp_path: Path
) -> None:
    url = guarded.url()
    if place == "before the host":
        url = url.replace("@", f":{password}@")
    else:
        url += f"?password={password}"

    for words in (("cleanup",), ("cleanup", "--json"), ("migrate",), ("cleanup", "-v")):
        answer = at(url, tmp_path)(*words)
        assert answer.exit_code == 1
        assert (answer.out, answer.err.count("\n")) == ("", 1)
        assert guarded.url() in answer.err
        assert "wr" not in answer.err


def test_a_missing_password_is_asked_of_the_user(guarded: Server, tmp_path: Path) -> None:
    answer = at(guarded.url(), tmp_path)("cleanup")

    assert answer.exit_code == 1
    assert complaint(answer).endswith(
        "; check the user, and the password in PGPASSFILE or ~/.pgpass"
    )


def test_a_password_may_have_special_characters(guarded: Server, tmp_path: Path) -> None:
    option = f"{guarded.url()}?password={quote(PASSWORD, safe='')}"

    for url in (with_password(guarded, PASSWORD), option):
        assert at(url, tmp_path).ok("cleanup", "--json").json["archived"] == 0


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("postgresql://u:s3cret@host/db/more@x", id="a second at"),
        pytest.param("postgresql://u:s3/cret@host/db", id="a slash in the password"),
        pytest.param("postgresql://u:s3@cret@host/db", id="an at in the password"),
        pytest.param("postgresql://u:s3cret%zz@host/db", id="a wrong encoding"),
        pytest.param("postgresql://host/db?password=s3&cret", id="an ampersand in the password"),
        pytest.param("postgresql://u:s3cret@[::1/db", id="half an address"),
        pytest.param("postgresql://u:s3cret@host/db?sslmod=require", id="an unknown option"),
        pytest.param("postgresql://u:s3cret@host/db#part", id="a fragment"),
    ],
)
def test_an_invalid_url_is_refused_without_being_printed(url: str, tmp_path: Path) -> None:
    for words in (("cleanup",), ("migrate", "--json"), ("hold", "a", "b", "--reason", "c")):
        for answer in (
            at(url, tmp_path)(*words),
            Memctl(tmp_path / "unused.db")(*words, "--db", url),
        ):
            assert (answer.exit_code, answer.err.count("\n")) == (2, 1), answer
            assert "s3" not in answer.err
            assert "cret" not in answer.err


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("--db", "postgresql//u:s3cret@host/db", "cleanup"), id="no colon"),
        pytest.param(("--db", "host=h password=s3cret", "cleanup"), id="a connection string"),
        pytest.param(("postgresql://u:s3cret@host/db", "cleanup"), id="in place of a command"),
        pytest.param(("cleanup", "postgres://u:s3cret@host/db"), id="after a command"),
        pytest.param(("--config", "postgresql://u:s3cret@host/db", "cleanup"), id="another option"),
        pytest.param(("--json", "cleanup", "--agent", "postgresql+x://u:s3@cret@h"), id="an agent"),
    ],
)
def test_a_misplaced_url_is_printed_without_its_password(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    answer = Memctl(tmp_path / "unused.db")(*words)

    assert answer.exit_code in (1, 2, 10)
    assert answer.err.count("\n") == 1
    assert "s3" not in answer.err
    assert "cret" not in answer.err


def test_an_unknown_option_is_named(tmp_path: Path) -> None:
    answer = at("postgresql://host/db?sslmod=require", tmp_path)("cleanup")

    assert answer.exit_code == 2
    assert "sslmod" in complaint(answer)


def test_a_busy_server_is_to_be_tried_again(guarded: Server, tmp_path: Path) -> None:
    url = with_password(guarded, PASSWORD)
    with ExitStack() as connections:
        for _ in range(8):
            try:
                connections.enter_context(psycopg.connect(url))
            except psycopg.OperationalError:
                break
        answer = at(url, tmp_path)("cleanup")

    assert answer.exit_code == 1
    assert "does not accept connections now" in complaint(answer)
    assert complaint(answer).endswith("run the command again later")


def test_without_the_driver_the_command_names_the_package(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('hidden')")
    url = "postgresql://u:s3cret@127.0.0.1:1/memctl"
    environment = {**at(url, tmp_path).environment(), "PYTHONPATH": str(tmp_path)}

    for words in (["cleanup"], ["migrate"], ["rollback"], ["migrate", "--list"]):
        ran = subprocess.run(
            [PROGRAM, *words], env=environment, capture_output=True, text=True, check=False
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (
            2,
            "",
            "memctl: this memctl was installed without PostgreSQL; install it with"
            " `pip install 'agent-memctl[postgres]'`\n",
        )


# During the work


def test_a_user_without_permission_is_told_for_what(
    on_server: PostgresEngine, tmp_path: Path
) -> None:
    role = f"reader_{os.getpid()}"
    with psycopg.connect(on_server.url, autocommit=True) as db:
        db.execute(f"CREATE ROLE {role} LOGIN")
        db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        try:
            answer = at(on_server.url.replace("//memctl@", f"//{role}@"), tmp_path)("cleanup")
        finally:
            db.execute(f"DROP OWNED BY {role}")
            db.execute(f"DROP ROLE {role}")

    assert answer.exit_code == 1
    assert "the user has no permission for this" in complaint(answer)
    assert complaint(answer).endswith("grant it, or connect as the owner of the tables")


def test_a_standby_is_read_only(tmp_path: Path) -> None:
    with private_server() as primary:
        at(primary.url(), tmp_path).ok("migrate")
        with primary.standby() as standby:
            answer = at(standby.url(), tmp_path)("cleanup")

    assert answer.exit_code == 1
    assert complaint(answer) == (
        f"memctl: {standby.url()} is read-only, such as a standby server; connect to the primary"
        " server"
    )


def test_a_full_disk_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    with private_server() as server:
        space = server.place / "space"
        space.mkdir()
        subprocess.run(["mount", "--bind", small_disk, space], check=True)
        try:
            shutil.chown(space, "postgres", "postgres")
            server.sql(f"CREATE TABLESPACE small LOCATION '{space}'", database="postgres")
            memctl = at(server.url(), tmp_path)
            memctl.ok("migrate")
            server.sql("ALTER TABLE archived_memories SET TABLESPACE small")
            server.sql(
                "INSERT INTO agent_memory (id, agent_id, type, key, value, expires_at)"
                " SELECT n, 'a', 'learning', n, string_agg(md5(n || '-' || part), ''),"
                " '2026-11-22T08:43:58Z'"
                " FROM generate_series(1, 500) AS n, generate_series(1, 60) AS part GROUP BY n"
            )
            filler = fill_disk(small_disk, room=400_000)
            answer = memctl("cleanup")
            filler.unlink()
            archived = memctl.ok("cleanup", "--json").json["archived"]
            left = server.sql("SELECT count(*) FROM archived_memories")
        finally:
            server.stop("fast")
            subprocess.run(["umount", space], check=True)

    assert answer.exit_code == 1
    assert complaint(answer) == (
        f"memctl: the disk of {server.url()} is full; the interrupted step was rolled back; free"
        " some space and run the command again"
    )
    assert (0 < archived <= 500, left) == (True, "500")
