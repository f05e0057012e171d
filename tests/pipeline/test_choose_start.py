"""What an agent starts from is copied, and it trains on that alone."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages import choose_start, train_rl
from warpzone.core.errors import InputError
from warpzone.core.params import Params, parse_params

CLEARS = Path(__file__).parents[1] / "data" / "clears.jsonl"
STARTS = Path("models/mario/1-1/starts/ppo")
TINY = {
    "total_timesteps": 96,
    "n_envs": 2,
    "n_steps": 24,
    "batch_size": 24,
    "log_freq": 48,
    "n_eval_episodes": 1,
}


@pytest.fixture
def change(
    document: dict[str, Any], small_workspace: Params, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Change the recipe ppo and keyword arguments of the env."""

    def change(recipe: dict[str, Any], **kwargs: Any) -> None:
        document["recipes"]["ppo"] |= TINY | recipe
        document["envs"]["mario"]["kwargs"] |= {"height": 36, "width": 36} | kwargs
        params = parse_params(document, "params.yaml")
        Path("params.yaml").write_text(params.model_dump_json())

    cell = ["--task", "1-1", "--recipe", "ppo", "--seed", "1"]
    monkeypatch.setattr(sys, "argv", ["stage.py", *cell])
    Path("data/demos/mario").mkdir(parents=True)
    shutil.copy(CLEARS, "data/demos/mario/1-1.jsonl")
    return change


def choose(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run choose_start; return the names of what it wrote."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", sys.argv[:-2])
        choose_start.main()
    return sorted(path.name for path in STARTS.iterdir())


BACKWARD = {"name": "backward", "success_rate": 0.5, "window": 1, "stages": 40}


def test_demonstrations_are_copied_where_a_recipe_needs_them(
    change: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    change({})
    assert choose(monkeypatch) == ["start.txt"]
    change({"curriculum": BACKWARD})
    assert choose(monkeypatch) == ["demos.jsonl", "start.txt"]
    assert (STARTS / "demos.jsonl").read_bytes() == CLEARS.read_bytes()


@pytest.mark.slow
def test_an_agent_trains_backward_along_what_was_copied(
    change: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs to the right, which clears from the last start."""
    change({"curriculum": BACKWARD}, emulator="nes-py", time_limit=1000)
    choose(monkeypatch)
    shutil.rmtree("data/demos")
    train_rl.main()
    curve = pd.read_csv("metrics/train_rl/mario/1-1/ppo-1.csv")
    assert curve["curriculum_stage"].is_monotonic_increasing
    assert curve["curriculum_stage"].iloc[0] == 0
    # Near the flag; from the level's start it would be 40.
    assert curve["progress"].iloc[1:].min() > 2500


def test_what_another_emulator_has_recorded_is_told(
    change: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    change({"curriculum": BACKWARD})
    choose(monkeypatch)
    with pytest.raises(InputError) as caught:
        train_rl.main()
    assert str(caught.value) == (
        "params.yaml: recipes.ppo.curriculum.name = 'backward' needs a demonstration "
        "of 1-1 by this emulator, and there is none: demonstrate it, or choose another "
        "curriculum"
    )
