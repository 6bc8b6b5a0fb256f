"""A local HTTP server that records the requests it receives."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WebServer:
    """A server on 127.0.0.1: its port, what it answers, and the requests so far."""

    port: int = 0
    status: int = 200
    location: str | None = None  # of a redirect
    answers: threading.Event = field(default_factory=threading.Event)  # not set: it waits
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str, *, scheme: str = "http", user: str = "") -> str:
        """Return a URL of the server."""
        return f"{scheme}://{user}127.0.0.1:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        """The paths that were requested."""
        return [path for _, path, _ in self.requests]


@contextmanager
def web_server() -> Iterator[WebServer]:
    """Run a server during the block."""
    state = WebServer()
    state.answers.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append((self.command, self.path, dict(self.headers)))
            state.answers.wait(60)
            self.send_response(state.status)
            if state.location:
                self.send_header("Location", state.location)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: object, client_address: object) -> None:
            """Print nothing if a client has gone."""

    with Server(("127.0.0.1", 0), Handler) as server:
        state.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield state
        finally:
            state.answers.set()
            server.shutdown()
