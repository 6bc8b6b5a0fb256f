"""Create the picture docs/demo.svg: the output of `memctl demo` on a terminal.

python docs/picture.py            write it anew
"""

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

NOW = "2026-11-22T09:43:58Z"
COLUMNS = 122
PROGRAM = Path(sys.executable).with_name("memctl")

# The format of Rich downloads fonts. https://rich.readthedocs.io/en/stable/reference/console.html
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<title>memctl demo</title>
<style>
.{unique_id}-matrix, .{unique_id}-title {{
    font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}}
.{unique_id}-matrix {{ font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def printed_on_a_terminal() -> str:
    """Run the program on a pseudo-terminal, and return its output."""
    ours, theirs = os.openpty()
    environment = {
        "PATH": f"{PROGRAM.parent}:/usr/bin:/bin",
        "TERM": "xterm-256color",
        "COLUMNS": str(COLUMNS),
        "MEMCTL_NOW": NOW,
    }
    with subprocess.Popen(
        [PROGRAM, "demo"], env=environment, stdin=subprocess.DEVNULL, stdout=theirs
    ) as program:
        os.close(theirs)
        output = b""
        try:
            while part := os.read(ours, 1 << 16):
                output += part
        except OSError:  # on Linux, the other end is closed
            pass
        finally:
            os.close(ours)
    if program.returncode:
        raise SystemExit(program.returncode)
    return output.decode().replace("\r\n", "\n")


def picture() -> str:
    """Return the picture as SVG."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "dim"), "memctl demo"))
    console.print(Text.from_ansi(printed_on_a_terminal().rstrip()), soft_wrap=True)
    return console.export_svg(title="memctl demo", code_format=SVG, unique_id="demo")


if __name__ == "__main__":
    Path(__file__).with_name("demo.svg").write_text(picture(), encoding="utf-8")
