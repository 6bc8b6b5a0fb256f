"""URLs in the configuration, which may contain secrets: a password, or a token in the path.

Messages name only the scheme and the host.
"""

from urllib.parse import SplitResult, urlsplit


def web_address(url: str) -> str:
    """Return a URL with the scheme http or https.

    Raises ValueError, without the URL in its message, for any other text.
    """
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.scheme in ("http", "https")
        _ = parts.port  # raises an error for an invalid one
    except ValueError:
        usable = False
    if not usable or not (url.isascii() and url.isprintable()) or " " in url:
        raise ValueError("Input should be a URL such as https://example.com/ping")
    return url


def origin(url: str) -> str:
    """Return the scheme and the host of a URL, with its port if it names one."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{host(parts)}"


def host(parts: SplitResult) -> str:
    """Return the host and port of a URL, without a user name and a password."""
    return parts.netloc.rpartition("@")[2]
