"""Full disks, caches that cannot be written, damaged dvc.lock and params."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from hashlib import md5
from pathlib import Path

import pytest
from conftest import (  # pyright: ignore[reportMissingImports]
    DVC,
    REPRO,
    ROOT,
    STORAGE,
    begin,
    error_line,
    must,
    outputs,
    refused,
    reproduce,
    run_in,
    said,
    set_cache,
    set_remote,
)

from tools import repro


@pytest.fixture
def checked(repo: Path) -> Path:
    """A repository that `make repro` accepts."""
    (repo / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return repo


@pytest.fixture
def small_disk(mount: Callable[[str], Path | None]) -> Path:
    """A disk of two megabytes."""
    return mount("size=2m") or pytest.skip("needs the right to mount a tmpfs")


def fill(disk: Path, left: int) -> None:
    """Leave so many bytes free on a disk."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    (disk / "filler").write_bytes(b"x" * (free - left))


# ------------------------------------------------------------------ disk full


def test_a_stage_on_a_full_disk_keeps_the_old_file(small_disk: Path) -> None:
    code = (
        "from pathlib import Path; from warpzone.core.files import write_bytes\n"
        "from warpzone.core.stage import run_stage\n"
        "run_stage(lambda: write_bytes(Path('model'), b'new' * 100_000))"
    )
    (small_disk / "model").write_bytes(b"old")
    fill(small_disk, 50_000)
    done = run_in(small_disk, sys.executable, "-c", code)
    assert "No space left on device" in error_line(done)
    assert (small_disk / "model").read_bytes() == b"old"
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "model"]


@pytest.mark.slow
def test_a_kill_while_dvc_noted_a_run_stops_no_later_one(checked: Path) -> None:
    done = run_in(checked, *REPRO)
    assert done.returncode == 0, done.stderr
    # Killed before it wrote what it made the folder for, or anything after that.
    runs = [path for path in checked.glob(".dvc/cache/runs/*/*/*") if path.is_file()]
    assert runs
    for run in runs:
        run.unlink()
    (checked / "dvc.lock").unlink()
    assert run_in(checked, *DVC, "repro").returncode != 0
    done = run_in(checked, *REPRO)
    assert done.returncode == 0, done.stderr
    assert (checked / "dvc.lock").exists()


@pytest.mark.slow
def test_a_cache_on_a_full_disk_is_no_success(checked: Path, small_disk: Path) -> None:
    set_cache(checked, small_disk)
    (checked / "word.txt").write_text("another" * 500)
    fill(small_disk, 60_000)
    done = run_in(checked, *REPRO)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "No space left on device" in last or "disk" in last.lower()

    # With space again, it goes on.
    (small_disk / "filler").unlink()
    done = run_in(checked, *REPRO)
    assert done.returncode == 0, done.stderr
    assert "all are whole" in must(checked, *STORAGE, "verify", "--local")


def test_dvc_alone_calls_a_full_cache_a_success(
    checked: Path, small_disk: Path
) -> None:
    """If this fails, dvc has been mended: `make repro` needs no check after it."""
    set_cache(checked, small_disk)
    (checked / "word.txt").write_text("another" * 500)
    fill(small_disk, 60_000)
    done = run_in(checked, *DVC, "repro")
    if done.returncode == 0:
        error = error_line(run_in(checked, *STORAGE, "verify", "--local"))
        assert "No space left on device" in error


@pytest.mark.usefixtures("surroundings")
def test_a_pull_on_a_full_disk_leaves_the_outputs_whole(
    repo: Path, small_disk: Path
) -> None:
    set_remote(repo, str(repo.parent / "far"))
    old = repo.parent / "old"
    subprocess.run(["cp", "-a", repo, old], check=True)
    (repo / "word.txt").write_text("another" * 2000)
    reproduce(repo)
    said(repo, "push")

    place = small_disk / "repo"
    subprocess.run(["cp", "-a", old, place], check=True)
    (place / "dvc.lock").write_bytes((repo / "dvc.lock").read_bytes())
    before = outputs(place)
    fill(small_disk, 600_000)
    # A process of its own: DVC leaves files open, and the disk goes away.
    assert "No space left on device" in error_line(run_in(place, *STORAGE, "pull"))
    assert outputs(place) == before


