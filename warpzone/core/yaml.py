"""Read YAML by the core schema of YAML 1.2, and say in one line what is wrong with it.

PyYAML parses. It follows YAML 1.1, where ``no`` is false, ``1e-4`` is a string and
``12:30`` is 750. Here values are those of YAML 1.2, which DVC follows, too:
https://yaml.org/spec/1.2.2/#103-core-schema.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from warpzone.core.errors import InputError

# The two limits end documents that grow as they are read, such as a "YAML bomb".
MAX_DEPTH = 100
"""Levels of collections below the outermost one."""
MAX_VALUES = 100_000
"""Of a document, where an alias counts as all that it repeats."""

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

_TOO_DEEP = f"more than {MAX_DEPTH} levels deep"
_INDENTED = "is indented unlike the lines above it"


def read_yaml(path: Path) -> Any:
    """Read one document, of which every part is a new object.

    Raises:
        InputError: In one line with the number of the line: no YAML, a key that is
            given twice or is a collection, a tag outside the core schema, a merge key
            (``<<``, which YAML 1.2 does not have), or a limit of this module.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    try:
        loader = _Loader(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        reason = f"the character {text[error.position]!r} is not allowed"
        raise InputError(f"{path}, line {line}: {reason}") from error
    try:
        return loader.read()
    except yaml.MarkedYAMLError as error:
        line, reason = _explain(error, loader)
        raise InputError(f"{path}, line {line}: {reason}") from error
    # An escape beyond Unicode, or a version of thousands of digits.
    except (ValueError, OverflowError) as error:
        line = text.count("\n", 0, loader.index) + 1
        raise InputError(f"{path}, line {line}: is not YAML: {error}") from error


class _Refused(yaml.MarkedYAMLError):
    """A document that is YAML and not accepted."""

    def __init__(self, reason: str, mark: yaml.Mark) -> None:
        super().__init__(problem=reason, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """PyYAML's parser in Python, whose errors know their place, with other values."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.depth = self.values = 0
        self.inside: list[yaml.Node] = []
        self.plain: list[yaml.ScalarToken] = []
        self.last_quoted: yaml.ScalarToken | None = None

    def read(self) -> Any:
        node = self.get_single_node()
        return None if node is None else self.value_of(node)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if self.depth > MAX_DEPTH:
            raise _Refused(_TOO_DEEP, event.start_mark)
        if isinstance(event, yaml.ScalarEvent) and event.tag == "!":
            event.tag = f"{_TAG}str"
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def scan_plain(self) -> yaml.ScalarToken:
        self.plain.append(super().scan_plain())
        return self.plain[-1]

    def scan_flow_scalar(self, style: str) -> yaml.ScalarToken:
        token = self.last_quoted = super().scan_flow_scalar(style)
        return token

    def line_of(self, mark: yaml.Mark) -> int:
        """Return a line's number as an editor shows it, from 1."""
        return self.text.count("\n", 0, mark.index) + 1

    def value_of(self, node: yaml.Node) -> Any:
        """Build what a node and all below it stand for."""
        mark = node.start_mark
        self.values += 1
        if self.values > MAX_VALUES:
            reason = f"more than {MAX_VALUES:,} values, with what aliases repeat"
            raise _Refused(reason, mark)
        if node in self.inside:
            raise _Refused("an alias repeats what it stands in", mark)
        if len(self.inside) > MAX_DEPTH:
            raise _Refused(_TOO_DEEP, mark)
        self.inside.append(node)
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and kind == "map":
            value = self.mapping_of(node)
        elif isinstance(node, yaml.SequenceNode) and kind == "seq":
            value = [self.value_of(item) for item in node.value]
        elif isinstance(node, yaml.ScalarNode) and kind in _BUILD:
            value = self.scalar_of(node, kind)
        else:
            tag = node.tag.replace(_TAG, "!!")
            raise _Refused(f"the tag {tag!r} is not allowed here", mark)
        self.inside.pop()
        return value

    def mapping_of(self, node: yaml.MappingNode) -> dict[Any, Any]:
        mapping, lines = {}, {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Refused("a key cannot be a list or a section", mark)
            if key_node.value == "<<" and key_node.style is None:
                raise _Refused("<< merges nothing in YAML 1.2: copy the keys", mark)
            key = self.value_of(key_node)
            if key in mapping:
                first = f"first in line {lines[key]}"
                raise _Refused(f"the key {key!r} is given twice, {first}", mark)
            lines[key] = self.line_of(mark)
            mapping[key] = self.value_of(value_node)
        return mapping

    def scalar_of(self, node: yaml.ScalarNode, kind: str) -> Any:
        text = node.value
        if kind != "str" and not CORE_TYPES[node.tag].match(text):
            raise _Refused(f"{text!r} is no {kind}", node.start_mark)
        try:
            return _BUILD[kind](text)
        # Python reads no number of more than 4,300 digits.
        except ValueError:
            reason = f"a number of {len(text):,} digits"
            raise _Refused(reason, node.start_mark) from None


# In place of those of YAML 1.1.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern in CORE_TYPES.items():
    _Loader.add_implicit_resolver(_tag, _pattern, None)

_BASES = {"0o": 8, "0x": 16}
_BUILD: dict[str, Callable[[str], Any]] = {
    "null": lambda text: None,
    "bool": lambda text: text.lower() == "true",
    "int": lambda text: int(text, _BASES.get(text[:2], 10)),
    # Python writes infinity and not-a-number without the dot.
    "float": lambda text: float(re.sub(r"\.(?=[iInN])", "", text)),
    "str": str,
}


def _explain(error: yaml.MarkedYAMLError, loader: _Loader) -> tuple[int, str]:
    """Return the line with the mistake, which may be above the error's, and say it."""
    problem = error.problem or ""
    mark = error.problem_mark or loader.get_mark()
    line = loader.line_of(mark)
    opened = loader.line_of(error.context_mark or mark)
    lines = loader.text.split("\n")

    if isinstance(error, _Refused):
        return line, problem
    for number, text in enumerate(lines, 1):
        if text.startswith("<<<<<<< "):
            return number, "a merge's conflict begins: keep one of its sides"
    if lines[line - 1].lstrip(" ").startswith("\t") or "'\\t'" in problem:
        return line, "a tab where only spaces may be"
    if error.context == "while scanning a quoted scalar":
        return opened, "the quote that opens here is not closed"
    if quoted := loader.last_quoted:
        begin = loader.line_of(quoted.start_mark)
        if begin < loader.line_of(quoted.end_mark) == line:
            return begin, f"the quote that opens here is closed only in line {line}"
    if problem == "could not find expected ':'":
        return opened, _lacks_colon(lines[opened - 1])
    second_colon = problem == "mapping values are not allowed here"
    if second_colon or problem.startswith("expected <block end>"):
        # A line without a colon becomes a value, or the first half of the next key.
        for token in loader.plain[-2:]:
            begin = loader.line_of(token.start_mark)
            words = _without_comment(lines[begin - 1])
            if begin < line and token.value.startswith(words):
                return begin, _lacks_colon(words)
    if second_colon and lines[line - 1].count(": ") > 1:
        return line, "a second ': ' in one line: put the value between quotes"
    if second_colon:
        return line, _INDENTED
    if found := re.match(r"expected ',' or '([\]}])'", problem):
        return opened, f"what opens here lacks a ',' or its {found[1]!r}"
    if error.context == "while parsing a flow node" and "<stream end>" in problem:
        return loader.line_of(loader.marks[-1]), "what opens here is not closed"
    if re.match(r"expected .*, but found '(<block|-|\?)", problem):
        return line, _INDENTED
    if found := re.match(r"expected <block end>, but found (.*)", problem):
        what = "text" if found[1] == "'<scalar>'" else found[1]
        return line, f"{what} stands after the end of a value"
    if found := re.match(r"found character (.*) that cannot start", problem):
        return line, f"no value begins with {found[1]}: put it between quotes"
    if problem == "second occurrence":
        return line, f"the anchor of line {opened} is given again"
    if problem == "but found another document":
        return line, "a second document begins, only one is read"
    return line, " ".join(f"is not YAML: {error.context or ''} {problem}".split())


def _without_comment(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line).strip()


def _lacks_colon(line: str) -> str:
    return f"{_without_comment(line)!r} lacks ': ' between a key and its value"
