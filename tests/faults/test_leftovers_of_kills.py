"""What a kill, a person or a bad disk leaves: mended, kept, or told in one line."""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import (  # pyright: ignore[reportMissingImports]
    DVC,
    REPRO,
    ROOT,
    STORAGE,
    environment,
    error_line,
    must,
    outputs,
    run_in,
)

pytestmark = pytest.mark.slow

QUARANTINE = ".dvc/cache/quarantine"


@pytest.fixture
def checked(repo: Path) -> Path:
    """A repository that `make repro` accepts, with hashes of its own."""
    (repo / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    must(repo, "git", "add", "-A")
    must(repo, "git", "commit", "-qm", "Params")
    return repo


def stderr_of(folder: Path, *command: str) -> list[str]:
    """Run what must succeed; return the lines that it says of what it mended."""
    done = run_in(folder, *command)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


# ------------------------------------------------------------ DVC's small files


@pytest.mark.parametrize("command", [REPRO, (*STORAGE, "verify")], ids=["repro", "ver"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"write": {"a": 1}}'])
def test_a_list_of_stages_that_a_kill_cut_is_mended_and_told_once(
    checked: Path, content: str, command: tuple[str, ...]
) -> None:
    (checked / ".dvc/tmp/rwlock").write_text(content)
    [line] = stderr_of(checked, *command)
    assert "rwlock: half written by a killed DVC: removed" in line
    assert stderr_of(checked, *command) == []


def test_a_dead_stage_whose_number_another_process_has_stops_nobody(
    checked: Path,
) -> None:
    info = {"pid": os.getpid(), "cmd": "dvc repro"}
    held = {"write": {str(checked / "models"): info}, "read": {}}
    (checked / ".dvc/tmp/rwlock").write_text(json.dumps(held))
    (checked / "word.txt").write_text("another")
    # If this fails, dvc has been mended.
    assert f"PID {os.getpid()}" in run_in(checked, *DVC, "repro").stderr
    must(checked, *REPRO)


def databases(repo: Path) -> list[Path]:
    """DVC's databases of hashes, which lie where the environment says."""
    found = Path(environment(repo)["DVC_SITE_CACHE_DIR"]).rglob("*.db")
    return sorted(found)


@pytest.mark.parametrize("command", [REPRO, (*STORAGE, "verify")], ids=["repro", "ver"])
@pytest.mark.parametrize("kind", ["garbage", "cut", "page"])
def test_a_damaged_database_of_dvc_is_mended_and_told_once(
    checked: Path, kind: str, command: tuple[str, ...]
) -> None:
    must(checked, *REPRO)
    victims = databases(checked)
    assert victims
    for path in victims:
        with closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = bytearray(path.read_bytes())
        match kind:
            case "garbage":
                content = bytearray(b"no database" * 1000)
            case "cut":
                content = content[: len(content) // 2]
            case "page":
                content[4096:] = b"\xff" * (len(content) - 4096)
        path.write_bytes(content)
    if kind == "garbage":
        # If this fails, dvc has been mended.
        assert run_in(checked, *DVC, "status").returncode != 0
    lines = stderr_of(checked, *command)
    assert len(lines) == len(victims)
    assert all("damaged, removed: DVC hashes again" in line for line in lines)
    assert stderr_of(checked, *command) == []


# ------------------------------------------------------ beside outputs, and runs


@pytest.mark.parametrize(
    "name",
    [
        "models/.policy.json.partial",
        "data/episodes/.default.csv.partial",
        "plots/.C1BnBLRBFkM-7qVRP0_9Ag.tmp",
        "metrics/deep/.a.json.partial",
        ".report.md.partial",
    ],
)
def test_what_a_kill_left_beside_outputs_is_swept(checked: Path, name: str) -> None:
    (checked / name).parent.mkdir(parents=True, exist_ok=True)
    (checked / name).write_text("half")
    kept = checked / "data/.mine.csv"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    before = (checked / "dvc.lock").read_bytes()
    must(checked, *REPRO)
    assert not (checked / name).exists()
    assert (checked / "dvc.lock").read_bytes() == before
    assert kept.read_text() == "mine"


def test_a_half_written_run_of_the_run_cache_is_swept(checked: Path) -> None:
    [run] = [p for p in checked.glob(".dvc/cache/runs/*/*/*") if p.is_file()]
    half = run.with_name(".C1BnBLRBFkM-7qVRP0_9Ag.tmp")
    half.write_text("cmd: pyth")
    (checked / "dvc.lock").unlink()
    done = run_in(checked, *REPRO)
    assert done.returncode == 0, done.stderr
    assert "is cached - skipping run" in done.stdout
    assert not half.exists()


# ---------------------------------------------------------- edited by a person


@pytest.mark.parametrize("name", ["table.csv", "models/3.txt", "metrics.json"])
@pytest.mark.parametrize("changes", [False, True], ids=["nothing new", "new input"])
def test_an_edited_output_is_kept_before_a_run_overwrites_it(
    checked: Path, name: str, changes: bool
) -> None:
    before = outputs(checked)
    (checked / name).unlink()
    (checked / name).write_text("work of a day")
    if changes:
        (checked / "word.txt").write_text("another")
    [line] = stderr_of(checked, *REPRO)
    top = name.split("/")[0]
    assert line.startswith(f"{top}: is not what dvc.lock records: kept in ")
    kept = Path(line.rpartition(" kept in ")[2])
    found = kept / name.partition("/")[2] if kept.is_dir() else kept
    assert found.read_text() == "work of a day"
    assert kept.parent == checked / QUARANTINE
    if not changes:
        assert outputs(checked) == before
    assert stderr_of(checked, *REPRO) == []


def test_an_output_that_no_run_has_made_yet_is_kept_too(checked: Path) -> None:
    (checked / "dvc.lock").unlink()
    (checked / "table.csv").unlink()
    (checked / "table.csv").write_text("mine")
    [line] = stderr_of(checked, *REPRO)
    assert Path(line.rpartition(" kept in ")[2]).read_text() == "mine"


def test_what_a_failed_stage_has_written_is_not_taken_for_an_edit(
    checked: Path,
) -> None:
    make = (checked / "make.py").read_text()
    (checked / "word.txt").write_text("another")
    (checked / "make.py").write_text(f"{make}sys.exit(1)\n")
    assert run_in(checked, *REPRO).returncode != 0
    assert "another" in (checked / "table.csv").read_text()
    (checked / "make.py").write_text(make)
    assert stderr_of(checked, *REPRO) == []
    assert not (checked / QUARANTINE).exists()


def test_what_the_cache_or_git_has_is_not_kept_again(checked: Path) -> None:
    old = (checked / "dvc.lock").read_bytes()
    (checked / "word.txt").write_text("another")
    must(checked, *REPRO)
    # The metrics of another commit, and outputs of another dvc.lock.
    (checked / "metrics.json").write_text('{"a": 7}')
    must(checked, "git", "commit", "-qam", "Another")
    (checked / "dvc.lock").write_bytes(old)
    must(checked, "git", "commit", "-qam", "Back")
    assert stderr_of(checked, *REPRO) == []
    assert not (checked / QUARANTINE).exists()


def test_a_dry_run_keeps_and_moves_nothing(checked: Path) -> None:
    (checked / "table.csv").unlink()
    (checked / "table.csv").write_text("mine")
    must(checked, *REPRO, "--dry")
    assert (checked / "table.csv").read_text() == "mine"
    assert not (checked / QUARANTINE).exists()


# --------------------------------------------------------------- bad disks


@pytest.fixture
def mounted(checked: Path, mount: Callable[[str], Path | None]) -> Path:
    """The repository on a disk of its own, of twenty megabytes."""
    place = mount("size=20m") or pytest.skip("needs the right to mount a tmpfs")
    shutil.copytree(checked, place / "repo", symlinks=True)
    return place / "repo"


COMMANDS = [REPRO, *((*STORAGE, name) for name in ("verify", "push", "pull"))]


@pytest.mark.parametrize("command", COMMANDS, ids=["repro", "verify", "push", "pull"])
def test_a_disk_that_is_full_from_the_start_is_told_in_one_line(
    mounted: Path, command: tuple[str, ...]
) -> None:
    before = outputs(mounted)
    filler = mounted.parent / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        except OSError:
            pass
    line = error_line(run_in(mounted, *command))
    assert line.startswith("error: ")
    assert "No space left on device" in line or "disk" in line
    assert outputs(mounted) == before
    filler.unlink()
    must(mounted, *REPRO)


@pytest.mark.parametrize("command", COMMANDS, ids=["repro", "verify", "push", "pull"])
def test_a_disk_that_is_read_only_is_told_in_one_line(
    mounted: Path, command: tuple[str, ...]
) -> None:
    remount = ["mount", "-o", "remount,ro", str(mounted.parent)]
    subprocess.run(remount, check=True)
    line = error_line(run_in(mounted, *command))
    assert line.startswith("error: ")
    assert "Read-only file system" in line


@pytest.mark.parametrize("blocks", [0, 1, 8])
def test_files_that_may_not_grow_are_told_in_one_line(
    checked: Path, blocks: int
) -> None:
    shell = f"ulimit -f {blocks}; exec {' '.join(REPRO)}"
    done = run_in(checked, "sh", "-c", shell)
    assert done.returncode != 0
    line = error_line(done)
    assert "File too large" in line or "disk" in line
    must(checked, *REPRO)


# ----------------------------------------------------------------- recordings


def test_a_recording_that_git_does_not_know_is_told_before_the_run(
    checked: Path,
) -> None:
    recordings = checked / "data/recordings"
    recordings.mkdir(parents=True)
    (recordings / "mine.jsonl").touch()
    [line] = stderr_of(checked, *REPRO)
    assert line.startswith("data/recordings/mine.jsonl: not in git")
    must(checked, "git", "add", "data/recordings")
    assert stderr_of(checked, *REPRO) == []
