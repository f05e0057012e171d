"""Inputs that change while a stage runs are told, and nothing is recorded of it."""

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from tools.pipeline_copy import DVC, environment
from warpzone.core import inputs, stage
from warpzone.core.fingerprints import write_fingerprints

ROOT = Path(__file__).resolve().parents[2]

# Each stage does to its inputs what a person or another run might do meanwhile.
STAGE = """\
import sys
from pathlib import Path
from warpzone.core.stage import run_stage
def main():
    Path("out-" + sys.argv[2]).write_text(Path("params.yaml").read_text())
    exec(Path("meanwhile.py").read_text())
run_stage(main)
"""

PIPELINE = """\
stages:
  make:
    matrix: {size: "${sizes}"}
    cmd: python stages/make.py --size ${item.size}
    params: ["rates.${item.size}"]
    deps: [data/code/make.txt, folder, file.txt]
    outs: ["out-${item.size}"]
"""

PARAMS = "sizes: [small]\nrates: {small: 0.1, large: 0.2}\n"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, and the code of its stage written down. To be copied."""
    folder = tmp_path_factory.mktemp("pipeline")
    for name, text in {
        "stages/make.py": STAGE,
        "folder/one.txt": "one",
        "file.txt": "file",
        "params.yaml": PARAMS,
        "dvc.yaml": PIPELINE,
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    write_fingerprints([folder / "stages/make.py"], folder / "data/code", [])
    command = [*DVC, "init", "-q", "--no-scm"]
    subprocess.run(command, cwd=folder, env=environment(folder), check=True)
    return folder


@pytest.fixture
def repro(pipeline: Path, tmp_path: Path) -> Callable[[str], tuple[int, str]]:
    """Run the pipeline while something happens; return its exit code and errors."""
    shutil.copytree(pipeline, tmp_path, dirs_exist_ok=True)
    variables = environment(tmp_path) | {"PYTHONPATH": str(ROOT)}

    def repro(meanwhile: str) -> tuple[int, str]:
        (tmp_path / "meanwhile.py").write_text(meanwhile)
        done = subprocess.run(
            [*DVC, "repro"], cwd=tmp_path, env=variables, capture_output=True, text=True
        )
        assert "Traceback" not in done.stderr
        told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        return done.returncode, "".join(told).removeprefix("error: ")

    return repro


@pytest.fixture
def run(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Run the stage as DVC does, but in this process; return how it exits."""
    shutil.copytree(pipeline, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_STAGE", "make@small")
    monkeypatch.setattr(sys, "argv", ["stages/make.py", "--size", "small"])
    # It would end these tests.
    monkeypatch.setattr(stage, "_end_with_the_pipeline", lambda: None)

    def run(meanwhile: str) -> str:
        (tmp_path / "meanwhile.py").write_text(meanwhile)
        try:
            runpy.run_path("stages/make.py")
        except SystemExit as ended:
            # A text is printed, and the exit code is 1.
            return str(ended.code)
        return ""

    return run


def put(path: str, text: str) -> str:
    """Return code that writes a file."""
    return f"Path({path!r}).write_text({text!r})\n"


@pytest.mark.parametrize(
    ("meanwhile", "named"),
    [
        (put("params.yaml", PARAMS.replace("0.1", "0.3")), "params.yaml: rates.small"),
        (put("file.txt", "changed"), "file.txt"),
        (put("folder/one.txt", "changed"), "folder"),
        (put("folder/two.txt", "new"), "folder"),
        ("Path('folder/one.txt').rename('folder/two.txt')", "folder"),
        (put("data/code/make.txt", "other"), "data/code/make.txt"),
    ],
)
def test_an_input_that_changes_while_a_stage_runs_ends_it_in_one_line(
    run: Callable[[str], str], meanwhile: str, named: str
) -> None:
    assert run(meanwhile) == (
        f"error: {named} changed while make@small ran, so its result is not recorded: "
        "run dvc repro again"
    )


def test_an_axis_may_be_a_list_in_the_pipeline_itself(
    run: Callable[[str], str],
) -> None:
    Path("dvc.yaml").write_text(PIPELINE.replace('"${sizes}"', "[large, small]"))
    assert run("") == ""
    assert "file.txt changed while make@small ran" in run(put("file.txt", "changed"))


def test_dvc_records_nothing_of_a_stage_whose_input_changed(
    repro: Callable[[str], tuple[int, str]], tmp_path: Path
) -> None:
    code, told = repro(put("params.yaml", PARAMS.replace("0.1", "0.3")))
    assert code != 0
    assert told == (
        "params.yaml: rates.small changed while make@small ran, so its result is not "
        "recorded: run dvc repro again"
    )
    assert not (tmp_path / "dvc.lock").exists()


def test_what_a_stage_does_not_read_may_change(
    repro: Callable[[str], tuple[int, str]], tmp_path: Path
) -> None:
    meanwhile = put("params.yaml", PARAMS.replace("0.2", "0.3"))
    meanwhile += "Path('file.txt').touch()\n" + put("folder/one.txt", "one")
    meanwhile += "Path('folder/__pycache__').mkdir()\n"
    meanwhile += put("folder/__pycache__/a.pyc", "")
    assert repro(meanwhile) == (0, "")
    assert (tmp_path / "dvc.lock").exists()


def test_a_stage_that_params_no_longer_ask_for_is_told(
    run: Callable[[str], str],
) -> None:
    assert run(put("params.yaml", "sizes: [large]\nrates: {small: 0.1}\n")) == (
        "error: params.yaml has changed since the pipeline began and no longer asks "
        "for make@small: run dvc repro again"
    )


def test_a_key_that_is_gone_is_told(run: Callable[[str], str]) -> None:
    assert run(put("params.yaml", "sizes: [small]\n")) == (
        "error: params.yaml no longer has rates.small, which a stage needs"
    )


def test_code_that_changed_before_the_stage_began_is_named(
    run: Callable[[str], str], tmp_path: Path
) -> None:
    # check_params has written down what the code was; a longer stage may run meanwhile.
    script = tmp_path / "stages/make.py"
    script.write_text(f"# The same.\n{STAGE}")
    assert run("") == ""
    (tmp_path / "file.txt").write_text("changed")
    script.write_text(f"{STAGE}print(1)\n")
    assert run("") == (
        "error: stages/make.py changed since check_params ran: run dvc repro again"
    )


def test_the_inputs_of_each_stage_are_those_that_dvc_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    # Nothing has been run here.
    monkeypatch.setattr(inputs, "_hash", str)
    with Repo(str(ROOT)) as repo:
        stages = repo.index.stages
        assert len(stages) > 10
        for stage in stages:
            known = set()
            for dep in stage.deps:
                if isinstance(dep, ParamsDependency):
                    known |= {f"params.yaml: {name}" for name in dep.params}
                else:
                    known.add(dep.def_path)
            monkeypatch.setattr(sys, "argv", str(stage.cmd).split()[1:])
            assert inputs.read_inputs(stage.addressing).keys() == known
