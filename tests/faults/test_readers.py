"""Whatever a file holds, its reader returns or raises the one documented error."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from conftest import ROOT  # pyright: ignore[reportMissingImports]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.provenance import describe
from tools.storage.errors import StorageError
from tools.storage.listing import parse_listing
from warpzone.agents.model import load_agent
from warpzone.core.errors import InputError
from warpzone.core.params import load_params
from warpzone.core.yaml import read_yaml
from warpzone.envs.mario.env import MarioEnv
from warpzone.episodes.recording import read_recordings
from warpzone.episodes.table import columns_of, read_episodes
from warpzone.training.algorithms import check_recipe

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
OLD_RECORDING = json.loads(
    (ROOT / "tests/data/clears.jsonl").read_text().splitlines()[0]
)
RECORDING = {
    "env": "cartpole",
    "level": "default",
    "frame_skip": 1,
    "no_ops": 1,
    "frame_actions": [[0, 1], [1, 2]],
    "decisions": [[1, 2]],
    "seed": 1,
    "rom_sha256": None,
    "version": f"gymnasium {gymnasium.__version__}",
    "outcome": "unfinished",
    "state_sha256": "0" * 64,
}
ROWS = """\
bc,1-1,none,1-1,1,30,0.25,frame,False,600.0,150,600,aa,1.5,enemy,650,0,0,380
bc,1-1,none,1-1,2,30,0.25,frame,True,3200.0,700,2800,bb,60.0,clear,,0,0,300
"""
COLUMNS = list(columns_of(MarioEnv))
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
@given(recipe=mutations(PARAMS["recipes"]["ppo"]))
@pytest.mark.slow
def test_a_recipe_with_any_values(tmp_path: Path, recipe: Any) -> None:
    def reader(path: Path) -> None:
        check_recipe("ppo", load_params(path).recipes["ppo"])

    document = PARAMS | {"recipes": PARAMS["recipes"] | {"ppo": recipe}}
    survives(reader, tmp_path / "params.yaml", as_json(document))


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
@given(document=documents | mutations(RECORDING) | mutations(OLD_RECORDING))
def test_recordings_of_any_document(tmp_path: Path, document: Any) -> None:
    survives(read_recordings, tmp_path / "a.jsonl", as_json(document))


def test_the_recordings_that_are_changed_are_valid(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(as_json(RECORDING) + b"\n" + as_json(OLD_RECORDING))
    assert [one.env for one in read_recordings(path)] == ["cartpole", "mario"]


def test_a_key_with_a_line_end_is_said_in_one_line(tmp_path: Path) -> None:
    document = RECORDING | {"a\nb\x1b[2J": 1}
    survives(read_recordings, tmp_path / "a.jsonl", as_json(document))


# --------------------------------------------------------------------- models


@pytest.fixture
def model(agent: Path, tmp_path: Path) -> Path:
    """The folder of a model, to be damaged."""
    return Path(shutil.copytree(agent, tmp_path / "model"))


@pytest.fixture(scope="session")
def spec(agent: Path) -> dict[str, Any]:
    """What a policy.json holds."""
    return json.loads((agent / "policy.json").read_bytes())


@fuzz
@given(content=st.binary(max_size=200))
@pytest.mark.parametrize("name", ["policy.json", "policy.safetensors"])
def test_models_of_any_bytes(model: Path, name: str, content: bytes) -> None:
    survives(lambda path: load_agent(path.parent), model / name, content)
    survives(lambda path: describe(path.parent, path.parent), model / name, content)


@fuzz
@given(data=st.data())
def test_models_of_any_description(
    model: Path, spec: dict[str, Any], data: st.DataObject
) -> None:
    document = data.draw(documents | mutations(spec))
    path = model / "policy.json"
    survives(lambda path: load_agent(path.parent), path, as_json(document))
    survives(lambda path: describe(path.parent, path.parent), path, as_json(document))


@fuzz
@given(content=st.binary(max_size=300), header=st.integers(0, 2**64 - 1))
@pytest.mark.slow
def test_weights_of_any_bytes_with_a_right_checksum(
    model: Path, spec: dict[str, Any], content: bytes, header: int
) -> None:
    for whole in (content, header.to_bytes(8, "little") + content):
        (model / "policy.safetensors").write_bytes(whole)
        described = spec | {"weights_sha256": sha256(whole).hexdigest()}
        path = model / "policy.json"
        survives(lambda path: load_agent(path.parent), path, as_json(described))


@pytest.mark.parametrize(
    "change",
    [
        {"spaces": {"state": ["float32", [10**9]]}},
        {"spaces": {"state": ["float32", [4096, 4096, 4096]]}},
        {"spaces": {"state": ["float32", [10**400]]}},
        {"spaces": {"state": ["float32", [-1]]}},
        {"spaces": {"state": ["float32", []]}},
        {"spaces": {"state": ["O", [4]]}},
        {"spaces": {"state": ["nothing", [4]]}},
        {"spaces": {}},
        {"actions": 0},
        {"actions": -1},
        {"actions": 10**9},
        {"temperature": -1.0},
        {"observation": "pixels"},
        {"env": "mario"},
        {"env": "pong"},
        {"architecture": {}},
    ],
    ids=lambda change: f"{change!s:.50}",
)
def test_a_model_that_describes_what_cannot_be_is_refused_in_one_line(
    model: Path, spec: dict[str, Any], change: dict[str, Any]
) -> None:
    (model / "policy.json").write_bytes(as_json(spec | change))
    with pytest.raises(InputError) as caught:
        load_agent(model)
    check(caught.value)


def test_the_model_that_is_changed_is_valid(model: Path) -> None:
    assert load_agent(model).key == "state"


def test_a_key_of_a_model_with_a_line_end_is_said_in_one_line(
    model: Path, spec: dict[str, Any]
) -> None:
    path, document = model / "policy.json", spec | {"a\nb": 1}
    survives(lambda path: load_agent(path.parent), path, as_json(document))


# ------------------------------------------------------------- episode tables


def episodes(path: Path) -> Any:
    return read_episodes(path, MarioEnv, agent="bc", task="1-1")


@fuzz
@given(content=st.binary(max_size=300))
def test_episodes_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    survives(episodes, tmp_path / "bc.csv", content)


cells = st.text(max_size=12) | st.sampled_from(
    ["nan", "inf", "-1", "1e999", "9" * 18, "True", "", '"', "bc", "clear", "\0"]
)


@fuzz
@given(
    changes=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 16), cells)),
    header=st.lists(st.tuples(st.integers(0, 16), cells), max_size=1),
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
    text = "".join(",".join(line) + "\n" for line in (names, *rows))
    content = text.encode(errors="surrogatepass")
    survives(episodes, tmp_path / "bc.csv", content)


def test_an_episode_with_a_number_too_large(tmp_path: Path) -> None:
    rows = [[*ROW[0][:4], "9" * 400, *ROW[0][5:]], ROW[1]]
    lines = (",".join(map(str, COLUMNS)), *(",".join(row) for row in rows))
    survives(episodes, tmp_path / "bc.csv", ("\n".join(lines) + "\n").encode())


def test_the_table_that_is_changed_is_valid(tmp_path: Path) -> None:
    lines = (",".join(map(str, COLUMNS)), *(",".join(row) for row in ROW))
    (tmp_path / "bc.csv").write_text("\n".join(lines) + "\n")
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
