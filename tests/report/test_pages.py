"""A report as Markdown and as a page that needs nothing else."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from warpzone.core.errors import InputError
from warpzone.report.pages import (
    Film,
    Picture,
    Section,
    Table,
    dark,
    to_html,
    to_markdown,
)


@pytest.fixture
def sections(tmp_path: Path) -> list[Section]:
    picture, film = tmp_path / "light/curve.png", tmp_path / "race.mp4"
    for path, content in (
        (picture, b"light"),
        (dark(picture), b"dark"),
        (film, b"mp4"),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    rows = [{"agent": "a<b", "rate": "10%"}, {"agent": "c", "rate": "9%"}]
    return [
        Section("How it went", ["Some words. " * 20, Table(rows)]),
        Section("What it shows", [Picture(picture, "A curve"), Film(film, "A race")]),
    ]


def test_markdown_has_the_tables_and_links(sections: list[Section]) -> None:
    text = to_markdown("Agents & more", sections)
    assert text.startswith("# Agents & more\n\n## How it went\n\nSome words.")
    assert "\n| agent | rate |\n|---|---|\n| a<b | 10% |\n| c | 9% |\n" in text
    assert re.search(r"\n!\[A curve\]\(.*/light/curve\.png\)\n", text)
    assert re.search(r"\n\[A race\]\(.*/race\.mp4\)\n$", text)
    assert max(len(line) for line in text.split("## What")[0].splitlines()) <= 88


def test_a_page_holds_all_it_shows(sections: list[Section]) -> None:
    page = to_html("Agents & more", sections)
    for kind, content in (
        ("image/png", b"light"),
        ("image/png", b"dark"),
        ("video/mp4", b"mp4"),
    ):
        assert f"data:{kind};base64,{base64.b64encode(content).decode()}" in page
    assert "<title>Agents &amp; more</title>" in page
    assert "a&lt;b" in page
    # Nothing is fetched, and a browser would refuse to.
    assert not re.search(r"""(src|href|srcset)=["'](?!data:|#)""", page)
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src 'none'" in page


def test_a_page_is_well_formed_and_its_links_lead_somewhere(
    sections: list[Section],
) -> None:
    void, open_tags, ids, links = {"meta", "img", "source", "br"}, [], set(), set()

    class Reader(HTMLParser):
        def handle_starttag(
            self, tag: str, attrs: list[tuple[str, str | None]]
        ) -> None:
            given = dict(attrs)
            ids.add(given.get("id"))
            links.add(given.get("href"))
            if tag not in void:
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Reader().feed(to_html("Agents", sections))
    assert open_tags == []
    assert {link for link in links if link} == {"#how-it-went", "#what-it-shows"}
    assert {"how-it-went", "what-it-shows"} <= ids


def test_a_picture_that_is_missing_is_named(sections: list[Section]) -> None:
    gone = Picture(Path("light/none.png"), "Nothing")
    with pytest.raises(InputError, match=r"dark/none\.png: cannot be read"):
        to_html("Agents", [*sections, Section("More", [gone])])
