"""The commands that the documents give to users."""

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from warpzone.core.params import load_params
from warpzone.envs.registry import check_env
from warpzone.training.algorithms import check_recipe

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]


def experiments() -> dict[str, list[str]]:
    """Return what documented experiments change, by their command."""
    found = {}
    for page in PAGES:
        blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
        lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
        for line in lines:
            words = shlex.split(line, comments=True)
            # A grid is several experiments.
            if words[:3] == ["dvc", "exp", "run"] and "--queue" not in words:
                found[line] = [value for flag, value in pairwise(words) if flag == "-S"]
    return found


EXPERIMENTS = experiments()


@pytest.mark.slow
@pytest.mark.parametrize("command", EXPERIMENTS)
def test_a_documented_experiment_has_params_that_can_be(
    command: str, tmp_path: Path
) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / path.name, path)
    assert EXPERIMENTS[command]
    apply_overrides(path, EXPERIMENTS[command])
    params = load_params(path)
    for name in params.run.recipes:
        check_recipe(name, params.recipes[name])
    check_env(params.env, params.world, params.noise)


def test_there_are_documented_experiments() -> None:
    assert len(EXPERIMENTS) > 20
