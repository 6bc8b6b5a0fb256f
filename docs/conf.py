"""The site: `sphinx-build` with the pages of this folder, which are plain Markdown.

What forges need not know is added while the pages are read: the navigation, which follows the
lists in index.md, and languages that Pygments does not know.
"""

import re
from typing import Any

from memctl import __version__

project = "memctl"
version = release = __version__
language = "en"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
nitpicky = True
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"memctl {__version__}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False


def navigation(index: str) -> str:
    """Return the table of contents: a list of links for each heading of index.md."""
    tables = []
    for part in index.split("\n## ")[1:]:
        heading, _, rest = part.partition("\n")
        pages = re.findall(r"^- \[.*\]\((.*)\.md\)$", rest, re.MULTILINE)
        tables.append("\n".join(["```{toctree}", ":hidden:", f":caption: {heading}", "", *pages]))
    return "\n```\n\n".join([*tables, ""])


def complete(_app: Any, page: str, source: list[str]) -> None:
    """Add the parts of a page that only the site needs."""
    source[0] = source[0].replace("\n```cron\n", "\n```text\n")
    if page == "index":
        source[0] += f"\n{navigation(source[0])}"


def setup(app: Any) -> None:
    """Let Sphinx complete each page that it reads."""
    app.connect("source-read", complete)
