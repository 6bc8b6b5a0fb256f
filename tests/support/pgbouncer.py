"""A pool in front of a server: pgbouncer, which gives each transaction any of its connections."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.support.processes import eventually
from tests.support.servers import OWNER, Server, as_postgres, free_port, give_to_server

# Two connections to the server for all clients: each transaction of a client gets another one.
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server} user={owner}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""


@contextmanager
def pgbouncer(server: Server) -> Iterator[str]:
    """Run pgbouncer in front of a server; yields the beginning of URLs, without a database.

    Skips the test without the program.
    """
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("no pgbouncer: install the package of that name")
    port = free_port()
    file = server.place / "pgbouncer.ini"
    file.write_text(CONFIGURATION.format(server=server.port, owner=OWNER, port=port))
    give_to_server(file)
    with (server.place / "pgbouncer.log").open("w") as log:
        process = subprocess.Popen(
            [*as_postgres(), program, str(file)], stdout=log, stderr=log, cwd=server.place
        )
        try:
            url = f"postgresql://{OWNER}@127.0.0.1:{port}"
            eventually(lambda: _answers(f"{url}/postgres"))
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
