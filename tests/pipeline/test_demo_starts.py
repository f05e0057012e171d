"""What a recipe starts from, through the stages that copy it and train from it."""

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stages import choose_start, train_rl
from warpzone.agents.model import load_agent
from warpzone.core.files import write_lines
from warpzone.core.params import Params, parse_params
from warpzone.envs.registry import make_env
from warpzone.episodes.recording import Recording
from warpzone.training.algorithms import check_recipe

CLONING = {"batch_size": 8, "learning_rate": 1e-3, "weight_decay": 0.0, "updates": 4}
LOGS = {"total_timesteps": 64, "n_envs": 2, "log_freq": 32, "eval_freq": 64}
LOGS |= {"n_eval_episodes": 1, "observation": "state"}
CHANGES: dict[str, Any] = {
    "demo-dqn": {"buffer_size": 64, "batch_size": 8, "gradient_steps": 1},
    "a2c": {"start": "demos", "cloning": CLONING},
}


@pytest.fixture
def train(small_workspace: Params, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Demonstrate CartPole, choose the start of a recipe, and train by it."""
    document: dict[str, Any] = small_workspace.model_dump(mode="json")
    document["env"] = "cartpole"
    document["run"] |= {"tasks": ["default"], "recipes": ["demo-dqn", "a2c"]}
    document["record_video"]["agents"] = ["random"]
    document["envs"]["cartpole"]["kwargs"]["time_limit"] = 30
    for name, changes in CHANGES.items():
        document["recipes"][name] |= LOGS | changes
    document["recipes"]["demo-dqn"]["demonstrations"]["updates"] = 5
    params = parse_params(document, "params.yaml")
    for name in CHANGES:
        check_recipe(name, params.recipes[name])
    Path("params.yaml").write_text(params.model_dump_json())
    kwargs = params.world.kwargs
    with closing(make_env("cartpole", kwargs, "default", params.noise, "state")) as env:
        env.reset(seed=1)
        while env.cause is None:
            env.step(1)
        line = Recording.of_episode(env, 1).to_json()
    write_lines(Path("data/demos/cartpole/default.jsonl"), [line])

    def train(recipe: str) -> Path:
        cell = ["--task", "default", "--recipe", recipe]
        monkeypatch.setattr(sys, "argv", ["choose_start.py", *cell])
        choose_start.main()
        monkeypatch.setattr(sys, "argv", ["train_rl.py", *cell, "--seed", "1"])
        train_rl.main()
        return Path("models/cartpole/default", f"{recipe}-1")

    return train


@pytest.mark.parametrize(
    ("recipe", "kind"), [("demo-dqn", "q"), ("a2c", "actor-critic")]
)
def test_any_recipe_may_start_from_the_demonstrations(
    train: Callable, recipe: str, kind: str
) -> None:
    folder = train(recipe)
    start = Path("models/cartpole/default/starts", recipe)
    demos = Path("data/demos/cartpole/default.jsonl").read_bytes()
    assert (start / "demos.jsonl").read_bytes() == demos
    assert (start / "start.txt").read_text() == "demos\n"
    assert kind == load_agent(folder).policy.KIND
    first = (folder / "policy.safetensors").read_bytes()
    train(recipe)
    assert (folder / "policy.safetensors").read_bytes() == first
    spec = json.loads((folder / "policy.json").read_text())
    assert ("demonstrations" in spec["origin"]["params"]) == (recipe == "demo-dqn")
    # sb3-contrib decides nothing here.
    assert "sb3-contrib" not in spec["origin"]["versions"]
    assert list(spec["spaces"]) == ["state"]
