"""Where a model came from can be told, and does not make equal models differ."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from warpzone.agents.provenance import circumstances, deciding_facts, describe, note
from warpzone.core.errors import InputError
from warpzone.core.files import write_json

ROOT = Path(__file__).parents[2]


def git(folder: Path, *words: str) -> str:
    user = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    command = ["git", "-C", str(folder), *user, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "bc"
    write_json(
        folder / "policy.json", {"origin": {"seed": 1}, "weights_sha256": "0" * 64}
    )
    (folder / "policy.safetensors").write_bytes(b"weights")
    git(tmp_path, "init", "-q")
    return folder


def test_the_commit_that_recorded_a_model_is_found_by_its_content(
    model: Path, tmp_path: Path
) -> None:
    # As dvc computes it.
    from tools.storage import listing_of, md5

    (tmp_path / "listing").write_bytes(listing_of(model))
    name = f"{md5(tmp_path / 'listing')}.dir"
    (tmp_path / "dvc.lock").write_text("other\n")
    git(tmp_path, "add", "dvc.lock")
    git(tmp_path, "commit", "-qm", "One")
    assert describe(model, tmp_path)["recorded_by_git_commit"] is None
    (tmp_path / "dvc.lock").write_text(f"md5: {name}\n")
    git(tmp_path, "commit", "-qam", "Two")
    recorded = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "dvc.lock").write_text(f"md5: {name}\nmore\n")
    git(tmp_path, "commit", "-qam", "Three")
    assert describe(model, tmp_path)["recorded_by_git_commit"] == recorded


def test_the_processor_is_noted_beside_the_model_once(
    model: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in model.iterdir()}
    note(model, tmp_path)
    assert {path: path.read_bytes() for path in model.iterdir()} == before
    [noted] = (model.parent / "provenance").iterdir()
    noted.write_text('{"cpu": "the first"}')
    note(model, tmp_path)
    assert describe(model, tmp_path)["made_on"] == {"cpu": "the first"}
    (model / "policy.safetensors").write_bytes(b"others")
    assert describe(model, tmp_path)["made_on"] is None


def test_circumstances_name_commit_processor_and_packages() -> None:
    found = circumstances(ROOT)
    assert len(found["git_commit"]) == 40
    assert found["cpu"]["cores"] >= 1
    assert found["packages"]["torch"]


def test_what_decides_the_bytes_names_no_processor() -> None:
    facts = deciding_facts(("torch",))
    assert set(facts) == {"python", "machine", "instruction_set", "versions"}
    assert "model" not in json.dumps(facts)


def test_it_prints_what_is_known(model: Path) -> None:
    command = [sys.executable, "-m", "warpzone.agents.provenance", str(model)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert json.loads(done.stdout)["origin"] == {"seed": 1}


@pytest.mark.parametrize("content", [None, "", "[", "[]", "{}", "[" * 100_000])
def test_what_is_no_model_is_refused(model: Path, content: str | None) -> None:
    (model / "policy.json").unlink()
    if content is not None:
        (model / "policy.json").write_text(content)
    with pytest.raises(InputError, match=r"policy\.json"):
        describe(model, model)