# ----------------------------------------------------------- read-only caches


@pytest.fixture
def frozen(checked: Path) -> Iterator[Path]:
    """A repository whose cache cannot be written, not even by root."""
    cache = checked / ".dvc/cache"
    bind = ["mount", "--bind", str(cache), str(cache)]
    freeze = ["mount", "-o", "remount,bind,ro", str(cache)]
    for command in (bind, freeze):
        if subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("needs the right to mount")
    yield checked
    subprocess.run(["umount", str(cache)], check=True)


@pytest.mark.usefixtures("surroundings")
def test_a_cache_that_cannot_be_written_is_verified(frozen: Path) -> None:
    assert "all are whole" in said(frozen, "verify", "--local")


def test_a_run_with_a_cache_that_cannot_be_written_fails(frozen: Path) -> None:
    (frozen / "word.txt").write_text("another")
    done = run_in(frozen, *REPRO)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "Read-only file system" in done.stderr.strip().splitlines()[-1]


# ------------------------------------------------------ damaged dvc.lock, params


CONFLICT = "<<<<<<< HEAD\n{ours}=======\n{theirs}>>>>>>> other\n"


def damaged_locks() -> dict[str, str]:
    lock = "schema: '2.0'\nstages:\n"
    return {
        "conflict": CONFLICT.format(ours=lock, theirs=lock),
        "cut": "schema: '2.0'\nstages:\n  make:\n    outs:\n    - path: [",
        "binary": "\x00\x01",
        "empty": "",
        "list": "[1, 2]\n",
        "no_stages": "schema: '2.0'\n",
        "stages_of_text": "schema: '2.0'\nstages: text\n",
    }


@pytest.fixture
def refusal(
    checked: Path,
    surroundings: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Callable[[], str]:
    """Run `make repro` in this process; return the one line that it ends with."""

    def refusal() -> str:
        monkeypatch.setattr(sys, "argv", ["tools.repro"])
        with chdir(checked), pytest.raises(SystemExit) as ended:
            repro.main()
        assert capfd.readouterr().err == ""
        # A text is printed, and the exit code is 1.
        assert isinstance(ended.value.code, str)
        assert len(ended.value.code.splitlines()) == 1
        return ended.value.code

    return refusal


@pytest.mark.parametrize("kind", damaged_locks())
def test_a_damaged_dvc_lock_ends_in_one_line(
    checked: Path, kind: str, refusal: Callable[[], str]
) -> None:
    before = outputs(checked)
    (checked / "dvc.lock").write_text(damaged_locks()[kind])
    error = refusal()
    assert error.startswith("error: dvc.lock")
    assert "git checkout" in error
    assert outputs(checked) == before
    assert (checked / "dvc.lock").read_text() == damaged_locks()[kind]


def test_what_make_repro_refuses_is_all_that_it_says(
    checked: Path, refusal: Callable[[], str]
) -> None:
    (checked / "dvc.lock").write_text(damaged_locks()["cut"])
    assert error_line(run_in(checked, *REPRO)) == refusal()


@pytest.mark.slow
def test_a_dvc_lock_half_written_by_a_killed_run_is_taken_back(checked: Path) -> None:
    (checked / "word.txt").write_text("another")
    make = (checked / "make.py").read_text()
    wait = (
        "import time; from pathlib import Path; Path('began').touch(); time.sleep(60)\n"
    )
    (checked / "make.py").write_text(wait + make)
    running = begin(checked, *REPRO)
    while not (checked / "began").exists():
        assert running.poll() is None
        time.sleep(0.02)
    os.killpg(running.pid, 9)
    running.wait()
    # DVC empties it before it writes.
    (checked / "dvc.lock").write_text("")
    (checked / "make.py").write_text(make)
    done = run_in(checked, *REPRO)
    assert done.returncode == 0, done.stderr
    assert "half written when a run was killed: taken back" in done.stderr
    assert "another" in (checked / "table.csv").read_text()
    # Once more, to what it is now: no stage runs.
    (checked / "dvc.lock").write_text("")
    done = run_in(checked, *REPRO)
    assert "taken back" in done.stderr
    assert "Running stage" not in done.stdout


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("command", ["verify", "push", "pull"])
def test_a_conflict_in_dvc_lock_stops_the_storage(repo: Path, command: str) -> None:
    set_remote(repo, str(repo.parent / "far"))
    before = outputs(repo)
    (repo / "dvc.lock").write_text(damaged_locks()["conflict"])
    assert "dvc.lock" in refused(repo, command)
    assert outputs(repo) == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("game: [", "line 1: expected the node content, but found '<stream end>'"),
        (
            CONFLICT.format(ours="seed: 1\n", theirs="seed: 2\n"),
            "line 1: a merge's conflict begins",
        ),
        ("", "must hold named sections"),
        ("seed: 1\n", "lacks"),
        (None, "cannot be read"),
    ],
)
def test_a_broken_params_file_ends_in_one_line(
    checked: Path, content: str | None, reason: str, refusal: Callable[[], str]
) -> None:
    before = outputs(checked)
    (checked / "params.yaml").unlink()
    if content is not None:
        (checked / "params.yaml").write_text(content)
    error = refusal()
    assert error.startswith("error: params.yaml")
    assert reason in error
    assert outputs(checked) == before


