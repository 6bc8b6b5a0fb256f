"""Messages on stderr, in the format that --log-format specifies.

`text` is for people and for cron: a success is reported only on a terminal. `json` (one object per
line) and `journal` (with a priority prefix, as systemd reads it) are logs and report every action.
--verbose adds the actions that were skipped, with the reason.
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
    """One message: a sentence for people, and its facts for programs.

    `job` defaults to the name of the command; `run` sets it for each of its jobs.
    """

    sentence: str
    level: Level = "info"
    event: str = "message"
    job: str | None = None
    facts: Mapping[str, object] = {}
    program: str = ""  # the name of the program, if the sentence begins with it


class MessageStyle(NamedTuple):
    """The message format of one command."""

    form: LogFormat = "text"
    verbose: bool = False
    command: str = ""
    database: str | None = None  # if the command works on several

    def line(self, message: Message) -> str:
        """Return the line to print, without a newline; the sentence must be safe to print."""
        sentence = ": ".join(filter(None, (message.program, self.database, message.sentence)))
        if self.form == "journal":
            return f"<{PRIORITIES[message.level]}>{sentence}"
        if self.form == "text":
            return sentence
        now = datetime.now(UTC)  # a log has its own clock, which --now does not set
        document = {
            "time": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": message.level,
            "job": message.job or self.command,
            "event": message.event,
            **({"database": self.database} if self.database else {}),
            **message.facts,
            "message": sentence,
        }
        return json.dumps(document)
