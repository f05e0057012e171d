"""Copies of the repository, in which `make smoke` and the tests run the pipeline."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tools.pipeline_copy import (
    SMALL,
    copy_repository,
    environment,
    lay_over,
    write_yaml,
)
from tools.verify_repro import differences
from warpzone.core.errors import InputError
from warpzone.core.params import load_params
from warpzone.core.yaml import read_yaml

ROOT = Path(__file__).resolve().parents[2]
LOG = Path(".dvc/tmp/smoke.log")


def test_the_overlay_replaces_values_deep_inside_sections() -> None:
    params = {"a": {"b": {"c": 1, "d": 2}}, "e": [1, 2, 3]}
    merged = lay_over(params, {"a": {"b": {"c": 9}}, "e": [4]})
    assert merged == {"a": {"b": {"c": 9, "d": 2}}, "e": [4]}
    assert params == {"a": {"b": {"c": 1, "d": 2}}, "e": [1, 2, 3]}


def test_null_takes_a_section_out_if_it_is_there() -> None:
    params = {"a": {"b": {"c": 1}, "d": 2}}
    assert lay_over(params, {"a": {"b": None}}) == {"a": {"d": 2}}
    assert lay_over(params, {"a": {"e": None}}) == params
    assert lay_over(params, {"a": {"d": None}}) == {"a": {"b": {"c": 1}, "d": None}}


def test_an_overlay_key_that_params_lack_is_named() -> None:
    with pytest.raises(InputError, match=r"no a\.epocs, only \['epochs'\]"):
        lay_over({"a": {"epochs": 3}}, {"a": {"epocs": 1}})


@pytest.mark.parametrize("overlay", [{"a": 1}, {"b": {"c": 1}}])
def test_an_overlay_swaps_no_section_for_a_value(overlay: dict) -> None:
    with pytest.raises(InputError, match=r"in params\.yaml"):
        lay_over({"a": {"c": 3}, "b": 4}, overlay)


def test_the_small_values_fit_params_yaml(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy_repository(ROOT, copy, read_yaml(ROOT / SMALL))
    assert load_params(copy / "params.yaml") != load_params(ROOT / "params.yaml")
    assert not (copy / "dvc.lock").exists()
    status = ["git", "status", "--porcelain"]
    done = subprocess.run(
        status, cwd=copy, env=environment(copy), capture_output=True, text=True
    )
    assert done.stdout == ""


strings = st.text() | st.sampled_from(
    ["no", "on", "1e-4", "1-1", "0o7", "0777", "1_000", "12:30", "~", ".inf", "<<", ""]
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | strings,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(strings, inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(document=documents)
def test_what_is_written_is_read_alike_by_us_and_by_dvc(
    tmp_path: Path, document: Any
) -> None:
    path = tmp_path / "params.yaml"
    write_yaml(path, document)
    assert repr(read_yaml(path)) == repr(document)
    as_dvc = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    assert repr(as_dvc) == repr(document)


def write_outputs(copy: Path, word: str) -> Path:
    """Write what a pipeline of one stage leaves that writes a folder."""
    (copy / "out").mkdir(parents=True)
    (copy / "out/same.txt").write_text("same")
    (copy / "out/word.txt").write_text(word)
    outs = [{"path": "out", "md5": f"{word}.dir"}]
    write_yaml(copy / "dvc.lock", {"stages": {"write": {"cmd": "x", "outs": outs}}})
    return copy


def test_the_first_file_that_differs_between_two_runs_is_named(tmp_path: Path) -> None:
    one, other, third = (
        write_outputs(tmp_path / name, word)
        for name, word in [("one", "a"), ("other", "b"), ("third", "a")]
    )
    assert next(differences(one, other)) == "stage write, out/word.txt"
    assert not list(differences(one, third))


# make smoke and make verify-repro


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Make a repository with a pipeline of one stage and the results of a full run."""
    root = tmp_path / "toy"
    (root / "tests").mkdir(parents=True)
    shutil.copytree(
        ROOT / ".dvc", root / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache")
    )
    (root / "params.yaml").write_text("# kept\nlength: 1000\n")
    (root / "tests/smoke_params.yaml").write_text("length: 10\n")
    (root / "stage.py").write_text(
        "from pathlib import Path\n"
        "length = int(Path('params.yaml').read_text().split()[-1])\n"
        "Path('out.txt').write_text('x' * length)\n"
    )
    (root / "dvc.yaml").write_text(
        "stages:\n"
        "  write:\n"
        "    cmd: python stage.py\n"
        "    deps: [stage.py]\n"
        "    params: [length]\n"
        "    outs: [{out.txt: {cache: false}}]\n"
    )
    (root / "notebooks").mkdir()
    (root / "notebooks/analysis.py").write_text(
        "print('analysed', len(open('out.txt').read()))\n"
    )
    (root / "out.txt").write_text("x" * 1000)
    (root / "dvc.lock").write_text(
        "schema: '2.0'\n"
        "stages:\n"
        "  write:\n"
        "    cmd: python stage.py\n"
        "    outs: [{path: out.txt, hash: md5, md5: 00, size: 1000}]\n"
    )
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=root, env=environment(root), check=True)
    return root


