"""Whatever ends dvc, its stage ends too; and two runs do not meet."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import (  # pyright: ignore[reportMissingImports]
    DVC,
    begin,
    environment,
    must,
    run_in,
    written_pid,
)

from warpzone.core.errors import InputError
from warpzone.core.files import locked

# A stage that never ends, and says who it is. The loop stands for a trainer.
SLEEPER = """\
import os, time
from pathlib import Path
from warpzone.core.stage import run_stage
def main():
    Path("pid").write_text(str(os.getpid()))
    time.sleep(600)
run_stage(main)
"""

SIGNALS = [
    signal.SIGINT,
    signal.SIGTERM,
    # As SIGTERM.
    pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    signal.SIGKILL,
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of one stage that sleeps. To be copied."""
    folder = tmp_path_factory.mktemp("prepared") / "repo"
    folder.mkdir()
    (folder / "params.yaml").write_text("{}")
    (folder / "sleep.py").write_text(SLEEPER)
    (folder / "dvc.yaml").write_text(
        "stages: {sleep: {cmd: python sleep.py, deps: [sleep.py], outs: [x]}}\n"
    )
    must(folder, "git", "init", "-q")
    must(folder, *DVC, "init", "-q")
    return folder


@pytest.fixture
def sleeper(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "repo"))


def start(folder: Path, shell: str) -> tuple[subprocess.Popen, int]:
    """Start the pipeline; return it, and the pid of its stage."""
    running = begin(folder, *DVC, "repro", SHELL=shell)
    return running, written_pid(folder / "pid", running)


def is_gone(pid: int, seconds: float) -> bool:
    """Wait for a process that need not be our child."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return False


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_to_dvc_leaves_no_stage(sleeper: Path, number: signal.Signals) -> None:
    dvc, stage = start(sleeper, "/bin/sh")
    if number == signal.SIGINT:
        # Ctrl-C reaches all that the terminal runs.
        os.killpg(dvc.pid, number)
    else:
        dvc.send_signal(number)
    assert dvc.wait(timeout=30) != 0
    assert is_gone(stage, 5)


def test_a_shell_in_between_that_stays_changes_nothing(sleeper: Path) -> None:
    text = (sleeper / "dvc.yaml").read_text()
    text = text.replace("cmd: python sleep.py", "cmd: 'python sleep.py; true'")
    (sleeper / "dvc.yaml").write_text(text)
    dvc, stage = start(sleeper, "/bin/sh")
    parent = psutil.Process(stage).parent()
    assert parent is not None
    assert parent.pid != dvc.pid
    dvc.kill()
    dvc.wait()
    assert is_gone(stage, 5)
    assert is_gone(parent.pid, 5)


@pytest.mark.parametrize(
    "shell", ["/bin/sh", pytest.param("/bin/bash", marks=pytest.mark.slow)]
)
def test_a_stage_that_starts_as_an_orphan_ends_at_once(
    sleeper: Path, shell: str
) -> None:
    # dvc may be killed while its stage is still importing.
    importing = """\
Path("early").write_text(str(os.getpid()))
while not Path("late").exists():
    time.sleep(0.01)
def main"""
    (sleeper / "sleep.py").write_text(SLEEPER.replace("def main", importing))
    dvc = begin(sleeper, *DVC, "repro", SHELL=shell)
    stage = written_pid(sleeper / "early", dvc)
    dvc.kill()
    dvc.wait()
    (sleeper / "late").touch()
    assert is_gone(stage, 10)
    assert not (sleeper / "pid").exists()


def test_a_stage_that_a_person_runs_outlives_the_terminal(sleeper: Path) -> None:
    shell = subprocess.Popen(
        ["/bin/sh", "-c", f"{sys.executable} sleep.py & sleep 600"],
        cwd=sleeper,
        env=environment(sleeper),
        start_new_session=True,
    )
    stage = written_pid(sleeper / "pid", shell)
    shell.kill()
    shell.wait()
    assert not is_gone(stage, 1.5)
    with suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGKILL)


def test_the_pipeline_runs_again_after_a_kill(sleeper: Path) -> None:
    dvc, stage = start(sleeper, "/bin/sh")
    dvc.kill()
    dvc.wait()
    assert is_gone(stage, 5)
    (sleeper / "sleep.py").write_text("open('x', 'w').write('x')\n")
    done = run_in(sleeper, *DVC, "repro")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_second_run_at_the_same_time_is_refused_in_one_line(sleeper: Path) -> None:
    dvc, stage = start(sleeper, "/bin/sh")
    done = run_in(sleeper, *DVC, "repro")
    print(done.stderr)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert str(dvc.pid) in done.stderr
    assert psutil.pid_exists(stage)
    dvc.kill()
    dvc.wait()
    assert is_gone(stage, 5)


def test_a_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    code = (
        "import sys; from pathlib import Path; from warpzone.core.files import locked\n"
        f"with locked(Path({str(path)!r})): print('in', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(tmp_path),
    )
    assert holder.stdout
    assert holder.stdout.readline() == b"in\n"
    with (
        pytest.raises(InputError, match=f"process {holder.pid} is at work here"),
        locked(path),
    ):
        pass
    holder.kill()
    holder.wait()
    # However the holder ended, the lock is free.
    with locked(path):
        assert path.read_text() == f"{os.getpid()}\n"
