"""Read YAML by the core schema of YAML 1.2, and say in one line what is wrong with it.

PyYAML parses. It follows YAML 1.1, where ``no`` is false, ``1e-4`` is a string and
``12:30`` is 750. Here values are those of YAML 1.2, which DVC follows, too:
https://yaml.org/spec/1.2.2/#103-core-schema.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from warpzone.core.errors import InputError
from warpzone.core.files import read_text

MAX_DEPTH = 50
"""Levels of collections below the outermost one."""
MAX_ALIASES = 16
"""So many cannot make a small document large, as those of a "YAML bomb" do."""

_TAG = "tag:yaml.org,2002:"

CORE_TYPES = {
    f"{_TAG}null": re.compile(r"(~|null|Null|NULL|)\Z"),
    f"{_TAG}bool": re.compile(r"(true|True|TRUE|false|False|FALSE)\Z"),
    f"{_TAG}int": re.compile(r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
    f"{_TAG}float": re.compile(
        r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN)\Z"
    ),
}
"""What a plain scalar has to look like to be more than a string, by tag."""


def read_yaml(path: Path) -> Any:
    """Read one document.

    Raises:
        InputError: In one line with the number of the line: no YAML, a key that is
            given twice or is a collection, a tag outside the core schema, a merge key
            (``<<``, which YAML 1.2 does not have), or a limit of this module.
    """
    text = read_text(path)
    if bad := _Loader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        reason = f"the character {bad[0]!r} is not allowed"
        raise InputError(f"{path}, line {line}: {reason}")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line, reason = _explain(error, text)
    # An escape beyond Unicode, or a tag that does not fit its value.
    except (ValueError, KeyError, OverflowError) as error:
        line, reason = loader.line + 1, f"is not YAML: {error}"
    raise InputError(f"{path}, line {line}: {reason}")


class _Loader(yaml.SafeLoader):
    """PyYAML's parser in Python, whose errors know their place, with other values."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.depth = self.aliases = 0
        # Otherwise an alias could stand in what it repeats.
        self.deep_construct = True

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        self.depth += 1
        self.aliases += isinstance(event, yaml.AliasEvent)
        if self.depth > MAX_DEPTH + 1:
            raise _refused(f"more than {MAX_DEPTH} levels deep", event)
        if self.aliases > MAX_ALIASES:
            raise _refused(f"more than {MAX_ALIASES} aliases", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        lines = {}
        for key_node, _ in node.value:
            if key_node.value == "<<" and key_node.style is None:
                raise _refused("<< merges nothing in YAML 1.2: copy the keys", key_node)
            key = self.construct_object(key_node)
            if key in lines:
                first = f"first in line {lines[key]}"
                raise _refused(f"the key {key!r} is given twice, {first}", key_node)
            lines[key] = _line(self.text, key_node.start_mark)
        return mapping

    def construct_core_int(self, node: Any) -> int:
        text = self.construct_scalar(node)
        try:
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        # Python reads at most 4,300 digits.
        except ValueError:
            raise _refused(f"{text[:20]!r} is no whole number", node) from None


# In place of those of YAML 1.1.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in CORE_TYPES.items():
    _Loader.add_implicit_resolver(_tag, _pattern, None)
_TAGS = (*CORE_TYPES, *(f"{_TAG}{kind}" for kind in ("str", "seq", "map")), None)
_Loader.yaml_constructors = {tag: _Loader.yaml_constructors[tag] for tag in _TAGS}
_Loader.add_constructor(f"{_TAG}int", _Loader.construct_core_int)


def _refused(reason: str, place: yaml.Node | yaml.Event) -> yaml.MarkedYAMLError:
    """Return the error of a document that is YAML and not accepted."""
    return yaml.MarkedYAMLError(problem=reason, problem_mark=place.start_mark)


def _line(text: str, mark: yaml.Mark) -> int:
    """Return a line's number as an editor shows it, from 1."""
    return text.count("\n", 0, mark.index) + 1


def _explain(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str]:
    """Return the line with the mistake, and say it."""
    mark = error.problem_mark or error.context_mark
    assert mark is not None
    line, lines = _line(text, mark), text.split("\n")
    for number, content in enumerate(lines, 1):
        if content.startswith("<<<<<<< "):
            return number, "a merge's conflict begins: keep one of its sides"
    if lines[line - 1].lstrip(" ").startswith("\t") or "'\\t'" in str(error.problem):
        return line, "a tab where only spaces may be"
    if re.match("mapping values are not|expected <block end>", str(error.problem)):
        return line, "here or one line above, a ': ', a quote or the indent is wrong"
    if not error.context:
        return line, str(error.problem)
    begun = _line(text, error.context_mark or mark)
    return line, f"{error.problem}, {error.context} from line {begun} on"
