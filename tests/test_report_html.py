"""The page of a report: valid, self-contained and accessible, and it fits a phone.

What it looks like is measured in Chromium.
"""

import re
import sqlite3
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import pytest

from memctl.output.terminal import visible
from tests.support.browser import CHROMIUM, chromium
from tests.support.database import text_of
from tests.support.program import NOW, Memctl
from tests.support.reports import HOSTILE, WEEK, WIDE, remember_names

VOID = {"meta", "rect", "path", "circle"}  # elements without content


class Page(HTMLParser):
    """The elements of a page in their order, each with its attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of the elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def hostile(db: sqlite3.Connection, migrated: Memctl) -> Memctl:
    """Memories with hostile names in every list of a report."""
    remember_names(db, HOSTILE)
    migrated.ok("snapshot")
    return migrated


def page_of(memctl: Memctl) -> str:
    """Return the page about the last week."""
    return memctl.ok("report", "--format", "html").out


def test_the_page_is_well_formed_and_has_no_script_link_or_image(hostile: Memctl) -> None:
    text = page_of(hostile)

    page = Page(text)

    assert text.startswith('<!DOCTYPE html>\n<html lang="en">\n')
    assert page.open == []
    assert {tag for tag, _ in page.elements} == {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "div"),
        *("h1", "h2", "p", "ul", "li", "code", "dl", "dt", "dd", "span"),
        *("table", "thead", "tbody", "tr", "th", "td"),
        *("svg", "desc", "path", "rect", "circle", "text"),
    }
    assert {name for _, attributes in page.elements for name in attributes} <= {
        *("lang", "charset", "http-equiv", "name", "content", "class", "id", "role", "scope"),
        *("aria-labelledby", "aria-hidden", "data-label"),
        *("viewbox", "d", "x", "y", "cx", "cy", "r", "rx", "width", "height", "text-anchor"),
    }
    assert all(visible(name) in page.text for name in HOSTILE[:7])
    assert "url(" not in text


def test_the_policy_of_the_page_allows_only_its_own_style(hostile: Memctl) -> None:
    text = page_of(hostile)

    (style,) = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    (policy,) = (
        meta["content"]
        for meta in Page(text).all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_headings_tables_and_charts_are_accessible(hostile: Memctl) -> None:
    page = Page(page_of(hostile))

    ids = Counter(attributes["id"] for _, attributes in page.elements if "id" in attributes)
    labels = [
        name
        for _, attributes in page.elements
        for name in (attributes.get("aria-labelledby") or "").split()
    ]
    assert [tag for tag, _ in page.elements].count("h1") == 1
    assert set(ids.values()) == {1}
    assert set(labels) <= set(ids)
    assert all("aria-labelledby" in attributes for attributes in page.all("section"))
    assert {header["scope"] for header in page.all("th")} == {"col", "row"}
    for chart in page.all("svg"):
        assert chart.get("aria-hidden") == "true" or chart["role"] == "img"
    assert len(page.all("desc")) == len([one for one in page.all("svg") if "role" in one]) == 3


def test_people_read_no_timestamps_and_no_backticks(
    db: sqlite3.Connection, migrated: Memctl, remember: Callable[..., str]
) -> None:
    db.execute("UPDATE memctl_migrations SET applied_at = '2026-10-01T00:00:00Z'")
    remember(expires_at="2026-11-23T10:20:30.000Z", importance=9, idle_days=30)
    remember(expires_at="+011533-07-07T00:00:00.000Z")
    migrated.at(NOW - WEEK).ok("snapshot")
    remember(expires_at="2026-11-20 00:00:00", created_at=text_of(NOW))
    migrated.ok("cleanup")
    migrated.ok("pause", "--reason", "new disk")

    text = Page(page_of(migrated)).text

    assert re.findall(r"\d{4}-\d\d-\d\d|\d\dT\d\d|`", text) == []
    assert "23 Nov 2026, 10:20 UTC" in text
    assert "after the year 9999" in text


def test_the_page_shows_its_host_time_and_version(migrated: Memctl) -> None:
    page = Page(page_of(migrated))

    facts = re.search(
        r"Period\s*(.*?)\s*Database\s*(.*?)\s*Host\s*(.*?)\s*Created\s*(.*)", page.text
    )
    version = migrated.ok("--version").out.strip()
    host = migrated.ok("report", "--json").json["host"]
    assert facts is not None
    assert facts.groups() == (
        "15 Nov 2026, 09:43 UTC to 22 Nov 2026, 09:43 UTC",
        str(migrated.database),
        host,
        f"22 Nov 2026, 09:43 UTC, by {version}",
    )


def test_the_days_are_collapsed(db: sqlite3.Connection, migrated: Memctl) -> None:
    remember_names(db, ["a"])
    db.execute("UPDATE agent_memory SET expires_at = '2026-11-20 00:00:00'")
    migrated.ok("cleanup")

    page = Page(page_of(migrated))

    (details,) = page.all("details")
    assert "open" not in details
    assert "Show 1 day\n" in page.text


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour such as `#1d2433`.

    https://www.w3.org/TR/WCAG22/#dfn-relative-luminance
    """
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(migrated: Memctl, scheme: str) -> None:
    rules = re.findall(r":root \{(.*?)\}", page_of(migrated), re.DOTALL)

    colours = dict(re.findall("--([a-z-]+): (#[0-9a-f]{6})", rules[scheme == "dark"]))

    backgrounds = ("page", "card", "good", "bad", "code")
    assert {
        (text, background): contrast(colours[text], colours[background])
        for text in ("ink", "soft")
        for background in backgrounds
        if contrast(colours[text], colours[background]) < 4.5
    } == {}
    shapes = ("one", "two", "three", "four", "five")
    assert all(contrast(colours[shape], colours["card"]) >= 3 for shape in shapes)


