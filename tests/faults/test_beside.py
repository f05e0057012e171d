"""Commands beside a running one: refused with its pid, or they do not meet."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import (  # pyright: ignore[reportMissingImports]
    DVC,
    REPRO,
    ROOT,
    STORAGE,
    begin,
    contents,
    error_line,
    must,
    outputs,
    run_in,
    set_remote,
    use_server,
    written_pid,
)

from tools.s3 import serve

pytestmark = pytest.mark.slow

DVC_REPRO = (*DVC, "repro")
EXP_RUN = (*DVC, "exp", "run")

# Has written half of its output, and waits.
HALF = """\
import os, time
from pathlib import Path
Path("models").mkdir(exist_ok=True)
Path("models/half").write_text("half")
Path("pid").write_text(str(os.getpid()))
while not Path("late").exists():
    time.sleep(0.05)
"""


@pytest.fixture
def waiting(repo: Path) -> Path:
    """A repository whose stage waits when it has written half."""
    (repo / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    rest = (
        (repo / "make.py")
        .read_text()
        .replace("parents=True", "parents=True, exist_ok=True")
    )
    (repo / "make.py").write_text(HALF + rest)
    set_remote(repo, str(repo.parent / "remote"))
    must(repo, "git", "add", "-A")
    must(repo, "git", "commit", "-qm", "A stage that waits")
    return repo


@contextmanager
def running(repo: Path, *command: str) -> Iterator[subprocess.Popen]:
    """Run the pipeline up to its half; in the end, let it end well."""
    pipeline = begin(repo, *command)
    try:
        written_pid(repo / "pid", pipeline)
        yield pipeline
        assert pipeline.poll() is None
        (repo / "late").touch()
        assert pipeline.wait(60) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(pipeline.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "first", [REPRO, DVC_REPRO, EXP_RUN], ids=["make repro", "dvc repro", "dvc exp run"]
)
def test_our_commands_are_refused_while_a_stage_runs(
    waiting: Path, first: tuple[str, ...]
) -> None:
    with running(waiting, *first) as pipeline:
        lock = (waiting / "dvc.lock").read_bytes()
        for command in (
            (*STORAGE, "verify"),
            (*STORAGE, "pull"),
            (*STORAGE, "push"),
            REPRO,
        ):
            error = error_line(run_in(waiting, *command))
            assert f"process {pipeline.pid} is at work here" in error
            assert contents(waiting / "models")["half"] == b"half"
        assert (waiting / "dvc.lock").read_bytes() == lock
        assert not (waiting.parent / "remote").exists()
    assert "all are whole" in must(waiting, *STORAGE, "verify")


@pytest.mark.parametrize(
    "second",
    [DVC_REPRO, (*EXP_RUN, "-S", "seed=9")],
    ids=lambda words: " ".join(words[3:]),
)
def test_dvc_refuses_a_second_run(waiting: Path, second: tuple[str, ...]) -> None:
    with running(waiting, *REPRO) as pipeline:
        done = run_in(waiting, *second)
        assert done.returncode != 0
        assert str(pipeline.pid) in done.stderr
    assert "all are whole" in must(waiting, *STORAGE, "verify")


@pytest.mark.parametrize(
    "second",
    ["gc --force --workspace", "status", "push", "checkout --force", "commit --force"],
)
def test_what_dvc_does_not_refuse_loses_nothing(waiting: Path, second: str) -> None:
    with running(waiting, *REPRO):
        run_in(waiting, *DVC, *second.split())
    found = outputs(waiting)
    found.pop("half", None)
    word = (waiting / "word.txt").read_text()
    assert found["0.txt"].decode() == f"{word}0" * 40
    assert len(found) == 14
    assert "all are whole" in must(waiting, *STORAGE, "verify")


def test_a_run_waits_for_a_dvc_command_that_holds_the_lock(waiting: Path) -> None:
    hold = "import sys; from dvc.repo import Repo, lock_repo\n"
    hold += "with Repo() as r, lock_repo(r): open('held', 'w'); sys.stdin.read()"
    with running(waiting, *REPRO) as pipeline:
        holder = subprocess.Popen(
            [DVC[0], "-c", hold], cwd=waiting, stdin=subprocess.PIPE, env=os.environ
        )
        while not (waiting / "held").exists():
            assert holder.poll() is None
        (waiting / "late").touch()
        # DVC alone gives up after three seconds, and the stage is lost.
        time.sleep(5)
        assert pipeline.poll() is None
        error = error_line(run_in(waiting, *STORAGE, "verify"))
        assert f"process {pipeline.pid} is at work here" in error
        holder.communicate(timeout=60)
    assert "all are whole" in must(waiting, *STORAGE, "verify")


@pytest.mark.parametrize("first", ["push", "pull", "verify"])
def test_one_of_our_commands_at_a_time_moves_objects(repo: Path, first: str) -> None:
    (repo / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    with serve(repo.parent / "s3") as server:
        use_server(repo, server)
        # The server stalls, and so does whoever asks it.
        os.kill(server.process.pid, signal.SIGSTOP)
        stalled = begin(repo, *STORAGE, first)
        lock = repo / ".dvc/tmp/repro.lock"
        while not (lock.exists() and lock.read_text()):
            assert stalled.poll() is None
        for command in (*((*STORAGE, name) for name in ("push", "verify")), REPRO):
            error = error_line(run_in(repo, *command))
            assert f"process {stalled.pid} is at work here" in error
        assert stalled.wait(60) != 0


def test_a_dvc_command_that_holds_the_lock_is_named(repo: Path) -> None:
    hold = "import sys; from dvc.repo import Repo, lock_repo\n"
    hold += "with Repo() as r, lock_repo(r): open('held', 'w'); sys.stdin.read()"
    holder = subprocess.Popen(
        [DVC[0], "-c", hold], cwd=repo, stdin=subprocess.PIPE, env=os.environ
    )
    while not (repo / "held").exists():
        assert holder.poll() is None
    error = error_line(run_in(repo, *STORAGE, "verify"))
    assert f"process {holder.pid} is at work here" in error
    holder.communicate(timeout=60)
    assert "all are whole" in must(repo, *STORAGE, "verify")


def test_a_queued_experiment_beside_a_run_meets_it_nowhere(waiting: Path) -> None:
    text = (waiting / "make.py").read_text().removeprefix(HALF)
    whole = (waiting / "make.py").read_text()
    (waiting / "make.py").write_text(text)
    (waiting / "word.txt").write_text("queued")
    must(waiting, *EXP_RUN, "--queue", "--name", "queued")
    must(waiting, "git", "checkout", "-q", ".")
    assert (waiting / "make.py").read_text() == whole
    queue = (DVC[0], "-m", "tools.experiments")
    with running(waiting, *REPRO):
        done = run_in(waiting, *queue, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "experiments with a result: 1, without: 0" in done.stdout
    assert "word0" in (waiting / "models/0.txt").read_text()
    assert "all are whole" in must(waiting, *STORAGE, "verify")


@pytest.fixture
def with_venv(repo: Path) -> Path:
    """A repository with a .venv that requirements.lock no longer fits."""
    for name in ("tools", "warpzone", ".venv/bin"):
        (repo / name).mkdir(parents=True)
    shutil.copy(ROOT / "tools/setup_venv.sh", repo / "tools")
    shutil.copy(ROOT / "Makefile", repo)
    (repo / ".venv/bin/python").touch()
    (repo / "requirements.lock").write_text("# another\n")
    return repo


@pytest.mark.parametrize("command", [("venv",), ("clean",), ("verify",)])
def test_nobody_replaces_the_venv_of_a_running_command(
    with_venv: Path, command: tuple[str, ...]
) -> None:
    (with_venv / ".dvc/tmp").mkdir(exist_ok=True)
    hold = (
        "import fcntl, os, sys; f = open('.dvc/tmp/repro.lock', 'a+')\n"
        "fcntl.flock(f, fcntl.LOCK_EX); f.write(f'{os.getpid()}\\n'); f.flush()\n"
        "open('held', 'w'); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [DVC[0], "-c", hold], cwd=with_venv, stdin=subprocess.PIPE
    )
    while not (with_venv / "held").exists():
        assert holder.poll() is None
    done = run_in(with_venv, "make", *command)
    assert done.returncode != 0
    assert f"error: process {holder.pid} uses .venv" in done.stderr
    assert (with_venv / ".venv/bin/python").exists()
    holder.communicate(timeout=60)
    if command == ("clean",):
        must(with_venv, "make", "clean")
        assert not (with_venv / ".venv").exists()
