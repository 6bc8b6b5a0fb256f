"""Printing: text and JSON on stdout, messages, errors and progress on stderr.

stdout carries data only. A terminal never interprets stored text: JSON is pure ASCII, and control
characters are spelled out elsewhere. Output does not depend on a terminal, except that a job
reports success only there, because cron mails every byte.
"""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import IO, Any, AnyStr

from memctl.errors import MemctlError, RefusedError, shortened
from memctl.output.contract.version import VERSION
from memctl.output.messages import Message, MessageStyle
from memctl.storage.text import encodable, from_bytes, to_ascii, to_bytes

GATHERED_CHARACTERS = 1 << 16
LONGEST_SENTENCE = 1600  # bytes

_style = MessageStyle()
_heading = ""  # printed before the next output
_gathered: list[Mapping[str, object]] | None = None  # the documents that are not printed
_line_erased: Callable[[], AbstractContextManager[None]] | None = None


def present_command() -> str:
    """Return the name of the command that runs."""
    return _style.command


def set_message_style(style: MessageStyle) -> None:
    """Set the format of all messages."""
    global _style
    _style = style


@contextmanager
def about_database(database: str) -> Iterator[list[Mapping[str, object]]]:
    """Let all messages in the block begin with a database, and a heading precede its output.

    JSON documents are not printed, but added to the list that is yielded.
    """
    global _style, _heading, _gathered
    style, name = _style, visible(database)
    _style, _heading, _gathered = style._replace(database=name), f"{name}:\n", []
    try:
        yield _gathered
    finally:
        _style, _heading, _gathered = style, "", None


def set_line_eraser(erased: Callable[[], AbstractContextManager[None]] | None) -> None:
    """Set what erases an incomplete line while anything else is printed on the terminal."""
    global _line_erased
    _line_erased = erased


def show_notice(sentence: str, *, quiet: bool = False, only_on_terminal: bool = False) -> None:
    """Print a sentence as a message on stderr."""
    show_message(Message(sentence), quiet=quiet, only_on_terminal=only_on_terminal)


def show_message(
    message: Message, *, as_json: bool = False, quiet: bool = False, only_on_terminal: bool = False
) -> None:
    """Print a message on stderr, in the format that was set.

    In text format, `as_json` suppresses the message, because stdout has the same facts, and
    `only_on_terminal` suppresses it off a terminal unless --verbose is set. A log has all messages.
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

    `jobs` names the jobs that it stopped, if the command runs several.
    """
    document = error_document(error)
    if _style.database:
        document["database"] = _style.database
    if jobs:
        document["jobs"] = list(jobs)
    if as_json and _style.form == "text":
        write(sys.stderr, json_text({"error": document}) + "\n")
        return
    refused = isinstance(error, RefusedError)
    message = Message(
        f"{', '.join(jobs)}: {error}" if jobs else str(error),
        level="warning" if refused else "error",
        event="refused" if refused else "failed",
        facts={"error": document},
        program="memctl",
    )
    show_message(message)


def error_document(error: MemctlError) -> dict[str, object]:
    """Return the JSON form of an error."""
    return {
        "code": error.code,
        "exit_code": error.exit_code,
        "message": shortened(visible(error.message)),
        "hint": shortened(visible(error.hint)) or None,
    }


def show_document(document: Mapping[str, object]) -> None:
    """Print one JSON object, starting with its schema version."""
    if _gathered is None:
        show_text([document_text(document)])
    else:
        _gathered.append({"schema": VERSION, **document})


def document_text(document: Mapping[str, object]) -> str:
    """Return one JSON object as it is printed."""
    return json_text({"schema": VERSION, **document}, indent=2) + "\n"


def show_value(stored: str | bytes) -> None:
    """Print only a stored text: its bytes, or on a terminal a safe form of it."""
    if sys.stdout is None:
        return
    content = to_bytes(stored) if isinstance(stored, str) else stored
    if sys.stdout.isatty():
        lines = from_bytes(content).removesuffix("\n").split("\n")
        write(sys.stdout, "\n".join(map(visible, lines)) + "\n")
    else:
        write(sys.stdout.buffer, content)


def show_text(parts: Iterable[str]) -> None:
    """Print text that consists of many small parts."""
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
    """Return whether stdout is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def is_styled(stream: IO[str] | None = None) -> bool:
    """Return whether output may contain styles, on stdout by default; see https://no-color.org."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    stream = stream or sys.stdout
    return stream is not None and stream.isatty() and not is_dumb()


def is_dumb() -> bool:
    """Return whether the terminal does not support escape codes."""
    return os.environ.get("TERM") == "dumb"


def show_line(text: str) -> None:
    """Print a text as one line."""
    write(sys.stdout, visible(text) + "\n")


def show_lines(lines: Iterable[str]) -> None:
    """Print sentences, one per line."""
    for line in lines:
        write(sys.stdout, visible(line) + "\n")


def show_styled(*parts: tuple[str, str]) -> None:
    """Print a line of texts, each with a style of rich if styles are enabled."""
    texts = [(visible(text), style) for text, style in parts]
    line = "".join(text for text, _ in texts) + "\n"
    if is_styled():
        from rich.text import Text

        line = rendered(Text.assemble(*texts), styled=True)
    write(sys.stdout, line)


def rendered(content: Any, *, styled: bool, width: int | None = None) -> str:
    """Return a text or a table as rich renders it, `width` cells wide if given."""
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
    """Spell out what a terminal would interpret or hide: control, format and invalid characters."""
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def wait_for_reader(seconds: float) -> None:
    """Wait, and exit with 141 as soon as the reader closes stdout."""
    import select

    if sys.stdout is None:
        raise SystemExit(141)
    reader = select.poll()
    reader.register(sys.stdout, 0)  # no events but those always reported: the other end was closed
    if reader.poll(seconds * 1000):
        raise SystemExit(141)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return any stored value as JSON in pure ASCII."""
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
    """Write to a stream, and exit with 141 if the pipe is closed, as other shell tools do.

    Raises MemctlError if data cannot be written. A message that cannot be written is lost, without
    a change of the exit code.
    """
    global _heading
    if stream is None:  # closed by the parent process
        return
    try:
        with _line_erased() if _line_erased and stream.isatty() else nullcontext():
            if stream is sys.stdout and _heading:
                stream.write(_heading)
                _heading = ""
            stream.write(content)
            stream.flush()
    except OSError as error:
        # Python flushes once more at exit, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise SystemExit(141) from None
        if stream is sys.stderr:
            return
        raise MemctlError(
            f"cannot write the output ({error.strerror})", "the command itself has completed"
        ) from None
