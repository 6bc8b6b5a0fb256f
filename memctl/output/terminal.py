"""How everything is printed: sentences, JSON, CSV, NDJSON and tables, and errors.

stdout carries data only. Stored text is shown, never obeyed: JSON is pure ASCII, and elsewhere
control characters are spelled out. What is printed does not depend on a terminal, except that a
job which succeeds says so only there: cron mails every byte.
"""

import io
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, AnyStr

from memctl.errors import MemctlError, RefusedError, shortened
from memctl.output.messages import Message, MessageStyle
from memctl.storage.sqlite.database import from_bytes, to_bytes
from memctl.storage.text import encodable, to_ascii

GATHERED_CHARACTERS = 1 << 16
LONGEST_SENTENCE = 1600  # bytes

_style = MessageStyle()


def set_message_style(style: MessageStyle) -> None:
    """Choose the form of all messages to come."""
    global _style
    _style = style


def show_notice(sentence: str, *, quiet: bool = False, only_on_terminal: bool = False) -> None:
    """Print a message for a person on stderr."""
    show_message(Message(sentence), quiet=quiet, only_on_terminal=only_on_terminal)


def show_message(
    message: Message, *, as_json: bool = False, quiet: bool = False, only_on_terminal: bool = False
) -> None:
    """Print a message on stderr, in the form that was chosen.

    `as_json` and `only_on_terminal` keep text silent: where stdout tells the same, and off a
    terminal, unless --verbose asks for it. A log tells everything.
    """
    if quiet or (message.level == "debug" and not _style.verbose):
        return
    if as_json and _style.form == "text":
        return
    silent = only_on_terminal and _style.form == "text" and not _style.verbose
    if silent and not (sys.stderr and sys.stderr.isatty()):
        return
    safe = message._replace(sentence=shortened(visible(message.sentence), LONGEST_SENTENCE))
    write(sys.stderr, _style.line(safe) + "\n")


def show_error(error: MemctlError, *, as_json: bool = False, jobs: Sequence[str] = ()) -> None:
    """Print an error on stderr, as one line or as a JSON object.

    `jobs` are those that it stopped, where the command runs several.
    """
    document = error_document(error)
    if jobs:
        document["jobs"] = list(jobs)
    if as_json and _style.form == "text":
        write(sys.stderr, to_json({"error": document}) + "\n")
        return
    refused = isinstance(error, RefusedError)
    message = Message(
        ": ".join(("memctl", ", ".join(jobs), str(error)) if jobs else ("memctl", str(error))),
        level="warning" if refused else "error",
        event="refused" if refused else "failed",
        facts={"error": document},
    )
    show_message(message)


def show_usage(text: str) -> None:
    """Print on stderr, as it is, how the program wants to be called."""
    write(sys.stderr, text + "\n")


def error_document(error: MemctlError) -> dict[str, object]:
    """Return the JSON form of an error."""
    return {
        "code": error.code,
        "exit_code": error.exit_code,
        "message": shortened(visible(error.message)),
        "hint": shortened(visible(error.hint)),
    }


def show_document(document: Mapping[str, object]) -> None:
    """Print one JSON object, led by the number of its schema."""
    show_text([document_text(document)])


def document_text(document: Mapping[str, object]) -> str:
    """Return one JSON object as it is printed."""
    return to_json({"schema": 1, **document}, indent=2) + "\n"


def show_value(stored: str | bytes) -> None:
    """Print nothing but a stored text: its bytes, or on a terminal what is safe to show of it."""
    if sys.stdout is None:
        return
    content = to_bytes(stored) if isinstance(stored, str) else stored
    if sys.stdout.isatty():
        lines = from_bytes(content).removesuffix("\n").split("\n")
        write(sys.stdout, "\n".join(map(visible, lines)) + "\n")
    else:
        write(sys.stdout.buffer, content)


