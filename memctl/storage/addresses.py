"""Which database is meant: the path of a SQLite file, or the URL of a PostgreSQL database.

A URL may contain a password. It is never printed: as text, an address has none.
"""

import re
from pathlib import Path
from urllib.parse import unquote

from memctl.errors import NoDatabaseError, UsageError
from memctl.storage.sqlite.database import database_path

# With any number of slashes: a Path has only one, and a mistyped URL may contain a password.
SCHEME = re.compile(r"postgres(ql)?(:|//)", re.IGNORECASE)

# libpq allows several hosts, which the standard library does not parse. An @ elsewhere could
# be the end of a password that is not encoded.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<hosts>[^@/?#]*)(?:/(?P<name>[^@?#]*))?(?:\?(?P<query>[^@#]*))?"
)


class ServerAddress:
    """A database on a PostgreSQL server; `url` is for libpq alone, and may contain a password.

    Raises UsageError if it is not a valid URL, without printing it.
    """

    def __init__(self, url: str) -> None:
        found = URL.fullmatch(url)
        if not found or "\0" in url:
            raise UsageError(
                "the URL of the database is invalid",
                "use postgresql://[user@]host[:port][,host…]/database[?option=value&…], and write"
                " special characters as %XX",
            )
        self.url = url
        user, password, self.hosts, name, query = found.groups()
        options = [option.partition("=") for option in (query or "").split("&")]
        hidden = [option for option in options if "password" in unquote(option[0]).lower()]
        secrets = [password, *(value for _, _, value in hidden)]
        # As written, and as the server sees them: messages may contain either.
        self.secrets = [form for text in secrets if text for form in {text, unquote(text)}]
        self.options = {unquote(key): unquote(value) for key, _, value in options}
        self.name = unquote(name) if name else self.options.get("dbname", "")
        at, path = f"{user}@" if user else "", f"/{name}" if name else ""
        shown = "&".join("".join(option) for option in options if option not in hidden)
        path = path or ("" if self.hosts else "/")
        shown_query = f"?{shown}" if shown else ""
        self._shown = f"postgresql://{at}{self.hosts}{path}{shown_query}"

    def __str__(self) -> str:
        """Return the URL without a password."""
        return self._shown

    def __repr__(self) -> str:
        return f"ServerAddress({self._shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ServerAddress) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def has_password(self) -> bool:
        """Whether the URL contains a password."""
        return bool(self.secrets)

    @property
    def socket_directories(self) -> list[Path]:
        """The directories of the sockets through which local servers are reached."""
        hosts = f"{unquote(self.hosts)},{self.options.get('host', '')}".split(",")
        return [Path(host) for host in hosts if host.startswith("/")]

    def without_secrets(self, text: str) -> str:
        """Return a text of libpq or of the server, in which no password of the URL occurs."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


Address = Path | ServerAddress


def is_url(text: str) -> bool:
    """Return whether a text names a database on a server."""
    return SCHEME.match(text) is not None


def parse_address(text: str) -> Address:
    """Return the database that a text names.

    Raises UsageError for an invalid URL, and NoDatabaseError for an impossible path.
    """
    if is_url(text):
        scheme, colon, rest = text.partition(":")
        return ServerAddress(f"{scheme.lower()}{colon}{rest}")
    if "://" in text:
        scheme = text.split("://", 1)[0]
        raise NoDatabaseError(
            f"'{scheme}://…' does not name a database",
            "use the path of a SQLite file, or postgresql://host/database",
        )
    return database_path(text)


def full_name(address: Address) -> str:
    """Return how a database is named to other programs: its absolute path, or its URL."""
    return str(address.resolve() if isinstance(address, Path) else address)
