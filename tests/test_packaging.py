"""`pip install .` brings the library and nothing else, and it works from any folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = ("pyproject.toml", "README.md", "LICENSE")
FOLDERS = ("warpzone", "stages", "benchmarks", "tools", "tests")

USE = """
import sys
from pathlib import Path

import gymnasium

# Nothing has imported warpzone so far.
env = gymnasium.make("warpzone.envs:warpzone/Mario-v0", level="1-2", emulator="fceumm")
_, info = env.reset(seed=1)
print(info["world"], info["stage"])

import warpzone
import warpzone.agents.model
import warpzone.training.train

print(Path(warpzone.__file__).is_relative_to(sys.prefix))
print(gymnasium.make("warpzone/CartPole-v0").reset(seed=1)[1]["is_success"])
"""


def test_stable_retro_is_no_dependency_of_the_package() -> None:
    # Its pyglet and nes-py's exclude each other: pip would refuse to install both.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = " ".join(project["project"]["dependencies"])
    assert "nes-py" in names
    assert "stable-retro" not in names


@pytest.mark.slow
def test_pip_install_brings_warpzone_alone_and_it_works_elsewhere(
    tmp_path: Path,
) -> None:
    source = tmp_path / "source"
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    # Finds what .venv has without being in it: its .pth file is not read.
    packages = sysconfig.get_path("purelib")
    environment = os.environ | {"PYTHONPATH": packages}
    venv = tmp_path / "venv"

    def run(*command: str) -> str:
        result = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    run(sys.executable, "-m", "venv", str(venv))
    python = str(venv / "bin" / "python")
    before = set(site_of(venv).iterdir())
    run(
        *(python, "-m", "pip", "install", "--disable-pip-version-check"),
        *("--no-deps", "--no-build-isolation", str(source)),
    )
    brought = {path.name for path in set(site_of(venv).iterdir()) - before}
    assert brought == {"warpzone", "warpzone-0.1.0.dist-info"}
    elsewhere = tmp_path / "elsewhere.py"
    elsewhere.write_text(USE, encoding="utf-8")
    assert run(python, str(elsewhere)).splitlines() == ["1 2", "True", "False"]


def site_of(venv: Path) -> Path:
    [site] = venv.glob("lib/python3.*/site-packages")
    return site
