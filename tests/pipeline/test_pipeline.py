"""The pipeline as a whole: what DVC does with our stages and parameters."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.pipeline_copy import DVC, copy_repository, environment, write_yaml

ROOT = Path(__file__).parents[2]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A copy of the repository without any results."""
    copy = tmp_path / "copy"
    copy_repository(ROOT, copy)
    return copy


@pytest.fixture
def precious(workspace: Path) -> list[Path]:
    """What a stage would delete first that must not run."""
    paths = [
        workspace / "data/demos/mario/1-1.jsonl",
        workspace / "models/mario/1-1/teacher-1/policy.json",
        workspace / "data/episodes/mario/1-1/random/default.csv",
    ]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.write_text("precious")
    return paths


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("pretrain_bc", "update", 1, "params.yaml: pretrain_bc has unknown ['update']"),
        (
            "noise",
            "sticky_probability",
            1.5,
            "params.yaml: noise.sticky_probability = 1.5: input should be less than 1",
        ),
        (
            "collect_demos",
            "episodes",
            "many",
            "params.yaml: collect_demos.episodes = 'many': write a whole number",
        ),
        (
            "run",
            "recipes",
            ["bc-ppo", "x; touch owned"],
            "params.yaml: run.recipes.1 = 'x; touch owned': write letters, digits",
        ),
    ],
)
def test_a_bad_parameter_ends_the_run_in_one_line_before_anything_is_deleted(
    workspace: Path,
    precious: list[Path],
    document: dict[str, Any],
    section: str,
    key: str,
    value: object,
    message: str,
) -> None:
    document[section][key] = value
    write_yaml(workspace / "params.yaml", document)

    done = run(workspace, *DVC, "repro")

    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert errors[0].endswith("(git checkout params.yaml takes back what was changed)")
    assert "Traceback" not in done.stderr
    assert [path.read_text() for path in precious] == ["precious"] * 3
    assert not (workspace / "owned").exists()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_told_before_anything_is_deleted(
    workspace: Path, precious: list[Path], document: dict[str, Any]
) -> None:
    write_yaml(workspace / "params.yaml", document | {"device": "cuda"})
    done = run(workspace, *DVC, "repro")
    assert done.returncode != 0
    assert "device = 'cuda': torch finds no GPU here: use cpu or auto" in done.stderr
    assert [path.read_text() for path in precious] == ["precious"] * 3


def test_a_value_in_place_of_a_list_is_told_before_dvc_reads_it(
    workspace: Path, document: dict[str, Any]
) -> None:
    """By make repro. If the second half fails, DVC tells it itself."""
    document["run"]["seeds"] = 2
    write_yaml(workspace / "params.yaml", document)
    done = run(workspace, sys.executable, "-m", "tools.repro")
    assert done.stderr == "error: params.yaml: run.seeds = 2: write a list, as [2]\n"
    assert "'Value' object is not iterable" in run(workspace, *DVC, "repro").stderr


@pytest.fixture
def run_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, document: dict[str, Any]
) -> Callable[..., int | str | None]:
    """Run a stage in a folder with params.yaml alone; return what it exits with."""
    write_yaml(tmp_path / "params.yaml", document)
    monkeypatch.chdir(tmp_path)

    def run_stage(name: str, *arguments: str) -> int | str | None:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(ROOT / "stages" / name), run_name="__main__")
        return exit_.value.code

    return run_stage


@pytest.mark.parametrize(
    "stage", sorted(path.name for path in ROOT.glob("stages/*.py"))
)
def test_every_stage_says_what_it_reads_and_writes(
    run_stage: Callable, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_stage(stage, "--help") == 0
    text = capsys.readouterr().out
    assert "Reads" in text
    assert "rites" in text


@pytest.mark.parametrize(
    ("stage", "arguments", "message"),
    [
        (
            "train_rl.py",
            "--task 1-1 --recipe teacher --seed 1",
            "error: data/demos/mario/1-1.jsonl: cannot be read: ",
        ),
        (
            "train_rl.py",
            "--task 1-1 --recipe bc-ppo --seed 1",
            "error: models/mario/1-1/starts/bc-ppo",
        ),
        (
            "pretrain_bc.py",
            "--task 1-1",
            "error: models/mario/1-1/teacher-1",
        ),
        (
            "choose_start.py",
            "--task 1-1 --recipe bc-ppo",
            "error: models/mario/1-1/bc",
        ),
        (
            "record_video.py",
            "--task 1-1 --agent bc-ppo-1",
            "error: data/episodes/mario/1-1/bc-ppo-1/default.csv: cannot be read: No ",
        ),
        (
            "compare.py",
            "",
            "error: data/episodes/mario/1-1/random/default.csv: cannot ",
        ),
        (
            "evaluate.py",
            "--task 1-1 --agent bc",
            "error: no agent 'bc': models/mario/1-1/bc is not there; params.yaml ",
        ),
        (
            "evaluate.py",
            "--task 1-1 --agent rl",
            "error: no agent 'rl': models/mario/1-1/rl is not there; params.yaml makes "
            "random, script, bc, bc-ppo-1",
        ),
        (
            "evaluate.py",
            "--task 9-1 --agent bc",
            "error: no task '9-1': params.yaml knows 1-1, ",
        ),
        (
            "train_rl.py",
            "--task 1-1 --recipe sac --seed 1",
            "error: no recipe 'sac': params.yaml knows teacher, bc-ppo, ",
        ),
        (
            "train_rl.py",
            "--task 1-1 --recipe ppo --seed 1000",
            "error: --seed must be 0 to 999, got 1000",
        ),
    ],
)
def test_a_missing_input_is_named_in_one_line(
    run_stage: Callable, stage: str, arguments: str, message: str, tmp_path: Path
) -> None:
    error = run_stage(stage, *arguments.split())
    assert isinstance(error, str)
    assert error.startswith(message)
    assert len(error.splitlines()) == 1
    # A lock may stay, an output may not.
    names = {path.name for path in tmp_path.iterdir()}
    assert names - {".checkpoints"} == {"params.yaml"}


@pytest.mark.slow
def test_a_stage_that_dvc_runs_notes_its_cost(workspace: Path) -> None:
    path = workspace / "metrics/costs/check_params.json"
    path.unlink(missing_ok=True)
    done = run(workspace, *DVC, "repro", "check_params")
    assert done.returncode == 0, done.stderr
    cost = json.loads(path.read_text())
    assert cost["cpu_seconds"] > 0
    assert 0 < cost["seconds"] < 600
    # It is never the same, so DVC must not know it.
    assert "costs" not in (workspace / "dvc.lock").read_text()
