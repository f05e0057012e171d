"""A report as Markdown, and as one web page that needs nothing else."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from textwrap import fill

from warpzone.core.files import read_bytes

_WIDTH = 88
"""Of paragraphs in Markdown, in characters."""


@dataclass(frozen=True)
class Table:
    """Rows with the same keys, which are the head. Web pages sort them by a click."""

    rows: Sequence[Mapping[str, object]]


@dataclass(frozen=True)
class Picture:
    """A PNG of a folder ``light``; that for dark pages is in ``dark`` beside it."""

    path: Path
    words: str
    """What it shows, for those who cannot see it."""


@dataclass(frozen=True)
class Film:
    """An mp4."""

    path: Path
    words: str


type Part = str | Table | Picture | Film
"""A string is a paragraph."""


@dataclass(frozen=True)
class Section:
    """A heading, and what follows."""

    title: str
    parts: Sequence[Part]


def dark(path: Path) -> Path:
    """Return where the same picture for dark pages lies."""
    return path.parents[1] / "dark" / path.name


def to_markdown(title: str, sections: Sequence[Section]) -> str:
    """Return a report as GitHub shows it; pictures and films are links."""
    blocks = [f"# {title}"]
    for section in sections:
        blocks.append(f"## {section.title}")
        blocks += map(_markdown, section.parts)
    return "\n\n".join(blocks) + "\n"


def _markdown(part: Part) -> str:
    match part:
        case str():
            return fill(part, _WIDTH, break_on_hyphens=False)
        case Table(rows):
            head, rule = " | ".join(rows[0]), "|".join(["---"] * len(rows[0]))
            lines = [" | ".join(map(str, row.values())) for row in rows]
            return "\n".join(f"| {line} |" for line in (head, *lines)).replace(
                f"| {head} |", f"| {head} |\n|{rule}|", 1
            )
        case Picture(path, words):
            return f"![{words}]({path})"
        case Film(path, words):
            return f"[{words}]({path})"


def to_html(title: str, sections: Sequence[Section]) -> str:
    """Return a report as one file, with its pictures and films inside.

    It asks no other host for anything, and opens from disk.

    Raises:
        InputError: If a picture or a film cannot be read.
    """
    heads = [(_anchor(section.title), section) for section in sections]
    links = "".join(
        f'<li><a href="#{anchor}">{escape(section.title)}</a></li>'
        for anchor, section in heads
    )
    body = "".join(
        f'<section id="{anchor}"><h2>{escape(section.title)}</h2>'
        f"{''.join(map(_html, section.parts))}</section>\n"
        for anchor, section in heads
    )
    page = files(__package__).joinpath("pages.html").read_text(encoding="utf-8")
    return Template(page).substitute(title=escape(title), links=links, body=body)


def _html(part: Part) -> str:
    match part:
        case str():
            return f"<p>{escape(part)}</p>\n"
        case Table(rows):
            head = "".join(
                f'<th scope="col"><button>{escape(str(name))}</button></th>'
                for name in rows[0]
            )
            lines = "".join(
                f"<tr>{''.join(f'<td>{escape(str(v))}</td>' for v in row.values())}"
                "</tr>\n"
                for row in rows
            )
            return (
                f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
                f"<tbody>{lines}</tbody></table></div>\n"
            )
        case Picture(path, words):
            return (
                '<button class="zoom" title="zoom"><picture>'
                '<source media="(prefers-color-scheme: dark)" '
                f'srcset="{_inside(dark(path), "image/png")}">'
                f'<img alt="{escape(words)}" src="{_inside(path, "image/png")}">'
                "</picture></button>\n"
            )
        case Film(path, words):
            return (
                f"<figure><video controls loop muted playsinline "
                f'aria-label="{escape(words)}" src="{_inside(path, "video/mp4")}">'
                f"</video><figcaption>{escape(words)}</figcaption></figure>\n"
            )


def _inside(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(read_bytes(path)).decode()}"


def _anchor(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")