# In a browser

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")

OPEN_ALL = "for (const one of document.querySelectorAll('details')) one.open = true"
TOO_WIDE = """
    [...document.querySelectorAll("body, body *:not(svg *)")]
    .filter(one => one.clientWidth && one.scrollWidth > one.clientWidth)
    .filter(one => !one.closest("thead"))  // hidden on a phone, but not from screen readers
    .map(one => `${one.tagName} ${one.className}: ${one.scrollWidth} > ${one.clientWidth}`)
"""
BEYOND_CHART = """
    [...document.querySelectorAll("svg text")]
    .filter(one => {
        const [text, chart] = [one, one.ownerSVGElement].map(one => one.getBoundingClientRect());
        return text.left < chart.left || text.right > chart.right || text.bottom > chart.bottom + 1;
    })
    .map(one => one.textContent)
"""


@needs_chromium
@pytest.mark.parametrize("names", [HOSTILE, WIDE], ids=["hostile", "wide"])
def test_nothing_is_cut_or_needs_scrolling_sideways(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path, names: list[str]
) -> None:
    db.execute("UPDATE memctl_migrations SET applied_at = '2026-10-01T00:00:00Z'")
    migrated.at(NOW - WEEK).ok("snapshot")
    remember_names(db, names)
    db.execute("UPDATE agent_memory SET expires_at = '2026-11-20' WHERE access_count AND rowid % 3")
    migrated.ok("cleanup")
    file = tmp_path / "report.html"
    migrated.ok("report", "--format", "html", "-o", str(file))

    with chromium() as browser:
        found = {}
        for width in (320, 390, 768, 960, 961, 1280):
            browser.open(file, width=width, height=844)
            browser.evaluate(OPEN_ALL)
            page_width = browser.evaluate("document.scrollingElement.scrollWidth")
            cut = browser.evaluate(BEYOND_CHART)
            found[width] = (page_width, browser.evaluate(TOO_WIDE), cut)

    assert found == {width: (width, [], []) for width in found}
    assert browser.messages == []


@needs_chromium
def test_text_in_charts_can_be_read_on_a_phone(
    db: sqlite3.Connection, migrated: Memctl, tmp_path: Path
) -> None:
    remember_names(db, ["a", "b"])
    file = tmp_path / "report.html"
    migrated.ok("report", "--format", "html", "-o", str(file))

    with chromium() as browser:
        browser.open(file, width=390, height=844)
        smallest = browser.evaluate("""
            Math.min(...[...document.querySelectorAll("svg text")].map(
                one => parseFloat(getComputedStyle(one).fontSize) * one.getScreenCTM().a
            ))
        """)

    assert smallest >= 11


@needs_chromium
def test_the_page_follows_the_scheme_of_the_browser(migrated: Memctl, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    migrated.ok("report", "--format", "html", "-o", str(file))

    with chromium() as browser:
        colours = []
        for scheme in ("light", "dark"):
            browser.open(file, width=1280, height=800, scheme=scheme)
            colours.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))

    assert colours == ["rgb(244, 245, 247)", "rgb(18, 21, 27)"]
