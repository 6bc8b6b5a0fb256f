"""Names and values that are allowed but unusual."""

from typing import Any

import pytest

ODD_NAMES = [
    pytest.param(b"-", id="a dash"),
    pytest.param(b"-rf", id="like an option"),
    pytest.param(b"--help", id="like a long option"),
    pytest.param(b"..", id="dots"),
    pytest.param(b"a/b", id="a slash"),
    pytest.param(b"two\nlines", id="a newline"),
    pytest.param(b"[bold]a[/]", id="markup"),
    pytest.param(b"[/]", id="markup that closes nothing"),
    pytest.param(b"\x1b[31mred", id="an escape"),
    pytest.param("\N{RIGHT-TO-LEFT OVERRIDE}abc".encode(), id="right to left"),
    pytest.param("\N{ELEPHANT}".encode(), id="an emoji"),
    pytest.param(b"half \xf0\x9f", id="half an emoji"),
    pytest.param(b"\xff\xfe", id="not UTF-8"),
    pytest.param(b"' OR 1=1 --", id="SQL"),
    pytest.param(b"%s{0}", id="a format"),
    pytest.param(b" ", id="a space"),
    pytest.param(b"", id="empty"),
]


ODD_AGENTS: list[Any] = [
    *(name.values[0] for name in ODD_NAMES),
    b"a\\nb",
    b"a\nb",
    b'"',
    b"{}",
    b"\\",
]


ODDITIES = {
    "unicode": {"value": "агент-тест🤖 \u202etfel", "key": "ключ"},
    "invalid UTF-8": {"value": b"half \xf0\x9f", "key": b"k\xff", "agent_id": "build_agent"},
    "NUL inside": {"value": "a\0b", "key": "k\0l"},
    "markup and escapes": {"value": "[bold]a[/] \x1b[31mred", "key": "--help"},
    "a BLOB": {"value": b"\x00\x01"},
    "fractional importance": {"importance": 7.5},
    "importance in words": {"importance": "high"},
    "empty importance": {"importance": ""},
    "no importance": {"importance": None},
    "negative importance": {"importance": -3},
    "a far year": {"expires_at": "+011533-07-07T00:00:00.000Z"},
    "an expiry that is no time": {"expires_at": "soon"},
    "odd metadata": {"metadata": "[1]"},
    "an own rate": {"importance_decay_rate": 0.25, "last_decay_at": "2026-11-01T00:00:00Z"},
    "promoted": {"promoted_at": "2026-11-01T00:00:00Z"},
    "many accesses": {"access_count": 9_000_000_000},
    "a megabyte": {"value": "x" * 1_000_000},
    "a type of its own": {"type": "task:blocker"},
}


DANGEROUS = "\x1b]0;owned\x07[bold]red[/] \x7f\x9b31m \u202e\u200f"
