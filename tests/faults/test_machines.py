"""The pipeline on machines that are not ours: the same bytes, or one line."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import (  # pyright: ignore[reportMissingImports]
    REPRO,
    ROOT,
    environment,
    error_line,
    must,
    run_in,
)

from tools.pipeline_copy import SMALL, copy_repository, lay_over, write_yaml
from warpzone.core.yaml import read_yaml

pytestmark = pytest.mark.slow

CELL = "evaluate_untrained@1-1-random"


def copy_small(folder: Path) -> Path:
    """Copy the repository, with params that make random play on FCEUmm short."""
    copy_repository(ROOT, folder)
    document = read_yaml(ROOT / "params.yaml") | {"seed": 1, "env": "mario"}
    document = lay_over(document, read_yaml(ROOT / SMALL))
    document["run"] = {"tasks": ["1-1"], "recipes": ["bc-ppo"], "seeds": [1]}
    document["record_video"]["agents"] = ["bc-ppo-1"]
    document["envs"]["mario"]["kwargs"] |= {"emulator": "fceumm", "time_limit": 20}
    default = document["evaluate"]["noises"]["default"]
    default |= {"episodes": 2, "reference": False}
    document["evaluate"]["noises"] = {"default": default}
    write_yaml(folder / "params.yaml", document)
    return folder


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The dvc.lock of a cell in usual surroundings."""
    copy = copy_small(tmp_path_factory.mktemp("usual") / "copy")
    must(copy, *REPRO, CELL)
    return (copy / "dvc.lock").read_bytes()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copy_small(tmp_path / "copy")


@pytest.fixture
def noexec(mount: Callable[[str], Path | None]) -> Path:
    """A folder in which no library can be loaded."""
    return mount("noexec") or pytest.skip("needs the right to mount a tmpfs")


def test_a_folder_for_temporary_files_that_is_mounted_noexec_is_passed_over(
    copy: Path, noexec: Path, usual: bytes
) -> None:
    done = run_in(copy, *REPRO, CELL, TMPDIR=str(noexec))
    assert done.returncode == 0, done.stderr
    assert (copy / "dvc.lock").read_bytes() == usual


def test_where_no_folder_lets_libraries_be_loaded_one_line_says_so(
    copy: Path, noexec: Path
) -> None:
    done = run_in(
        copy,
        *REPRO,
        CELL,
        TMPDIR=str(noexec),
        HOME=str(noexec),
        XDG_CACHE_HOME=str(noexec / "cache"),
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "set TMPDIR to a folder that is not mounted noexec" in line


ODD: dict[str, dict[str, str | None]] = {
    "HOME is not set": {"HOME": None},
    "HOME is read-only": {"HOME": "/proc"},
    "TMPDIR is missing": {"TMPDIR": "/nowhere"},
    "LC_ALL=C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Turkish": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
    "one processor": {"PYTHON_CPU_COUNT": "1"},
    "no SHELL, no TERM": {"SHELL": None, "TERM": None},
    "no name of the user": {"USER": None, "LOGNAME": None},
}


@pytest.mark.parametrize("case", ODD)
def test_odd_surroundings_give_the_same_bytes(
    copy: Path, usual: bytes, case: str
) -> None:
    variables = environment(copy) | ODD[case]
    done = subprocess.run(
        [*REPRO, CELL],
        cwd=copy,
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (copy / "dvc.lock").read_bytes() == usual


@pytest.mark.parametrize("name", ["a copy with spaces", "Übung 'ß' $HOME;", "a" * 200])
def test_a_folder_of_any_name_gives_the_same_bytes(
    tmp_path: Path, usual: bytes, name: str
) -> None:
    copy = copy_small(tmp_path / name / "copy")
    must(copy, *REPRO, CELL)
    assert (copy / "dvc.lock").read_bytes() == usual


@pytest.mark.parametrize("prefix", ["umask 077", "ulimit -n 256", "ulimit -s 1024"])
def test_what_a_shell_restricts_gives_the_same_bytes(
    copy: Path, usual: bytes, prefix: str
) -> None:
    done = run_in(copy, "sh", "-c", f"{prefix}; exec {' '.join(REPRO)} {CELL}")
    assert done.returncode == 0, done.stderr
    assert (copy / "dvc.lock").read_bytes() == usual


def test_a_processor_quota_gives_the_same_bytes(copy: Path, usual: bytes) -> None:
    if not (taskset := shutil.which("taskset")):
        pytest.skip("needs taskset")
    must(copy, taskset, "-c", str(min(os.sched_getaffinity(0))), *REPRO, CELL)
    assert (copy / "dvc.lock").read_bytes() == usual


# -------------------------------------------------------------------- options


@pytest.mark.parametrize(
    "words",
    [
        ("tools.storage",),
        ("tools.storage", "pusch"),
        ("tools.storage", "pull", "--exp"),
        ("tools.storage", "verify", "--locale"),
        ("tools.experiments", "--jobs", "two"),
        ("tools.s3", "--port", "x"),
        ("tools.provenance",),
        ("tools.smoke", "--fast"),
        ("tools.verify_repro", "x"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    line = error_line(run_in(tmp_path, REPRO[0], "-m", *words))
    assert line.startswith("error: ")
    assert line.endswith("see --help")


@pytest.mark.parametrize(
    "words",
    [
        ("train_rl.py", "--task", "1-1", "--recipe", "ppo", "--seed", "one"),
        ("train_rl.py", "--task", "1-1"),
        ("evaluate.py", "--agent"),
        ("compare.py", "--all"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_of_a_stage_is_one_line(words: tuple[str, ...]) -> None:
    line = error_line(run_in(ROOT, REPRO[0], f"stages/{words[0]}", *words[1:]))
    assert line.startswith("error: ")
    assert line.endswith("see --help")


@pytest.mark.parametrize("words", [("--dri",), ("--no-such",), ("-x",)], ids=" ".join)
def test_a_wrong_argument_of_make_repro_ends_before_anything_is_touched(
    words: tuple[str, ...], tmp_path: Path, repo: Path
) -> None:
    (repo / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (repo / "table.csv").unlink()
    (repo / "table.csv").write_text("mine")
    line = error_line(run_in(repo, *REPRO, *words))
    assert words[0] in line
    assert (repo / "table.csv").read_text() == "mine"
    assert not (repo / ".dvc/cache/quarantine").exists()
