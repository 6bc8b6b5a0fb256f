"""What looks like keys and tokens, put together at run time: no scanner reports these files."""

import base64
import random
import string
from pathlib import Path

LETTERS = string.ascii_letters + string.digits
CAPITALS = string.ascii_uppercase + "234567"
HEXADECIMAL = "0123456789abcdef"


def _draw(length: int, alphabet: str = LETTERS) -> str:
    return "".join(_random.choice(alphabet) for _ in range(length))


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _private_key() -> str:
    lines = "\n".join(base64.b64encode(_random.randbytes(48)).decode() for _ in range(10))
    begin, end = (f"-----{word} RSA " + "PRIVATE KEY-----" for word in ("BEGIN", "END"))
    return f"{begin}\n{lines}\n{end}"


def _jwt() -> str:
    parts = (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1234567890"}', _random.randbytes(32))
    return ".".join(map(_base64url, parts))


_random = random.Random(7)

# The secrets by the kinds that the check names. The same in each run, so that a failure can be
# repeated.
SECRETS = {
    "github-pat": "ghp" + "_" + _draw(36),
    "github-fine-grained-pat": "github" + "_pat_" + _draw(22) + "_" + _draw(59),
    "gitlab-pat": "glpat" + "-" + _draw(20),
    "slack-bot-token": "xoxb" + f"-{_draw(12, '123456789')}-{_draw(12, '123456789')}-{_draw(24)}",
    "stripe-access-token": "sk" + "_live_" + _draw(24),
    "openai-api-key": "sk" + "-proj-" + _draw(74) + "T3Blbk" + "FJ" + _draw(74),
    "anthropic-api-key": "sk" + "-ant-api03-" + _draw(93) + "AA",
    "gcp-api-key": "AI" + "za" + _draw(35),
    "pypi-upload-token": "pypi" + "-AgEIcHlwaS5vcmc" + _draw(80),
    "huggingface-access-token": "hf" + "_" + _draw(34, string.ascii_letters),
    "databricks-api-token": "dapi" + _draw(32, HEXADECIMAL),
    "twilio-api-key": "SK" + _draw(32, HEXADECIMAL),
    "jwt": _jwt(),
    "private-key": _private_key(),
}
TOKEN = SECRETS["github-pat"]
OTHER_TOKEN = SECRETS["stripe-access-token"]
AWS_KEY_ID = "AK" + "IA" + _draw(16, CAPITALS)
AWS_SECRET = base64.b64encode(_random.randbytes(30)).decode()
PASSWORD = _draw(16)


def files_with(text: str | bytes, directory: Path) -> list[str]:
    """Return the names of the files in and below a directory that contain a text."""
    content = text.encode() if isinstance(text, str) else text
    return sorted(
        file.relative_to(directory).as_posix()
        for file in directory.rglob("*")
        if file.is_file() and content in file.read_bytes()
    )
