"""Queued experiments that end without a result are told by `make queue`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import (  # pyright: ignore[reportMissingImports]
    DVC,
    environment,
    error_line,
    must,
    run_in,
    written_pid,
)

from tools import experiments

QUEUE = (sys.executable, "-m", "tools.experiments")

# Says who it is, and does not end if that is its word.
STAGE = """\
import os
import time
from pathlib import Path
word = Path("word.txt").read_text()
Path({pids!r}, word).write_text(str(os.getpid()))
if word == "sleep":
    time.sleep(600)
Path("models").mkdir(exist_ok=True)
Path("models/one.txt").write_text(word)
Path("table.csv").write_text(word)
Path("metrics.json").write_text('{{"a": 2}}')
"""


@pytest.fixture
def grid(repo: Path) -> Iterator[Path]:
    """A repository to queue experiments in."""
    (repo.parent / "pids").mkdir()
    (repo / "make.py").write_text(STAGE.format(pids=str(repo.parent / "pids")))
    must(repo, "git", "commit", "-qam", "Another stage")
    yield repo
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(repo):
                process.kill()


def enqueue(repo: Path, name: str, word: str) -> None:
    (repo / "word.txt").write_text(word)
    must(repo, *DVC, "exp", "run", "--queue", "--name", name)
    must(repo, "git", "checkout", "-q", "word.txt")


def start(repo: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        QUEUE,
        cwd=repo,
        env=environment(repo),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_stage(repo: Path) -> psutil.Process:
    """Return the stage that sleeps."""
    return psutil.Process(written_pid(repo.parent / "pids/sleep"))


def above(process: psutil.Process, word: str) -> psutil.Process:
    """Find the process above another that has a word in its command line."""
    return next(parent for parent in process.parents() if word in parent.cmdline())


def status(repo: Path, name: str) -> str:
    """What dvc says of an experiment."""
    lines = must(repo, *DVC, "queue", "status").splitlines()
    (words,) = (line.split() for line in lines if f" {name} " in line)
    return words[-1]


@pytest.mark.slow
def test_a_killed_worker_is_told(grid: Path) -> None:
    enqueue(grid, "first", "sleep")
    enqueue(grid, "second", "short")
    running = start(grid)
    stage = wait_for_stage(grid)
    run = above(stage, "exec-run")
    above(stage, "queue-worker").kill()
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 1
    first, second = errors.splitlines()
    assert first.startswith("error: first: its worker was killed; ")
    assert f"process {run.pid} still runs it" in first
    assert second == "error: second: still queued, no worker is left: make queue"

    # What it says to do helps.
    task = first.split("dvc queue kill ")[1].split(",")[0]
    must(grid, *DVC, "queue", "kill", task)
    psutil.wait_procs([run], timeout=30)
    must(grid, *DVC, "queue", "remove", "second")
    assert status(grid, "first") == "Running"
    line = error_line(run_in(grid, *QUEUE))
    assert line == (
        "error: first: no result, its worker was killed: see dvc queue logs "
        f"{task}, then dvc queue remove {task} and queue it again"
    )
    assert status(grid, "first") == "Failed"
    assert "Reproducing experiment 'first'" in must(grid, *DVC, "queue", "logs", task)
    must(grid, *DVC, "queue", "remove", task)
    assert must(grid, *QUEUE) == "experiments with a result: 0, without: 0\n"


@pytest.mark.slow
def test_what_an_earlier_worker_left_behind_is_told(grid: Path) -> None:
    enqueue(grid, "first", "sleep")
    must(grid, "sh", "-c", f"{sys.executable} -m dvc queue start > start.log 2>&1")
    stage = wait_for_stage(grid)
    run = above(stage, "exec-run")
    os.killpg(os.getpgid(run.pid), signal.SIGKILL)
    psutil.wait_procs([run, stage], timeout=30)
    # If this fails, dvc has been mended.
    assert status(grid, "first") == "Running"
    for reason in ("its worker was killed", "it failed or was killed"):
        line = error_line(run_in(grid, *QUEUE))
        assert line.startswith(f"error: first: no result, {reason}: ")
        assert status(grid, "first") == "Failed"


@pytest.mark.slow
def test_a_killed_run_is_told_and_the_others_go_on(grid: Path) -> None:
    enqueue(grid, "first", "sleep")
    enqueue(grid, "second", "short")
    running = start(grid)
    above(wait_for_stage(grid), "exec-run").kill()
    said, errors = running.communicate(timeout=300)
    assert running.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith("error: first: no result, it failed or was killed: ")
    assert said.endswith("experiments with a result: 1, without: 1\n")
    assert must(grid, "git", "for-each-ref", "refs/exps/*/*/second")
    assert not must(grid, "git", "for-each-ref", "refs/exps/*/*/first")


@pytest.mark.slow
def test_a_result_lost_to_another_of_the_same_name_is_told(grid: Path) -> None:
    enqueue(grid, "first", "short")
    enqueue(grid, "first", "other")
    enqueue(grid, "second", "third")
    done = run_in(grid, *QUEUE, timeout=300)
    line = error_line(done)
    assert "its result was lost" in line
    assert "queue it again under a new name" in line
    assert done.stdout.endswith("experiments with a result: 2, without: 1\n")
    # If this fails, dvc has been mended.
    assert must(grid, *DVC, "queue", "status").count("Success") == 3

    must(grid, "git", "update-ref", "-d", ref_of(grid, "second"))
    errors = run_in(grid, *QUEUE).stderr.splitlines()
    assert len(errors) == 2
    assert errors[1].startswith("error: second: it ran, but git has no refs/exps/")


@pytest.mark.slow
def test_an_experiment_without_a_recording_is_told_before_any_is_run(
    grid: Path,
) -> None:
    (grid / "data/recordings").mkdir(parents=True)
    (grid / "data/recordings/mine.jsonl").touch()
    enqueue(grid, "first", "short")
    line = error_line(run_in(grid, *QUEUE))
    assert line.startswith("error: first: lacks mine.jsonl of data/recordings")
    assert not (grid.parent / "pids/short").exists()
    # What it says to do helps.
    must(grid, "git", "add", "data/recordings")
    assert "lacks mine.jsonl" in error_line(run_in(grid, *QUEUE))
    must(grid, *DVC, "queue", "remove", "first")
    enqueue(grid, "first", "short")
    done = run_in(grid, *QUEUE, timeout=300)
    assert done.stdout.endswith("experiments with a result: 1, without: 0\n")


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_a_number_of_jobs_that_cannot_be_is_told_in_one_line(
    jobs: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tools.experiments", f"--jobs={jobs}"])
    with pytest.raises(SystemExit) as ended:
        experiments.main()
    assert ended.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "argument --jobs: " in line


def ref_of(repo: Path, name: str) -> str:
    refs = must(repo, "git", "for-each-ref", "--format=%(refname)", "refs/exps")
    (ref,) = (ref for ref in refs.splitlines() if ref.endswith(f"/{name}"))
    return ref
