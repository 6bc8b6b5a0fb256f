"""Messages on stderr, in the form that --log-format asks for.

`text` is for people and for cron: what went well is told on a terminal only. `json` (one object a
line) and `journal` (a priority in front, as systemd reads it) are logs: somebody asked for them,
so they tell of every action, wherever they go. --verbose adds what was not done, and why.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple

LogFormat = Literal["text", "json", "journal"]
Level = Literal["error", "warning", "info", "debug"]

# https://www.freedesktop.org/software/systemd/man/latest/sd-daemon.html
PRIORITIES: dict[Level, int] = {"error": 3, "warning": 4, "info": 6, "debug": 7}


class Message(NamedTuple):
    """One thing to tell: a sentence for people, and what a program wants to know of it.

    `job` is the command's own name unless it speaks for one of several jobs.
    """

    sentence: str
    level: Level = "info"
    event: str = "message"
    job: str | None = None
    facts: Mapping[str, object] = {}


class MessageStyle(NamedTuple):
    """The form of the messages of one command."""

    form: LogFormat = "text"
    verbose: bool = False
    command: str = ""

    def line(self, message: Message) -> str:
        """Return the line to print, without its end; the sentence must be safe to print."""
        if self.form == "journal":
            return f"<{PRIORITIES[message.level]}>{message.sentence}"
        if self.form == "text":
            return message.sentence
        now = datetime.now(UTC)  # a log has its own clock, which --now does not set
        document = {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": message.level,
            "job": message.job or self.command,
            "event": message.event,
            **message.facts,
            "message": message.sentence,
        }
        return json.dumps(document)
