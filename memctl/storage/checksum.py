"""SHA-256 without OpenSSL, whose import takes 4 ms of a start of about 80 ms."""

import functools
from importlib import import_module
from typing import Any


def sha256(content: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return str(_implementation().sha256(content).hexdigest())


@functools.cache
def _implementation() -> Any:
    """Return the part of hashlib that does not load OpenSSL."""
    for name in ("_sha2", "_sha256", "hashlib"):  # Python 3.12 and later, 3.11, and any
        try:
            return import_module(name)
        except ImportError:
            continue
    raise AssertionError("Python has hashlib")
