"""The heartbeat: a request after each `memctl run`, to a service that notices if none arrives.

It is a GET request to the URL after a success, and with `/fail` added to the path after a failure.
Redirects are not followed; the proxies in the environment (`https_proxy` and the like) are used.
"""

import threading
from base64 import b64encode
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from memctl import __version__
from memctl.config.addresses import host, origin
from memctl.errors import MemctlError

HEARTBEAT_SECONDS = 10.0
NO_ANSWER = "no answer in time"


def send_heartbeat(url: str, *, failed: bool, seconds: float = HEARTBEAT_SECONDS) -> None:
    """Send a heartbeat within some seconds.

    Raises MemctlError, which names only the host, if it cannot be sent or is not accepted.
    """
    problem: str | None = NO_ANSWER

    def send() -> None:
        nonlocal problem
        problem = _problem(url, failed, seconds)

    # A signal interrupts the wait for a thread, but not the lookup of a host name. That has no
    # timeout either, and the timeout of urllib applies to each step.
    thread = threading.Thread(target=send, daemon=True)
    try:
        thread.start()
        thread.join(seconds)
    except RuntimeError:
        problem = "no thread can be started"
    if found := problem:  # read once: the thread may still end
        raise MemctlError(
            f"the heartbeat could not be sent to {origin(url)} ({found})",
            "check [heartbeat] in the configuration",
        )


class _NoRedirects(HTTPRedirectHandler):
    """Treats a redirect as an error."""

    def redirect_request(self, *_args: object) -> None:
        """Follow no redirect."""


def _problem(url: str, failed: bool, seconds: float) -> str | None:
    """Send the request and return what prevented it; None if it was accepted."""
    try:
        build_opener(_NoRedirects).open(_request(url, failed), timeout=seconds).close()
    except HTTPError as error:
        error.close()
        return f"status {error.code}"
    except URLError as error:
        return _reason(error.reason)
    except (OSError, HTTPException, ValueError) as error:
        return _reason(error)
    return None


def _request(url: str, failed: bool) -> Request:
    parts = urlsplit(url)
    path = f"{parts.path.rstrip('/')}/fail" if failed else parts.path
    request = Request(  # noqa: S310  the configuration accepts only http and https
        urlunsplit((parts.scheme, host(parts), path, parts.query, "")),
        headers={"User-Agent": f"memctl/{__version__}"},
    )
    if parts.username is not None:
        user = unquote_to_bytes(f"{parts.username}:{parts.password or ''}")
        request.add_unredirected_header("Authorization", f"Basic {b64encode(user).decode()}")
    return request


def _reason(error: object) -> str:
    """Return a reason without the URL, which some errors contain."""
    if isinstance(error, TimeoutError):
        return NO_ANSWER
    if isinstance(error, ValueError):
        return "invalid host name"
    return (isinstance(error, OSError) and error.strerror) or "no valid answer"
