"""Whatever a file holds, its reader returns or raises the one documented error."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT  # pyright: ignore[reportMissingImports]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.provenance import describe
from tools.storage.errors import StorageError
from tools.storage.listing import parse_listing
from warpzone.agents.policy import load_policy
from warpzone.core.errors import InputError
from warpzone.core.params import GameParams, load_params
from warpzone.core.yaml import read_yaml
from warpzone.episodes.evaluation import COLUMNS, read_episodes
from warpzone.episodes.recording import read_recordings

fuzz = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["1-1", "nan", "1e999", "\0", "\ud800", "0" * 64, "9" * 5000])
)
# Without line ends: see test_a_key_with_a_line_end_is_said_in_one_line.
names = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=9)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(names, inner),
    max_leaves=20,
)


@st.composite
def mutations(draw: st.DrawFn, document: Any) -> Any:
    """A valid document, with a few values replaced, dropped or added."""
    document = deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        inner = document
        while True:
            keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(inner[key], dict | list) and draw(st.booleans()):
                inner = inner[key]
                continue
            match draw(st.integers(0, 3)):
                case 0:
                    del inner[key]
                case 1 if isinstance(inner, dict):
                    inner[draw(names)] = draw(documents)
                case _:
                    inner[key] = draw(documents)
            break
    return document


def survives(reader: Callable[[Path], Any], path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        reader(path)
    except InputError as error:
        check(error)


def check(error: Exception) -> None:
    """The documented error is one line, also for a terminal."""
    assert len(str(error).splitlines()) == 1


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


PARAMS = read_yaml(ROOT / "params.yaml")
RECORDING = json.loads((ROOT / "tests/data/clears.jsonl").read_text().splitlines()[0])
ROWS = """\
bc,1-1,1,30,0.25,False,600,150,600,0,0,380,1.5,650,enemy
bc,1-1,2,30,0.25,True,3200,700,2800,0,0,300,60.0,,clear
"""
ROW = [line.split(",") for line in ROWS.splitlines()]
TEXTS = (ROOT / "params.yaml").read_text()


# --------------------------------------------------------------------- params


@fuzz
@given(content=st.binary(max_size=200))
def test_params_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    survives(load_params, tmp_path / "params.yaml", content)


@fuzz
@given(document=documents | mutations(PARAMS))
def test_params_of_any_document(tmp_path: Path, document: Any) -> None:
    # JSON is YAML.
    survives(load_params, tmp_path / "params.yaml", as_json(document))


@fuzz
@given(start=st.integers(0, len(TEXTS)), length=st.integers(0, 40), new=st.text())
def test_params_with_a_part_replaced(
    tmp_path: Path, start: int, length: int, new: str
) -> None:
    text = TEXTS[:start] + new + TEXTS[start + length :]
    content = text.encode(errors="surrogatepass")
    survives(load_params, tmp_path / "params.yaml", content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 50_000,
        b"{" * 50_000,
        b"a: " * 20_000,
        b"- " * 20_000,
        b"a: &a [*a]",
        b"a: &a\n  <<: *a\n",
        b"? [1]\n: 2",
        b"? {a: 1}\n: 2",
        b"a: 1\na: 2",
        b"%YAML 9.9\n---\na",
        b"--- a\n--- b",
        b"a: " + b"9" * 5000,
        b"a: 2001-99-99",
        b"a: 9999-99-99T99:99:99Z",
        b"a: !!binary x",
        b"a: !!int x",
        b"a: !!float x",
        b"a: !!timestamp x",
        b"a: !!set x",
        b"a: !!omap x",
        b"a: !!pairs x",
        b"a: 0x",
        b"a: 0b2",
        b"a: 0o8",
        b"a: ._",
        b"a: 190:20:30.15",
        b"\xff\xfea\x00",
        b"\x00",
        b"&a *a",
    ],
)
def test_params_of_hard_yaml(tmp_path: Path, content: bytes) -> None:
    survives(load_params, tmp_path / "params.yaml", content)


# ----------------------------------------------------------------- recordings


@fuzz
@given(content=st.binary(max_size=200))
def test_recordings_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    survives(read_recordings, tmp_path / "a.jsonl", content)


@fuzz
@given(document=documents | mutations(RECORDING))
def test_recordings_of_any_document(tmp_path: Path, document: Any) -> None:
    survives(read_recordings, tmp_path / "a.jsonl", as_json(document))


def test_a_key_with_a_line_end_is_said_in_one_line(tmp_path: Path) -> None:
    document = RECORDING | {"a\nb\x1b[2J": 1}
    survives(read_recordings, tmp_path / "a.jsonl", as_json(document))


# --------------------------------------------------------------------- models


@fuzz
@given(content=st.binary(max_size=200), of_spec=st.booleans())
def test_models_of_any_bytes(
    tmp_path: Path, content: bytes, of_spec: bool, game: GameParams
) -> None:
    (tmp_path / "policy.safetensors").write_bytes(content)
    path = tmp_path / "policy.json"
    survives(lambda path: load_policy(path.parent, game), path, content)
    survives(lambda path: describe(path.parent, path.parent), path, content)


@fuzz
@given(data=st.data())
def test_models_of_any_description(
    tmp_path: Path, data: st.DataObject, game: GameParams
) -> None:
    spec = {
        "architecture": {"class": "ActorCriticPolicy", "net_arch": []},
        "game": game.model_dump(mode="json"),
        "origin": {"seed": 1},
        "weights_sha256": "0" * 64,
    }
    document = data.draw(documents | mutations(spec))
    path = tmp_path / "policy.json"
    survives(lambda path: load_policy(path.parent, game), path, as_json(document))


@fuzz
@given(content=st.binary(max_size=300), header=st.integers(0, 2**64 - 1))
def test_weights_of_any_bytes_with_a_right_checksum(
    content: bytes, header: int
) -> None:
    from hashlib import sha256
    from tempfile import TemporaryDirectory

    from warpzone.agents import policy

    with TemporaryDirectory() as folder:
        path = Path(folder, "policy.safetensors")
        for whole in (content, header.to_bytes(8, "little") + content):
            path.write_bytes(whole)
            try:
                policy._read_weights(path, sha256(whole).hexdigest())
            except InputError as error:
                check(error)


def test_a_key_of_a_model_with_a_line_end_is_said_in_one_line(
    tmp_path: Path, game: GameParams
) -> None:
    path, document = tmp_path / "policy.json", {"a\nb": 1}
    document |= {"architecture": {}, "game": game.model_dump(mode="json")}
    document |= {"origin": {}, "weights_sha256": ""}
    survives(lambda path: load_policy(path.parent, game), path, as_json(document))


# ------------------------------------------------------------- episode tables


def episodes(path: Path) -> Any:
    return read_episodes(path, "bc")


@fuzz
@given(content=st.binary(max_size=300))
def test_episodes_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    survives(episodes, tmp_path / "bc.csv", content)


cells = st.text(max_size=12) | st.sampled_from(
    ["nan", "inf", "-1", "1e999", "9" * 18, "True", "", '"', "bc", "clear", "\0"]
)


@fuzz
@given(
    changes=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 14), cells)),
    header=st.lists(st.tuples(st.integers(0, 14), cells), max_size=1),
)
def test_episodes_with_cells_replaced(
    tmp_path: Path, changes: list, header: list
) -> None:
    names = [str(name) for name in COLUMNS]
    rows = deepcopy(ROW)
    for row, column, cell in changes:
        rows[row][column] = cell
    for column, cell in header:
        names[column] = cell
    text = "\n".join(",".join(line) for line in (names, *rows))
    content = text.encode(errors="surrogatepass")
    survives(episodes, tmp_path / "bc.csv", content)


def test_an_episode_with_a_number_too_large(tmp_path: Path) -> None:
    rows = [[*ROW[0][:2], "9" * 400, *ROW[0][3:]], ROW[1]]
    lines = (",".join(map(str, COLUMNS)), *(",".join(row) for row in rows))
    survives(episodes, tmp_path / "bc.csv", "\n".join(lines).encode())


def test_the_table_that_is_changed_is_valid(tmp_path: Path) -> None:
    lines = (",".join(map(str, COLUMNS)), *(",".join(row) for row in ROW))
    (tmp_path / "bc.csv").write_text("\n".join(lines))
    assert len(episodes(tmp_path / "bc.csv")) == 2


# ------------------------------------------------------------------- listings


@fuzz
@given(content=st.binary(max_size=200) | documents.map(as_json))
def test_listings_of_anything(content: bytes) -> None:
    try:
        members = parse_listing(content, "oid")
    except StorageError as error:
        check(error)
    else:
        assert all(not Path(name).is_absolute() for name in members)


@fuzz
@given(name=st.text())
def test_a_listed_path_stays_inside(tmp_path: Path, name: str) -> None:
    content = json.dumps([{"md5": "0" * 32, "relpath": name}]).encode()
    try:
        [found] = parse_listing(content, "oid")
    except StorageError:
        return
    assert (tmp_path / found).is_relative_to(tmp_path)
    assert ".." not in Path(found).parts
