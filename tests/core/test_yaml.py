"""Values are those of YAML 1.2's core schema; a mistake is told with its line."""

import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from warpzone.core.errors import InputError
from warpzone.core.yaml import MAX_ALIASES, MAX_DEPTH, read_yaml

ROOT = Path(__file__).resolve().parents[2]

fuzz = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "params.yaml"


def read(path: Path, text: str) -> Any:
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


def refusal(path: Path, text: str) -> str:
    """The line and the reason with which a document is refused, as ``line 1: ...``."""
    with pytest.raises(InputError) as caught:
        read(path, text)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message.removeprefix(str(path))) < 150
    assert message.startswith(f"{path}, line ")
    return message.removeprefix(f"{path}, ")


# --------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # The examples of section 10.3.2 of the specification.
        ("null", None),
        ("", None),
        ("true", True),
        ("True", True),
        ("false", False),
        ("FALSE", False),
        ("0", 0),
        ("0o7", 7),
        ("0x3A", 58),
        ("-19", -19),
        ("0.", 0.0),
        ("-0.0", -0.0),
        (".5", 0.5),
        ("+12e03", 12000.0),
        ("-2E+05", -200000.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("+.INF", math.inf),
        # The others that it names.
        ("~", None),
        ("Null", None),
        ("NULL", None),
        ("TRUE", True),
        ("False", False),
        ("+7", 7),
        ("0xfF", 255),
        ("1e-4", 0.0001),
        ("-.5", -0.5),
        ("1.e+3", 1000.0),
        # Octal in YAML 1.1.
        ("0777", 777),
        ("-010", -10),
        ("09", 9),
        # More than strings in YAML 1.1.
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("OFF", "OFF"),
        ("y", "y"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("0b11", "0b11"),
        ("2001-12-14", "2001-12-14"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("=", "="),
        # Close to something, and strings.
        ("1-1", "1-1"),
        ("tRUE", "tRUE"),
        ("nULL", "nULL"),
        ("-0x1", "-0x1"),
        ("+0o7", "+0o7"),
        ("0o8", "0o8"),
        ("0x", "0x"),
        ("1e", "1e"),
        ("e5", "e5"),
        (".", "."),
        ("+", "+"),
        ("1.2.3", "1.2.3"),
        ("inf", "inf"),
        ("-.nan", "-.nan"),
        (".iNF", ".iNF"),
        ("\u0661", "\u0661"),
        # Quotes and tags decide.
        ("'1e-4'", "1e-4"),
        ('"null"', "null"),
        ("!!str 12", "12"),
        ("!!str", ""),
        ("!!int '0o7'", 7),
        ("!!float 1", 1.0),
        ("!!null ''", None),
        ("!!bool 'true'", True),
        ("!!seq [1]", [1]),
        ("!!map {1: 2}", {1: 2}),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(path: Path, text: str, value: Any) -> None:
    # The last one would be equal and another type: 1 and 1.0, -0.0 and 0.0.
    found = read(path, f"- {text}\n")
    assert found == [value]
    assert repr(found) == repr([value])


@pytest.mark.parametrize("text", [".nan", ".NaN", ".NAN"])
def test_what_is_no_number_is_a_float(path: Path, text: str) -> None:
    assert math.isnan(read(path, text))


def test_an_empty_document_is_none(path: Path) -> None:
    assert read(path, "") is None
    assert read(path, "# nothing\n") is None


def test_an_alias_repeats_a_value(path: Path) -> None:
    values = read(path, "a: &a {b: [1]}\nc: *a\n")
    assert values == {"a": {"b": [1]}, "c": {"b": [1]}}


def test_a_quoted_merge_key_is_a_word(path: Path) -> None:
    assert read(path, "'<<': 1\n") == {"<<": 1}


def is_same(one: Any, other: Any) -> bool:
    """Compare values, their types and the order of keys."""
    return repr(one) == repr(other)


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "dvc.lock"])
def test_it_reads_the_files_of_this_repository_as_dvc_does(name: str) -> None:
    if not (ROOT / name).exists():
        pytest.skip("the pipeline has not been run")
    text = (ROOT / name).read_text(encoding="utf-8")
    as_dvc = YAML(typ="safe", pure=True).load(text)
    assert is_same(read_yaml(ROOT / name), as_dvc)


def test_it_is_fast_enough_for_dvc_lock(path: Path) -> None:
    outs = "".join(
        f"    - path: data/{n}.csv\n      hash: md5\n      md5: {n:032x}\n"
        f"      size: {n}\n"
        for n in range(10)
    )
    stages = "".join(
        f"  s{n}:\n    cmd: python {n}\n    outs:\n{outs}" for n in range(30)
    )
    path.write_text(f"schema: '2.0'\nstages:\n{stages}")
    began = time.process_time()
    assert len(read_yaml(path)["stages"]) == 30
    assert time.process_time() - began < 1


characters = st.characters(exclude_categories=["Cs"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(characters)
keys = st.text(characters, max_size=9)
documents = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5)
    ),
    max_leaves=20,
)


