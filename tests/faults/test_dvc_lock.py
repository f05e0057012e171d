"""dvc.lock cut anywhere, or with a merge's conflict: taken back, or told and kept."""

import subprocess
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from conftest import (  # pyright: ignore[reportMissingImports]
    REPRO,
    ROOT,
    environment,
    error_line,
    init,
    must,
    run_in,
)
from dvc.repo import Repo

from tools import lockfile
from tools.alone import alone
from warpzone.core.errors import InputError

pytestmark = pytest.mark.slow

PIPELINE = """\
stages:
  make:
    matrix: {name: [a, b, c]}
    cmd: >-
      mkdir -p models/${item.name} && echo ${item.name} ${seed} >
      models/${item.name}/one && cp models/${item.name}/one models/${item.name}/two &&
      cp models/${item.name}/one ${item.name}.csv
    params: [seed, noise]
    deps: [word.txt]
    outs:
      - models/${item.name}
      - ${item.name}.csv: {cache: false}
"""


@pytest.fixture(scope="module")
def made_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with three cells, whose pipeline has run. To be copied."""
    folder = tmp_path_factory.mktemp("cells") / "repo"
    folder.mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    (folder / "word.txt").write_text("word")
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (folder / ".gitignore").write_text("/models/\n")
    init(folder)
    must(folder, "git", "add", "-A")
    must(folder, "git", "commit", "-qm", "Made")
    must(folder, *REPRO)
    return folder


@pytest.fixture
def cells(made_cells: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    subprocess.run(["cp", "-a", made_cells, folder], check=True)
    return folder


@pytest.fixture
def opened(cells: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repo]:
    for name, value in environment(cells).items():
        monkeypatch.setenv(name, value)
    with chdir(cells), alone() as repo:
        yield repo


def cuts(content: bytes) -> list[int]:
    """Every end of a line, and some places within lines."""
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    return sorted({0, *ends, *range(1, len(content), 37)} - {len(content)})


def mended(repo: Repo, content: bytes) -> bytes:
    """Return what becomes of a dvc.lock."""
    lockfile.LOCK.write_bytes(content)
    repo._reset()
    lockfile.mend(repo)
    return lockfile.LOCK.read_bytes()


def test_dvc_lock_cut_anywhere_is_recognised(
    opened: Repo, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = lockfile.LOCK.read_bytes()
    assert lockfile.WHOLE.read_bytes() == whole
    for place in cuts(whole):
        assert mended(opened, whole[:place]) == whole, whole[:place]
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("dvc.lock: ")
        assert "half written when a run was killed: taken back" in line
        assert lockfile.CUT.read_bytes() == whole[:place]
    assert mended(opened, whole) == whole
    assert capsys.readouterr().err == ""


def test_what_a_killed_run_had_added_is_cut_between_two_stages_or_taken_back(
    opened: Repo,
) -> None:
    whole = lockfile.LOCK.read_bytes()
    begins = [whole.index(f"  make@{name}:".encode()) for name in "abc"] + [len(whole)]
    before = whole[: begins[1]]
    for place in cuts(whole)[1:]:
        if place <= begins[1]:
            continue
        # As it was when the run began: one cell.
        lockfile.WHOLE.write_bytes(before)
        left = mended(opened, whole[:place])
        assert left == (whole[:place] if place in begins else before), whole[:place]


def test_without_a_dvc_lock_before_a_cut_one_is_removed(opened: Repo) -> None:
    whole = lockfile.LOCK.read_bytes()
    lockfile.LOCK.unlink()
    lockfile.mend(opened)
    lockfile.LOCK.write_bytes(whole[:100])
    opened._reset()
    lockfile.mend(opened)
    assert not lockfile.LOCK.exists()


def test_one_of_another_commit_is_taken_as_it_is(opened: Repo) -> None:
    whole = lockfile.LOCK.read_bytes()
    shorter = whole[: whole.index(b"  make@c:")]
    lockfile.LOCK.write_bytes(shorter)
    subprocess.run(["git", "add", "dvc.lock"], check=True)
    subprocess.run(["git", "commit", "-qm", "Two cells"], check=True)
    assert mended(opened, shorter) == shorter
    assert lockfile.WHOLE.read_bytes() == shorter


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_after_a_cut_the_next_run_ends_as_if_there_had_been_none(
    cells: Path, share: float
) -> None:
    whole = (cells / "dvc.lock").read_bytes()
    (cells / "dvc.lock").write_bytes(whole[: int(share * len(whole))])
    done = run_in(cells, *REPRO)
    assert done.returncode == 0, done.stderr
    assert "Running stage" not in done.stdout
    assert (cells / "dvc.lock").read_bytes() == whole
    assert "taken back" not in run_in(cells, *REPRO).stderr


# ------------------------------------------------------------------- conflicts


@pytest.mark.parametrize(
    "marks",
    ["<<<<<<< HEAD\n{}=======\n{}>>>>>>> other\n", "{}=======\n{}", "{}>>>>>>> x\n"],
)
def test_marks_of_a_conflict_are_told_and_kept(opened: Repo, marks: str) -> None:
    text = lockfile.LOCK.read_text()
    # Also where a run was killed before, and what it cut is known.
    assert lockfile.WHOLE.exists()
    conflict = marks.format(text, text)
    with pytest.raises(InputError, match=r"dvc\.lock: has a merge's conflict marks"):
        mended(opened, conflict.encode())
    assert lockfile.LOCK.read_text() == conflict


def test_a_conflict_that_a_merge_leaves_is_told_and_never_overwritten(
    cells: Path,
) -> None:
    must(cells, "git", "add", "-A")
    must(cells, "git", "commit", "-qm", "Run")
    for branch, word in (("other", "theirs"), ("main", "ours")):
        must(cells, "git", "checkout", "-q", "-B", branch, "HEAD")
        (cells / "word.txt").write_text(word)
        must(cells, *REPRO)
        must(cells, "git", "commit", "-qam", word)
        if branch == "other":
            must(cells, "git", "checkout", "-q", "main")
    # A run was killed here, and left its note.
    assert (cells / lockfile.WHOLE).exists()
    assert run_in(cells, "git", "merge", "other").returncode != 0
    conflict = (cells / "dvc.lock").read_bytes()
    assert b"<<<<<<< " in conflict
    for _ in range(2):
        assert "conflict marks" in error_line(run_in(cells, *REPRO))
        assert (cells / "dvc.lock").read_bytes() == conflict
    # Half resolved: still git's to tell.
    (cells / "dvc.lock").write_bytes(conflict.split(b"<<<<<<< ")[0])
    assert "git checkout dvc.lock" in error_line(run_in(cells, *REPRO))

    # What it says to do helps.
    must(cells, "git", "checkout", "--ours", "dvc.lock", "word.txt")
    must(cells, *REPRO)
