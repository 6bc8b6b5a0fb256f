"""Stored values as exact JSON, and texts as bytes.

Four kinds of values have no equivalent in JSON and become objects: text that is invalid UTF-8
`{"base64": "…"}`, a BLOB `{"blob_base64": "…"}`, and the numbers that are not finite
`{"real": "inf"}`, `{"real": "-inf"}` and, of PostgreSQL only, `{"real": "nan"}`.
"""

import json
import math
from typing import Any

ON_ONE_LINE = json.JSONEncoder(allow_nan=False)  # created once, because it is used for every row


def encodable(value: Any) -> Any:
    """Return one stored value in a form that JSON can represent."""
    if isinstance(value, str):
        return value if is_unicode(value) else {"base64": _base64(to_bytes(value))}
    if isinstance(value, float) and not math.isfinite(value):
        return {"real": str(value)}
    if isinstance(value, bytes):
        return {"blob_base64": _base64(value)}
    return value


def to_ascii(value: object, *, indent: int | None = None) -> str:
    """Return JSON in pure ASCII without control characters, for values from `encodable`."""
    encoder = ON_ONE_LINE if indent is None else json.JSONEncoder(indent=indent, allow_nan=False)
    return encoder.encode(value).replace("\x7f", "\\u007f")


def is_unicode(text: str) -> bool:
    """Return whether a text that was read with `surrogateescape` was valid UTF-8."""
    if text.isascii():  # fast, and the usual case
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _base64(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode("ascii")


def to_bytes(text: str) -> bytes:
    """Return the bytes to store for a text that may be invalid UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def from_bytes(stored: bytes) -> str:
    """Return the text that SQLite stores as these bytes, which may be invalid UTF-8."""
    return stored.decode("utf-8", "surrogateescape")


def forms_in_json(text: str) -> set[bytes]:
    """Return the bytes of a text, and those that it has in JSON, with each way to escape it."""
    forms = {to_bytes(text)}
    for in_ascii in (True, False):
        escaped = json.dumps(text, ensure_ascii=in_ascii)[1:-1]
        forms |= {to_bytes(escaped), to_bytes(escaped.replace("/", r"\/"))}
    return forms


def stored_bytes(value: Any) -> Any:
    """Return the bytes of a stored text or BLOB; None for NULL."""
    return to_bytes(value) if isinstance(value, str) else value
