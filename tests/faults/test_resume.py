"""A pipeline that is killed again and again ends in the bytes of one that is not."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import (  # pyright: ignore[reportMissingImports]
    DVC,
    REPRO,
    ROOT,
    begin,
    contents,
    error_line,
    must,
    run_in,
)

from tools.pipeline_copy import copy_repository, write_yaml
from warpzone.core.yaml import read_yaml

KILLS = 25
LAST = "train_rl@1-1-bc-ppo-1"
CLONE = "pretrain_bc@1-1"
TEACHER = "train_teacher@1-1"
QUEUE = (sys.executable, "-m", "tools.experiments")
TRIES = "plots/train_rl/mario/1-1/second-tries/bc-ppo-1.csv"
CLONES = ".checkpoints/pretrain_bc-mario-1-1-*.checkpoint"

TRAINING = {
    "total_timesteps": 1024,
    "n_envs": 2,
    "n_steps": 64,
    "batch_size": 64,
    "n_epochs": 2,
    "critic_warmup": 128,
    "restart_probability": 0.5,
    "log_freq": 128,
    "eval_freq": 256,
    "n_eval_episodes": 2,
}

ROWS = {name: TRAINING[name] for name in ("log_freq", "eval_freq", "n_eval_episodes")}
VALUES = {"total_timesteps": 1024, "n_envs": 2, "buffer_size": 512, "batch_size": 16}
VALUES |= {"learning_starts": 64, "gradient_steps": 2, "target_update_interval": 64}
OTHERS: dict[str, Any] = {
    "recurrent-ppo": TRAINING,
    "a2c": {"total_timesteps": 2048, "n_envs": 2, "critic_warmup": 128} | ROWS,
    "dqn": VALUES | ROWS,
    "qrdqn": VALUES | ROWS,
    "demo-dqn": VALUES | ROWS | {"demonstrations": {"updates": 40}},
}
"""Recipes of the other algorithms."""

KILLS_OF_OTHERS = KILLS if os.environ.get("WARPZONE_ALL_KILLS") == "1" else 3
"""With all of them an algorithm takes six minutes."""

SMALL = {
    "seed": 1,
    "device": "cpu",
    "torch_threads": 2,
    "env": "mario",
    "run": {"tasks": ["1-1"], "recipes": ["bc-ppo"], "seeds": [1]},
    "envs": {
        "mario": {
            "kwargs": {
                "emulator": "fceumm",
                "height": 36,
                "width": 36,
                "frame_stack": 1,
                "time_limit": 1000,
                "stuck_limit": 40,
            }
        }
    },
    "collect_demos": {"episodes": 2, "max_tries": 8},
    "recipes": {
        "teacher": {**TRAINING, "cloning": {"updates": 20}},
        "bc-ppo": TRAINING,
        **OTHERS,
    },
    "pretrain_bc": {
        "held_out_share": 0.5,
        "n_envs": 2,
        "episodes": 2,
        "updates": 40,
        "rounds": 4,
        "round_episodes": 2,
        "round_updates": 40,
        "final_updates": 40,
    },
    "record_video": {"agents": ["bc-ppo-1"]},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline at small size, with its demonstrations. To be copied."""
    folder = tmp_path_factory.mktemp("prepared") / "repo"
    copy_repository(ROOT, folder, SMALL)
    done = run_in(folder, *DVC, "repro", "collect_demos@1-1", timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


def copy_of(prepared: Path, name: str) -> Path:
    copy = prepared.parent / name
    shutil.copytree(prepared, copy, symlinks=True)
    return copy


def is_at_work(folder: Path) -> bool:
    """Whether a stage holds the lock of its checkpoints."""
    holders = [lock.read_text() for lock in folder.glob(".checkpoints/*.lock")]
    return any(psutil.pid_exists(int(holder)) for holder in holders if holder.strip())


def kill(dvc: subprocess.Popen) -> None:
    """Kill dvc and wait for its stage to end, too, which it does by itself."""
    below = psutil.Process(dvc.pid).children(recursive=True)
    dvc.kill()
    dvc.wait()
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not alive


def results(folder: Path) -> dict[str, bytes]:
    found = {"dvc.lock": (folder / "dvc.lock").read_bytes()}
    for part in ("models", "metrics", "plots"):
        for name, content in contents(folder / part).items():
            # What a run cost; no output.
            if "costs/" not in name:
                found[f"{part}/{name}"] = content
    return found


@pytest.fixture(scope="module")
def whole(prepared: Path) -> dict[str, bytes]:
    """What a run that nobody ends leaves."""
    folder = copy_of(prepared, "whole")
    done = run_in(folder, *DVC, "repro", LAST, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "resumes" not in done.stderr
    found = results(folder)
    for agent in ("teacher-1", "bc", "bc-ppo-1"):
        assert f"models/mario/1-1/{agent}/policy.safetensors" in found
    header, *rows = found[TRIES].decode().splitlines()
    assert header == "level,progress,second_tries"
    assert rows
    return found


def assert_kills_change_nothing(
    begun: Callable[[str], Path],
    command: Sequence[str],
    whole: dict[str, bytes],
    rng: random.Random,
    wanted: int,
) -> None:
    """Kill a command at random moments, and run it again, until it ends.

    Args:
        begun: Makes a folder to run in, by a name.
        command: What is run.
        whole: What it leaves where nobody ends it.
        rng: Decides when it is killed.
        wanted: Kills; once there are as many it is left to end, once at least.
    """
    kills = ends = 0
    folder = begun("0")
    while kills < wanted or ends == 0:
        running = begin(folder, *command)
        # It takes a while to import what it needs, and nothing can be lost by then.
        while running.poll() is None and not is_at_work(folder):
            time.sleep(0.02)
        # Long enough to compile, to replay and to get to the next checkpoint.
        until = time.monotonic() + rng.uniform(0, 10)
        if kills == wanted:
            running.wait()
        while running.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        if running.poll() is None:
            kill(running)
            kills += 1
            continue
        assert running.returncode == 0
        assert results(folder) == whole
        # Nothing is left to resume from.
        assert not list(folder.glob(".checkpoints/*.checkpoint"))
        ends += 1
        folder = begun(str(ends))


@pytest.mark.slow
def test_25_kills_change_no_byte(prepared: Path, whole: dict[str, bytes]) -> None:
    def begun(name: str) -> Path:
        return copy_of(prepared, f"killed{name}")

    command = (*REPRO, LAST)
    assert_kills_change_nothing(begun, command, whole, random.Random(5), KILLS)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", OTHERS)
def test_kills_of_any_algorithm_change_no_byte(prepared: Path, recipe: str) -> None:
    cell = ("--task", "1-1", "--recipe", recipe)
    train = ("python", "stages/train_rl.py", *cell, "--seed", "1")

    def begun(name: str) -> Path:
        folder = copy_of(prepared, f"{recipe}-{name}")
        must(folder, "python", "stages/choose_start.py", *cell)
        return folder

    must(folder := begun("whole"), *train)
    whole = results(folder)
    assert f"models/mario/1-1/{recipe}-1/policy.safetensors" in whole
    rng = random.Random(recipe)
    assert_kills_change_nothing(begun, train, whole, rng, KILLS_OF_OTHERS)


@pytest.fixture(scope="module")
def killed(prepared: Path) -> Path:
    """A pipeline that was killed after the first round of the clone. To be copied."""
    folder = copy_of(prepared, "killed")
    running = begin(folder, *DVC, "repro", CLONE)
    while not list(folder.glob(CLONES)):
        assert running.poll() is None
        time.sleep(0.05)
    kill(running)
    return folder


@pytest.fixture
def ended(killed: Path, tmp_path: Path) -> Path:
    return copy_of(killed, tmp_path.name)


@pytest.mark.slow
def test_only_what_was_lost_is_done_again(ended: Path, whole: dict[str, bytes]) -> None:
    done = run_in(ended, *DVC, "repro", CLONE, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "pretrain_bc: resumes" in done.stderr
    lines = done.stderr.splitlines()
    assert not [line for line in lines if line.startswith("playing, round 0")]
    assert [line for line in lines if line.startswith("replaying, round 0")]
    assert [line for line in lines if line.startswith("playing, round 4")]
    model = "models/mario/1-1/bc/policy.safetensors"
    assert (ended / model).read_bytes() == whole[model]


@pytest.mark.slow
def test_other_params_begin_anew(ended: Path) -> None:
    params = ended / "params.yaml"
    text = params.read_text()
    params.write_text(text.replace("final_updates: 40", "final_updates: 41"))
    assert params.read_text() != text
    done = run_in(ended, *DVC, "repro", CLONE, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "resumes" not in done.stderr
    # That of the old values is still there for whoever goes back to them.
    assert len(list(ended.glob(CLONES))) == 1


@pytest.mark.slow
def test_other_params_that_a_stage_does_not_use_change_nothing(ended: Path) -> None:
    params = read_yaml(ended / "params.yaml")
    params["record_video"]["gif_fps"] += 1
    params["recipes"]["bc-ppo"]["patience"] += 1
    write_yaml(ended / "params.yaml", params)
    done = run_in(ended, *DVC, "repro", CLONE, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "pretrain_bc: resumes" in done.stderr


@pytest.mark.slow
def test_a_queued_experiment_that_was_killed_resumes_when_queued_again(
    prepared: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    folder = copy_of(prepared, tmp_path.name)
    must(folder, "git", "add", "--all")
    must(folder, "git", "commit", "-qm", "Demonstrations")
    must(folder, *DVC, "exp", "run", "--queue", "--name", "first", TEACHER)
    running = begin(folder, *QUEUE)
    while not list(folder.glob(".checkpoints/train_rl-*.checkpoint")):
        assert running.poll() is None
        time.sleep(0.05)
    for process in psutil.process_iter(["cmdline", "cwd"]):
        is_ours = str(process.info["cwd"]).startswith(str(folder))
        if is_ours and "exec-run" in process.info["cmdline"]:
            process.kill()
    assert running.wait(timeout=300) == 1
    must(folder, *DVC, "exp", "run", "--queue", "--name", "second", TEACHER)
    done = run_in(folder, *QUEUE, timeout=600)
    assert "experiments with a result: 1, without: 1" in done.stdout
    said = must(folder, *DVC, "queue", "logs", "second")
    assert "train_rl teacher-1: resumes" in said
    assert not list(folder.glob(".checkpoints/*.checkpoint"))
    refs = must(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps")
    [ref] = (ref for ref in refs.splitlines() if ref.endswith("/second"))
    lock = yaml.safe_load(must(folder, "git", "show", f"{ref}:dvc.lock"))
    expected = yaml.safe_load(whole["dvc.lock"])
    assert lock["stages"][TEACHER] == expected["stages"][TEACHER]


@pytest.mark.slow
def test_a_damaged_checkpoint_is_told_and_not_used(ended: Path) -> None:
    [path] = ended.glob(CLONES)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    done = run_in(ended, "python", "stages/pretrain_bc.py", "--task", "1-1")
    assert "checkpoint: is damaged: delete it to begin anew" in error_line(done)


@pytest.mark.slow
def test_a_second_trainer_is_refused_and_told_the_first(prepared: Path) -> None:
    folder = copy_of(prepared, "twice")
    # The first one must still be at work when the second one has started.
    params = read_yaml(folder / "params.yaml")
    params["recipes"]["teacher"]["cloning"]["updates"] = 100_000
    write_yaml(folder / "params.yaml", params)
    cell = ("--task", "1-1", "--recipe", "teacher", "--seed", "1")
    stage = ("python", "stages/train_rl.py", *cell)
    first = begin(folder, *stage)
    lock = folder / ".checkpoints/train_rl-mario-1-1-teacher-1.lock"
    while not (lock.exists() and lock.read_text()):
        assert first.poll() is None
        time.sleep(0.05)
    try:
        told = error_line(run_in(folder, *stage))
        assert f"process {first.pid} is at work here" in told
    finally:
        first.kill()
        first.wait()