# ------------------------------------------------------------- two at a time


def test_a_second_make_repro_is_refused_in_one_line(
    checked: Path, refusal: Callable[[], str]
) -> None:
    (checked / "make.py").write_text(
        "import os, time; open('started', 'w'); time.sleep(600)\n"
    )
    first = begin(checked, *REPRO)
    try:
        while not (checked / "started").exists():
            assert first.poll() is None
            time.sleep(0.02)
        assert f"process {first.pid} is at work here" in refusal()
    finally:
        os.killpg(first.pid, 9)
        first.wait()


@pytest.mark.slow
def test_arguments_are_those_of_dvc_repro(checked: Path) -> None:
    (checked / "word.txt").write_text("another")
    before = outputs(checked)
    lock = (checked / "dvc.lock").read_bytes()
    assert "Running stage 'make'" in must(checked, *REPRO, "--dry")
    assert outputs(checked) == before
    assert (checked / "dvc.lock").read_bytes() == lock
    done = run_in(checked, *REPRO, "nowhere")
    assert done.returncode != 0
    assert "nowhere" in done.stderr
    assert "all are whole" in must(checked, *REPRO, "--force", "make")
    assert "dvc repro --help" in must(checked, *REPRO, "--help")


@pytest.mark.slow
def test_a_run_of_one_stage_does_not_ask_for_the_outputs_of_others(
    checked: Path,
) -> None:
    (checked / "dvc.yaml").write_text(
        (checked / "dvc.yaml").read_text()
        + "  other: {cmd: touch other, outs: [other]}\n"
    )
    must(checked, *REPRO)
    (checked / "table.csv").unlink()
    shutil.rmtree(checked / ".dvc/cache")
    assert "all are whole" in must(checked, *REPRO, "--force", "other")


def test_a_run_that_succeeds_says_that_all_is_whole(checked: Path) -> None:
    (checked / "word.txt").write_text("another")
    assert "all are whole" in must(checked, *REPRO)
    table = md5((checked / "table.csv").read_bytes()).hexdigest()
    assert (checked / ".dvc/cache/files/md5" / table[:2] / table[2:]).exists()