def files_of(root: Path) -> dict[str, bytes]:
    """Every file but those of git and the log."""
    files = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return {
        str(path): (root / path).read_bytes()
        for path in files
        if path.parts[0] != ".git" and path != LOG
    }


SMOKE = (sys.executable, "-m", "tools.smoke")
VERIFY = (sys.executable, "-m", "tools.verify_repro")


def variables_for(toy: Path) -> dict[str, str]:
    temporary = toy.with_name("temporary")
    temporary.mkdir()
    return {**environment(toy), "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}


def run_tool(tool: tuple[str, ...], toy: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        tool, cwd=toy, env=variables_for(toy), capture_output=True, text=True
    )


@pytest.mark.slow
def test_smoke_runs_the_pipeline_small_and_leaves_a_log(
    toy: Path, tmp_path: Path
) -> None:
    before = files_of(toy)
    assert before["out.txt"] == b"x" * 1000
    done = run_tool(SMOKE, toy)
    assert done.returncode == 0, done.stderr
    assert "1 stages wrote 1 files" in done.stdout
    assert files_of(toy) == before
    log = (toy / LOG).read_text()
    assert "Running stage 'write'" in log
    # The notebook reads what the small pipeline wrote.
    assert log.endswith("analysed 10\n")
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.slow
def test_smoke_shows_and_keeps_the_log_of_a_stage_that_fails(
    toy: Path, tmp_path: Path
) -> None:
    (toy / "stage.py").write_text("raise SystemExit('out of lives')\n")
    done = run_tool(SMOKE, toy)
    assert done.returncode == 1
    assert "out of lives" in done.stderr
    assert "smoke failed: dvc repro ended with status 255 in write" in done.stderr
    assert "out of lives" in (toy / LOG).read_text()
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.slow
def test_smoke_fails_with_the_notebook(toy: Path) -> None:
    (toy / "notebooks/analysis.py").write_text("raise SystemExit('error: a number')\n")
    done = run_tool(SMOKE, toy)
    assert done.returncode == 1
    assert "error: a number" in done.stderr
    assert "smoke failed: notebooks/analysis.py ended with status 1" in done.stderr


@pytest.mark.slow
def test_smoke_refuses_a_pipeline_that_is_never_done(toy: Path, tmp_path: Path) -> None:
    with (toy / "dvc.yaml").open("a") as file:
        file.write("    always_changed: true\n")
    done = run_tool(SMOKE, toy)
    assert done.returncode == 1
    assert "the second dvc repro ran ['write'], expected nothing" in done.stderr


def is_running(pid: str) -> bool:
    """Whether a process is there, and not only a zombie that nobody asked about."""
    ps = subprocess.run(
        ["ps", "-o", "stat=", "-p", pid], stdout=subprocess.PIPE, text=True
    )
    return ps.stdout.strip()[:1] not in ("", "Z")


@pytest.mark.slow
def test_a_stopped_smoke_ends_its_stage_and_removes_its_copy(
    toy: Path, tmp_path: Path
) -> None:
    (toy / "stage.py").write_text(
        "import os, time\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "print('waits', flush=True)\n"
        "time.sleep(120)\n"
    )
    running = subprocess.Popen(
        SMOKE,
        cwd=toy,
        env=variables_for(toy),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert running.stdout is not None
    for line in running.stdout:
        if line.endswith("write\n"):
            break
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=60) == 130
    assert not list((tmp_path / "temporary").iterdir())
    if (tmp_path / "pid").exists():
        pid = (tmp_path / "pid").read_text()
        deadline = time.monotonic() + 10
        while is_running(pid):
            assert time.monotonic() < deadline, f"the stage {pid} still runs"
            time.sleep(0.1)


@pytest.mark.slow
def test_verify_repro_passes_where_two_runs_are_the_same(toy: Path) -> None:
    done = run_tool(VERIFY, toy)
    assert done.returncode == 0, done.stderr
    assert "1 outputs are the same" in done.stdout


@pytest.mark.slow
def test_verify_repro_names_the_file_that_depends_on_the_processors(toy: Path) -> None:
    (toy / "stage.py").write_text(
        "import os\nopen('out.txt', 'w').write(str(os.process_cpu_count()))\n"
    )
    done = run_tool(VERIFY, toy)
    assert done.returncode == 1
    assert "the two runs differ first in stage write, out.txt" in done.stderr
