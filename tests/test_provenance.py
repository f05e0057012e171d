"""Where a model came from can be told, and does not make equal models differ."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.provenance import describe
from tools.storage.listing import listing_of, md5
from warpzone.agents.model import describe_origin
from warpzone.core.errors import InputError
from warpzone.core.files import write_json
from warpzone.core.params import NoiseParams

ROOT = Path(__file__).parents[1]
ORIGIN = {
    "stage": "train_rl",
    "task": "1-1",
    "seed": 1,
    "params": {"gamma": 0.9},
    "instruction_set": {"MKL_CBWR": "AVX2", "OPENBLAS_CORETYPE": ""},
    "versions": {"torch": "2.6.0", "numpy": "2.1.0"},
}


def git(folder: Path, *words: str) -> str:
    user = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    command = ["git", "-C", str(folder), *user, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "bc"
    write_json(folder / "policy.json", {"origin": ORIGIN, "weights_sha256": "0" * 64})
    (folder / "policy.safetensors").write_bytes(b"weights")
    git(tmp_path, "init", "-q")
    return folder


@pytest.fixture
def recorded(model: Path, tmp_path: Path) -> str:
    """The second of three commits, which recorded the model as DVC does."""
    (tmp_path / "listing").write_bytes(listing_of(model))
    name = f"{md5(tmp_path / 'listing')}.dir"
    (tmp_path / "dvc.lock").write_text("other\n")
    git(tmp_path, "add", "dvc.lock")
    git(tmp_path, "commit", "-qm", "One")
    assert describe(model, tmp_path)["recorded_by_git_commit"] is None
    assert "was not committed" in describe(model, tmp_path)["hint"]
    (tmp_path / "dvc.lock").write_text(f"md5: {name}\n")
    git(tmp_path, "commit", "-qam", "Two")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "dvc.lock").write_text(f"md5: {name}\nmore\n")
    git(tmp_path, "commit", "-qam", "Three")
    return commit


def test_the_commit_that_recorded_a_model_is_found_by_its_content(
    model: Path, tmp_path: Path, recorded: str
) -> None:
    found = describe(model, tmp_path)
    assert found["recorded_by_git_commit"] == recorded
    assert found["hint"] is None
    (model / "policy.safetensors").write_bytes(b"others")
    assert describe(model, tmp_path)["recorded_by_git_commit"] is None


def test_a_shallow_clone_names_no_commit_and_says_why(
    model: Path, tmp_path: Path, recorded: str
) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{tmp_path}", str(clone))
    found = describe(model, clone)
    assert found["recorded_by_git_commit"] is None
    assert "git fetch --unshallow" in found["hint"]
    git(clone, "fetch", "-q", "--unshallow")
    assert describe(model, clone)["recorded_by_git_commit"] == recorded


def test_outside_of_a_repository_there_is_no_commit(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert "no git repository" in describe(model, tmp_path)["hint"]


def test_what_decides_the_bytes_names_no_processor(noise: NoiseParams) -> None:
    origin = describe_origin("train_rl", "mario", "1-1", noise, 1)
    assert origin.keys() - {"stage", "task", "params", "seed"} == {
        "python",
        "machine",
        "instruction_set",
        "versions",
        "rom_sha256",
    }
    said = {"no_op_max": 30, "sticky_probability": 0.25, "sticky_unit": "frame"}
    assert origin["params"] == said
    assert len(origin["rom_sha256"]) == 64
    assert {"torch", "numpy", "nes-py"} <= origin["versions"].keys()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    for line in lines:
        if line.startswith("model name"):
            assert line.split(":")[1].strip() not in json.dumps(origin)


def told(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.provenance", *words]
    environment = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )


def test_it_prints_a_few_lines_and_all_as_json(
    model: Path, tmp_path: Path, recorded: str
) -> None:
    lines = told(tmp_path, "models/bc").stdout.splitlines()
    assert lines == [
        "models/bc",
        f"  commit          {recorded}",
        "  stage           train_rl",
        "  task            1-1",
        "  seed            1",
        "  instructions    MKL_CBWR AVX2",
        "  versions        numpy 2.1.0, torch 2.6.0",
        f"  weights sha256  {'0' * 64}",
    ]
    found = json.loads(told(tmp_path, "models/bc", "--json").stdout)
    assert found["origin"] == ORIGIN
    assert found["recorded_by_git_commit"] == recorded


def test_a_folder_of_models_is_answered_with_their_names(
    model: Path, tmp_path: Path
) -> None:
    write_json(tmp_path / "models/mario/1-1/ppo-1/policy.json", {})
    names = ["models/bc", "models/mario/1-1/ppo-1"]
    done = told(tmp_path, "models")
    assert done.stdout.split() == ["models", "holds", "models:", *names]
    assert json.loads(told(tmp_path, "models", "--json").stdout)["models"] == names


def test_a_folder_without_a_model_ends_in_one_line(tmp_path: Path) -> None:
    done = told(tmp_path, "models/nope")
    assert done.returncode != 0
    assert done.stderr.startswith("error: models/nope: no model (policy.json)")
    assert len(done.stderr.splitlines()) == 1


def test_what_a_terminal_would_act_on_is_escaped(model: Path, tmp_path: Path) -> None:
    write_json(model / "policy.json", {"origin": {"stage": "a\x1b[2J\nb"}})
    assert r"a\x1b[2J\nb" in told(tmp_path, "models/bc").stdout


@pytest.mark.parametrize(
    "content", [None, "", "[", "[]", "{}", '{"origin": [1]}', "[" * 100_000]
)
def test_what_is_no_model_is_refused(model: Path, content: str | None) -> None:
    (model / "policy.json").unlink()
    if content is not None:
        (model / "policy.json").write_text(content)
    with pytest.raises(InputError, match=r"policy\.json"):
        describe(model, model)
