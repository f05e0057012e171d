"""The pipeline as a whole: what DVC does with our stages and parameters."""

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.pipeline_copy import DVC, copy_repository, environment, write_yaml
from warpzone.core.yaml import read_yaml

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


@pytest.mark.parametrize(
    ("section", "key", "name", "value", "message"),
    [
        (
            "pretrain_bc",
            "updates",
            "update",
            1,
            "params.yaml: pretrain_bc lacks ['updates'] and has unknown ['update']",
        ),
        (
            "noise",
            "sticky_probability",
            "sticky_probability",
            1.5,
            "params.yaml: noise.sticky_probability = 1.5: input should be less than 1",
        ),
        (
            "collect_demos",
            "episodes",
            "episodes",
            "many",
            "params.yaml: collect_demos.episodes = 'many': input should be a valid",
        ),
        (
            "runs",
            "init",
            "init",
            ["bc", "x; touch owned"],
            "params.yaml: runs.init.1 = 'x; touch owned': input should be 'bc' or",
        ),
    ],
)
def test_a_bad_parameter_ends_the_run_in_one_line_before_anything_is_deleted(
    workspace: Path, section: str, key: str, name: str, value: object, message: str
) -> None:
    demos = workspace / "data" / "demos.jsonl"
    demos.write_text("precious")
    params = read_yaml(workspace / "params.yaml")
    del params[section][key]
    params[section][name] = value
    write_yaml(workspace / "params.yaml", params)

    done = run(workspace, *DVC, "repro")

    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in done.stderr
    assert demos.read_text() == "precious"
    assert not (workspace / "owned").exists()


@pytest.fixture
def run_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int | str | None]:
    """Run a stage in a folder with params.yaml alone; return what it exits with."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
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
        ("train_teacher.py", [], "error: data/demos.jsonl: cannot be read:"),
        ("pretrain_bc.py", [], "error: models/teacher/policy.json: cannot be read:"),
        ("record_video.py", [], "error: data/episodes/bc-seed1.csv"),
        ("compare.py", [], "error: data/episodes/random.csv"),
        ("train_rl.py", ["--init", "bc", "--seed", "1"], "error: models/bc"),
        ("evaluate.py", ["bc"], "error: models/bc"),
        ("evaluate.py", ["bc-seed1"], "error: models/rl/bc-seed1"),
        ("evaluate.py", ["rl"], "error: no agent 'rl': params.yaml knows random, bc, "),
    ],
)
def test_a_missing_input_is_named_in_one_line(
    run_stage: Callable, stage: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    error = run_stage(stage, *arguments)
    assert isinstance(error, str)
    assert error.startswith(message)
    assert len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


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
