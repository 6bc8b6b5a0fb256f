"""Take screenshots of the report page of the demo database with Chromium.

python -m docs.pictures           from the root of the repository

The whole page is in build/pictures, light and dark, as on a desktop and on a phone. The
documentation shows the beginning of two of them.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.browser import CHROMIUM, Browser, chromium

NOW = "2026-11-22T09:43:58Z"
HOST = "db1.example.org"
PROGRAM = Path(sys.executable).with_name("memctl")
DOCS = Path(__file__).parent
BUILD = DOCS.parent / "build" / "pictures"
DESKTOP, PHONE = (1280, 930), (390, 930)


def write_page(folder: Path) -> Path:
    """Simulate the demo in a folder and return the page about its last week."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "MEMCTL_NOW": NOW}

    def run(*words: str) -> str:
        return subprocess.run(
            [PROGRAM, *words],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    run("demo", "--keep", "demo.db")
    page = folder / "report.html"
    text = run("report", "--db", "demo.db", "--format", "html")
    page.write_text(text.replace(f"<dd>{os.uname().nodename}</dd>", f"<dd>{HOST}</dd>"))
    return page


def take_pictures(browser: Browser, page: Path) -> None:
    """Write all pictures of a page."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for width, height in (DESKTOP, PHONE):
            browser.open(page, width=width, height=height, scheme=scheme)
            (BUILD / f"{scheme}-{width}.png").write_bytes(browser.picture())
            if (scheme, width) == ("light", DESKTOP[0]):
                (DOCS / "report.webp").write_bytes(browser.picture("webp", whole=False))
            elif (scheme, width) == ("dark", PHONE[0]):
                (DOCS / "report-phone.webp").write_bytes(browser.picture("webp", whole=False))


if __name__ == "__main__":
    if not CHROMIUM:
        raise SystemExit("chromium is not installed")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        take_pictures(browser, write_page(Path(folder)))
