"""What a stage's code is: held against the modules that Python really loads."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.pipeline_copy import environment
from warpzone.core.errors import InputError
from warpzone.core.fingerprints import write_fingerprints
from warpzone.core.yaml import read_yaml
from warpzone.envs.registry import WORLDS, modules_of

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("warpzone", "stages")
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
)
STAGES = [Path(name).stem for name in MODULES if name.startswith("stages/")]

# Loads each script in a process of its own, with what it would play, and prints which
# files of the repository are modules then.
ORACLE = """\
import ast, importlib, json, os, runpy, sys
from pathlib import Path
# What is loaded here, once, is not loaded for each script.
import cv2, gym_super_mario_bros.actions, gymnasium.envs.classic_control
import matplotlib.pyplot, numba, pandas, pydantic.main, stable_baselines3
def show(script, world):
    if registry := sys.modules.get("warpzone.envs.registry"):
        registry.env_class(world)
        registry._load(registry.WORLDS[world].demonstrator)
    here = Path.cwd()
    files = [getattr(module, "__file__", None) for module in sys.modules.values()]
    files = [Path(file).resolve() for file in files if file]
    names = [str(f.relative_to(here)) for f in files if here / "warpzone" in f.parents]
    print(json.dumps([world, script.stem, [str(script), *names]]), flush=True)
for script in sorted(Path("stages").glob("*.py")):
    if not os.fork():
        runpy.run_path(str(script), run_name="loaded")
        # What a function imports, too.
        for node in ast.walk(ast.parse(script.read_text())):
            if isinstance(node, ast.ImportFrom):
                importlib.import_module(node.module)
        for world in sys.argv[1:]:
            if not os.fork():
                show(script, world)
                os._exit(0)
            os.wait()
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """By world and stage, the files that Python loads."""
    done = subprocess.run(
        [sys.executable, "-c", ORACLE, *WORLDS],
        cwd=ROOT,
        env=environment(ROOT),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = map(json.loads, done.stdout.splitlines())
    return {f"{world} {stage}": files for world, stage, files in found}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code, to be changed and put right again."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    return copy


@pytest.fixture
def written(source: Path, tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Write the fingerprints of the copy; return them by stage."""

    def written(world: str) -> dict[str, str]:
        scripts = sorted((source / "stages").glob("*.py"))
        write_fingerprints(scripts, tmp_path, modules_of(world))
        return {path.stem: path.read_text() for path in tmp_path.glob("*.txt")}

    return written


@pytest.mark.parametrize("world", WORLDS)
def test_a_stage_consists_of_the_modules_that_it_loads(
    world: str, written: Callable, loaded: dict[str, list[str]]
) -> None:
    for stage, text in written(world).items():
        names = [line.split("  ")[1] for line in text.splitlines()]
        found = [name for name in names if name.endswith(".py")]
        assert sorted(found) == sorted(loaded[f"{world} {stage}"]), stage


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS)
def test_a_changed_module_changes_the_stages_that_load_it_and_no_other(
    world: str, source: Path, written: Callable, loaded: dict[str, list[str]]
) -> None:
    before = written(world)
    assert sorted(before) == STAGES
    for name in MODULES:
        path = source / name
        text = path.read_text(encoding="utf-8")
        path.write_text(f"{text}\nCHANGED = 1\n", encoding="utf-8")
        after = written(world)
        path.write_text(text, encoding="utf-8")
        changed = [stage for stage in STAGES if after[stage] != before[stage]]
        wanted = [stage for stage in STAGES if name in loaded[f"{world} {stage}"]]
        assert changed == wanted, name
    assert written(world) == before


def test_the_oracle_sees_what_everyone_knows(loaded: dict[str, list[str]]) -> None:
    assert "warpzone/training/train.py" in loaded["mario train_rl"]
    assert "warpzone/training/train.py" not in loaded["mario evaluate"]
    assert "warpzone/report/figures.py" in loaded["mario compare"]
    assert "warpzone/envs/mario/env.py" in loaded["mario evaluate"]
    assert "warpzone/envs/mario/env.py" not in loaded["cartpole evaluate"]
    assert "warpzone/envs/registry.py" not in loaded["mario choose_start"]


def test_a_world_that_is_not_played_counts_for_no_stage(written: Callable) -> None:
    for text in written("cartpole").values():
        assert "/mario/" not in text
        assert "/nes/" not in text
    mario = written("mario")
    assert "warpzone/envs/mario/planner.py" in mario["collect_demos"]
    assert not any("cartpole" in text for text in mario.values())


def test_code_that_is_not_python_counts(source: Path, written: Callable) -> None:
    before = written("mario")
    path = source / "warpzone/envs/nes/fceumm.ll"
    text = path.read_text()
    path.write_text(f"{text}; changed\n")
    after = written("mario")
    path.write_text(text)
    reaching = [s for s in STAGES if "warpzone/envs/nes/fceumm.py" in before[s]]
    assert "evaluate" in reaching
    assert [stage for stage in STAGES if after[stage] != before[stage]] == reaching


def without_docstrings(tree: ast.Module) -> ast.Module:
    """Put another text in place of every docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0] if node.body else None
            match first:
                case ast.Expr(value=ast.Constant(value=str())):
                    first.value = ast.Constant("Something else.")
    return tree


def test_comments_docstrings_and_layout_count_for_nothing(
    source: Path, written: Callable
) -> None:
    before = written("mario")
    texts = {source / name: (source / name).read_text() for name in MODULES}
    for path, text in texts.items():
        # Unparsing drops all comments and lays the code out anew.
        code = ast.unparse(without_docstrings(ast.parse(text)))
        path.write_text(f"# Something else.\n\n\n{code}  # And this.\n")
        assert path.read_text() != text
    after = written("mario")
    for path, text in texts.items():
        path.write_text(text)
    assert after == before


def test_versions_of_packages_count(written: Callable) -> None:
    found = written("mario")
    for package in ("torch", "numpy", "stable_baselines3", "gymnasium"):
        assert f"  {package}\n" in found["train_rl"]
    assert "torch" not in found["choose_start"]


def test_a_script_that_is_gone_leaves_no_fingerprint(
    source: Path, tmp_path: Path
) -> None:
    (tmp_path / "gone.txt").write_text("old")
    write_fingerprints([source / "stages/compare.py"], tmp_path, [])
    assert [path.name for path in tmp_path.iterdir()] == ["compare.txt"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("from . import files\n", "line 1: write the whole module's name"),
        ("a = (\n", "was never closed"),
        (
            "def f():\n    import absent.part",
            "one.py: needs absent, which is not instal",
        ),
    ],
)
def test_a_module_whose_imports_cannot_be_known_is_refused(
    tmp_path: Path, code: str, reason: str
) -> None:
    (tmp_path / "stages").mkdir()
    script = tmp_path / "stages/one.py"
    script.write_text(code)
    with pytest.raises(InputError, match=reason) as caught:
        write_fingerprints([script], tmp_path / "code", [])
    assert len(str(caught.value).splitlines()) == 1


def test_every_stage_of_dvc_yaml_depends_on_the_code_of_its_script() -> None:
    stages = dict(read_yaml(ROOT / "dvc.yaml")["stages"])
    first = stages.pop("check_params")
    assert first["deps"] == ["params.yaml", "stages", "warpzone"]
    for name, stage in stages.items():
        python, script, *_ = stage["cmd"].split()
        assert python == "python"
        code = f"data/code/{Path(script).stem}.txt"
        assert [dep for dep in stage["deps"] if dep.startswith("data/code")] == [code]
        assert not [dep for dep in stage["deps"] if dep.startswith(FOLDERS)], name