def show_text(parts: Iterable[str]) -> None:
    """Print text that comes in many small parts."""
    gathered: list[str] = []
    length = 0
    for part in parts:
        gathered.append(part)
        length += len(part)
        if length > GATHERED_CHARACTERS:
            write(sys.stdout, "".join(gathered))
            gathered, length = [], 0
    write(sys.stdout, "".join(gathered))


def on_terminal() -> bool:
    """Tell whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def is_styled() -> bool:
    """Tell whether what is printed may be styled, as its reader wants: see no-color.org."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (on_terminal() and not _dumb())


def _dumb() -> bool:
    """Tell whether the terminal knows no escape codes."""
    return os.environ.get("TERM") == "dumb"


class Progress:
    """Tells a person at a terminal how far long work is, once it has taken a second."""

    def __init__(self, what: str, *, quiet: bool) -> None:
        self._what = what
        self._silent = quiet or not (sys.stderr and sys.stderr.isatty()) or _dumb()
        self._next = time.monotonic() + 1.0
        self._shown = False

    def __call__(self, done: int, whole: int) -> None:
        """Tell that so many of so many are done; of 0 if nobody knows of how many."""
        if self._silent or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 0.2
        self._shown = True
        of_whole = f" of {whole:,}" if whole else ""
        write(sys.stderr, f"\r{self._what}: {done:,}{of_whole} rows")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._shown:
            write(sys.stderr, "\r\x1b[K")


def show_line(text: str) -> None:
    """Print nothing but a text of one line."""
    write(sys.stdout, visible(text) + "\n")


def show_lines(lines: Iterable[str]) -> None:
    """Print sentences, a line each."""
    for line in lines:
        write(sys.stdout, visible(line) + "\n")


def show_styled(*parts: tuple[str, str]) -> None:
    """Print a line of texts, each with a style of rich where styles are shown."""
    texts = [(visible(text), style) for text, style in parts]
    line = "".join(text for text, _ in texts) + "\n"
    if is_styled():
        from rich.text import Text

        line = rendered(Text.assemble(*texts), styled=True)
    write(sys.stdout, line)


def rendered(content: Any, *, styled: bool, width: int | None = None) -> str:
    """Return what rich makes of a text or a table; with a `width`, of so many cells."""
    from rich.console import Console

    printed = io.StringIO()
    Console(
        file=printed,
        highlight=False,
        force_terminal=styled,
        color_system="standard" if styled else None,  # whatever rich finds in the environment
        width=width,
    ).print(content, soft_wrap=width is None)
    return printed.getvalue()


def visible(text: str) -> str:
    """Spell out whatever a terminal would obey or hide: control, format and invalid characters."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def wait_for_reader(seconds: float) -> None:
    """Wait, and end with 141 as soon as nobody reads stdout any more."""
    import select

    if sys.stdout is None:
        raise SystemExit(141)
    reader = select.poll()
    reader.register(sys.stdout, 0)  # nothing but what is always told: that the other end is gone
    if reader.poll(seconds * 1000):
        raise SystemExit(141)


def to_json(value: object, *, indent: int | None = None) -> str:
    """Return JSON in pure ASCII, whatever was stored."""
    return to_ascii(_encodable(value), indent=indent)


def _encodable(value: Any) -> object:
    if isinstance(value, Mapping):
        return {json_key(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return encodable(value)


def json_key(text: str | bytes) -> str:
    """Return a name as a JSON key; bytes that are not UTF-8 are spelled out."""
    content = text if isinstance(text, bytes) else to_bytes(text)
    return content.decode("utf-8", "backslashreplace")


def write(stream: IO[AnyStr] | None, content: AnyStr) -> None:
    """Print, and end with 141 when nobody reads any more, as a shell's own tools do.

    Raises MemctlError when data cannot be written. A message that cannot be is lost: the exit
    code stays what it is.
    """
    if stream is None:  # closed by whoever started us
        return
    try:
        stream.write(content)
        stream.flush()
    except OSError as error:
        # Python flushes once more at exit: give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise SystemExit(141) from None
        if stream is sys.stderr:
            return
        raise MemctlError(
            f"the output cannot be written ({error.strerror})", "what was to be done is done"
        ) from None