@fuzz
@given(document=documents)
def test_what_pyyaml_writes_is_read_back(path: Path, document: Any) -> None:
    # In quotes and with tags: bare, a string such as 1e-4 would be a number in 1.2.
    text = yaml.safe_dump(document, default_style='"', sort_keys=False)
    assert is_same(read(path, text), document)


@fuzz
@given(document=documents)
def test_json_is_yaml(path: Path, document: Any) -> None:
    try:
        text = json.dumps(document, allow_nan=False)
    except ValueError:
        return
    # JSON writes two halves where YAML has one character.
    if not re.search(r"\\ud[89ab]", text):
        assert is_same(read(path, text), document)


# ------------------------------------------------------------------- mistakes

NO_COLON = "could not find expected ':', while scanning a simple key"
NO_TAG = "could not determine a constructor for the tag"
WRONG_HERE = "here or one line above, a ': ', a quote or the indent is wrong"

GAME = """\
seed: 0
game:
  emulator: fceumm
  level: 1-1
  sizes: [84, 84]
  reward: {death: -1.0}
noise:
  no_op_max: 30
"""


@pytest.mark.parametrize(
    ("part", "wrong", "line", "reason"),
    [
        ("84]", "84", 6, "expected ',' or ']', but got ':', while parsing a flow "),
        ("-1.0}", "-1.0", 7, "expected ',' or '}', but got ':', while parsing a flow"),
        ("84, 84]", "'84' 84]", 5, "expected ',' or ']', but got '<scalar>', while "),
        ("84]", "84]]", 5, WRONG_HERE),
        ("  level", "\tlevel", 4, "a tab where only spaces may be"),
        ("level: ", "level:\t", 4, "a tab where only spaces may be"),
        ("  emul", "\temul", 3, "a tab where only spaces may be"),
        ("level:", "level", 5, "could not find expected ':', while scanning a simple"),
        ("level: ", "level:", 5, f"{NO_COLON} from line 4 on"),
        ("emulator:", "emulator", 4, WRONG_HERE),
        ("emulator: fceumm", "emulator fceumm  # fast: yes", 4, WRONG_HERE),
        ("level: 1-1", "level 1-1  # easy", 5, f"{NO_COLON} from line 4 on"),
        ("noise:", "noise", 8, f"{NO_COLON} from line 7 on"),
        ("no_op_max: 30", "no_op_max: 30\n  sticky 1", 10, NO_COLON),
        ("  level", "  emulator", 4, "the key 'emulator' is given twice, first in"),
        ("noise:", "game:", 7, "the key 'game' is given twice, first in line 2"),
        ("death: -1.0", "a: 1, b: 1, a: 1", 6, "the key 'a' is given twice, first"),
        ("  level", "   level", 4, WRONG_HERE),
        ("  level", " level", 4, WRONG_HERE),
        ("  emul", "      emul", 4, WRONG_HERE),
        ("noise:", " noise:", 7, WRONG_HERE),
        ("noise:", "- noise:", 7, WRONG_HERE),
        ("1-1", "'1-1", 9, "found unexpected end of stream, while scanning a quoted "),
        ("1-1", "1: 1", 4, WRONG_HERE),
        ("  emulator: fceumm", '  "a": "b": c', 3, WRONG_HERE),
        ("1-1", "@1-1", 4, "found character '@' that cannot start any token"),
        ("1-1", "'1' 1", 4, WRONG_HERE),
        ("1-1", "*world", 4, "found undefined alias 'world'"),
        ("1-1", "a\0b", 4, "the character '\\x00' is not allowed"),
        ("1-1", "a\x1b[2Jb", 4, "the character '\\x1b' is not allowed"),
        ("1-1", '"\\UFFFFFFFF"', 4, "is not YAML: chr() arg not in range"),
        ("1-1", '"\\q"', 4, "found unknown escape character 'q', while scanning a "),
        ("1-1", "9" * 5000, 4, "'99999999999999999999' is no whole number"),
        ("1-1", "!!int 1-1", 4, "'1-1' is no whole number"),
        ("1-1", "!!binary aGk=", 4, f"{NO_TAG} 'tag:yaml.org,2002:binary'"),
        ("1-1", "!!timestamp 2001-12-14", 4, f"{NO_TAG} 'tag:yaml.org,2002:timesta"),
        ("1-1", "!mine 1", 4, f"{NO_TAG} '!mine'"),
        ("1-1", "!!python/name:os.system", 4, NO_TAG),
        ("{death", "!!set {death", 6, NO_TAG),
        ("[84, 84]", "!!map [84, 84]", 5, "expected a mapping node, but found seq"),
        ("level:", "? [1]\n  :", 4, "found unhashable key, while constructing a mapp"),
        ("level:", "{a: 1}:", 4, "found unhashable key, while constructing a mapping"),
        ("level: 1-1", "<<: {a: 1}", 4, "<< merges nothing in YAML 1.2: copy the keys"),
        ("level: 1-1", "level: &a [*a]", 4, "found unconstructable recursive node"),
        ("noise:", "---\nnoise:", 7, "but found another document, expected a "),
        ("noise:", "<<<<<<< HEAD\nnoise:", 7, "a merge's conflict begins"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    path: Path, part: str, wrong: str, line: int, reason: str
) -> None:
    assert GAME.count(part) == 1
    told = refusal(path, GAME.replace(part, wrong))
    assert told.startswith(f"line {line}: {reason}")


def test_a_quote_that_the_next_one_closes_is_told(path: Path) -> None:
    assert refusal(path, 'a: "x\nb: "y"\n') == f"line 2: {WRONG_HERE}"


@pytest.mark.parametrize(("text", "line"), [("a: 1\nb: [", 2), ("a:\n  {b: 1,\n", 3)])
def test_a_bracket_open_at_the_end_is_told(path: Path, text: str, line: int) -> None:
    told = "expected the node content, but found '<stream end>'"
    assert refusal(path, text).startswith(f"line {line}: {told}")


def test_lines_are_counted_as_an_editor_does(path: Path) -> None:
    # YAML 1.1 has three more line ends.
    assert refusal(path, "a: 'x\u2028y\x85z'\nb: 1\nb: 2\n").startswith("line 3: ")
    assert refusal(path, "a: 1\r\na: 2\r\n").startswith("line 2: ")


def test_a_missing_file_and_one_that_is_no_text_are_named(path: Path) -> None:
    with pytest.raises(InputError, match=r"params\.yaml: cannot be read: "):
        read_yaml(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"params\.yaml: cannot be read: .*utf-8"):
        read_yaml(path)


# --------------------------------------------------------------------- limits


def test_aliases_that_multiply_end_in_one_line(path: Path) -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for n in range(1, 10):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    began = time.process_time()
    assert f"more than {MAX_ALIASES} aliases" in refusal(path, "\n".join(lines))
    assert time.process_time() - began < 5


@pytest.mark.parametrize("text", ["[", "{", "- ", "? ", "[{a: "])
def test_deep_collections_end_in_one_line(path: Path, text: str) -> None:
    assert f"more than {MAX_DEPTH} levels deep" in refusal(path, text * 10_000)


def test_the_deepest_allowed_list_is_read(path: Path) -> None:
    found = read(path, "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    for _ in range(MAX_DEPTH):
        [found] = found
    assert found == []
    told = refusal(path, "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2))
    assert told == f"line 1: more than {MAX_DEPTH} levels deep"


@pytest.mark.parametrize("text", ['"' * 9, "%", "&a *a", "%YAML 9.9\n---\na", "a: ,"])
def test_hard_documents_end_in_one_line(path: Path, text: str) -> None:
    refusal(path, text)


@fuzz
@given(text=st.text("ab1:-?,[]{}&*!%@'\"|>#\\ \n\t\0x.<=", max_size=40))
def test_any_text_is_read_or_refused_in_one_line(path: Path, text: str) -> None:
    message = ""
    try:
        read(path, text)
    except InputError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
