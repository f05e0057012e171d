"""What a recipe starts from is copied, and what does not fit is told at once."""

import runpy
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from stages.check_params import check_starts
from tools.pipeline_copy import write_yaml
from warpzone.agents.model import describe_origin, load_agent, save_agent
from warpzone.agents.policy import PolicyAgent, build_policy, weights_of
from warpzone.core.errors import InputError
from warpzone.core.params import Params, parse_params
from warpzone.envs.registry import make_env, observed_keys

ROOT = Path(__file__).resolve().parents[2]
START = {"model": "data/starts/mine"}


@pytest.fixture
def cartpole(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Return small params of CartPole's, in whose folder the test is."""
    monkeypatch.chdir(tmp_path)
    document |= {"env": "cartpole"}
    document["run"]["tasks"] = ["default"]
    # The others may be what they like.
    document["recipes"]["ppo"]["start"] = {"model": "data/starts/nobody"}
    document["recipes"]["bc-ppo"] |= {
        "start": START,
        "total_timesteps": 32,
        "n_envs": 2,
        "n_steps": 16,
        "batch_size": 16,
        "restart_probability": 0.0,
        "log_freq": 32,
        "eval_freq": 32,
        "n_eval_episodes": 1,
        "goal_success_rate": 1.0,
    }
    return document


def parse(document: dict[str, Any]) -> Params:
    return parse_params(document, "params.yaml")


def save_start(document: dict[str, Any], seed: int = 1) -> PolicyAgent:
    """Write a new agent of the env to data/starts/mine, and return it."""
    params = parse(document)
    recipe = params.recipes["bc-ppo"]
    level = next(iter(params.world.tasks.values()))[0]
    keys = observed_keys(params.env, recipe.observation)
    with closing(
        make_env(params.env, params.world.kwargs, level, params.noise, keys)
    ) as env:
        spaces: Any = env.observation_space
        policy = build_policy(params.env, spaces, len(env.codes), keys[0])
        agent = PolicyAgent(policy, keys[0], 0.0)
        origin = describe_origin("train_rl", params.env, level, recipe, seed)
        save_agent(agent, Path(START["model"]), env, origin)
    return agent


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        check_starts(parse(document))
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    return said


@pytest.fixture
def run_stage(cartpole: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Run a stage with what the params are then."""

    def run_stage(name: str, *arguments: str) -> None:
        write_yaml(Path("params.yaml"), cartpole)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(ROOT / "stages" / name), run_name="__main__")

    return run_stage


def test_an_agent_is_trained_on(run_stage: Callable, cartpole: dict[str, Any]) -> None:
    start = save_start(cartpole)
    check_starts(parse(cartpole))
    # It hardly moves.
    cartpole["recipes"]["bc-ppo"] |= {"learning_rate": 1e-9, "ema_decay": 0.0}
    cartpole["recipes"]["bc-ppo"] |= {"final_learning_rate": 1e-9}
    cell = ("--task", "default", "--recipe", "bc-ppo")
    run_stage("choose_start.py", *cell)
    folder = Path("models/cartpole/default/starts/bc-ppo")
    names = {path.name for path in folder.iterdir()}
    assert names == {"policy.json", "policy.safetensors", "start.txt"}
    assert (folder / "start.txt").read_text() == "data/starts/mine\n"
    run_stage("train_rl.py", *cell, "--seed", "1")
    trained = load_agent(Path("models/cartpole/default/bc-ppo-1"))
    # Both the actor and the critic.
    weights = weights_of(trained.policy)
    for name, weight in weights_of(start.policy).items():
        assert (weight - weights[name]).abs().max() < 1e-6, name
    assert any("vf_" in name for name in weights)


def test_demonstrations_are_copied_where_they_are_needed(
    run_stage: Callable, cartpole: dict[str, Any]
) -> None:
    learning = {"batch_size": 16, "learning_rate": 1e-3, "updates": 4}
    gail = {"weight": 1.0, "env_weight": 0.0, "weight_decay": 0.0} | learning
    cartpole["recipes"]["bc-ppo"] |= {"start": "scratch", "gail": gail}
    cartpole["collect_demos"] |= {"episodes": 2, "max_tries": 8}
    cartpole["envs"]["cartpole"]["kwargs"]["time_limit"] = 30
    Path("data/recordings").mkdir(parents=True)
    cell = ("--task", "default", "--recipe", "bc-ppo")
    run_stage("collect_demos.py", "--task", "default")
    run_stage("choose_start.py", *cell)
    folder = Path("models/cartpole/default/starts/bc-ppo")
    demos = Path("data/demos/cartpole/default.jsonl").read_bytes()
    assert (folder / "demos.jsonl").read_bytes() == demos
    assert (folder / "start.txt").read_text() == "scratch\n"
    run_stage("train_rl.py", *cell, "--seed", "1")
    curve = Path("metrics/train_rl/cartpole/default/bc-ppo-1.csv").read_text()
    assert "discriminator_accuracy" in curve.splitlines()[0]
    del cartpole["recipes"]["bc-ppo"]["gail"]
    (folder / "demos.jsonl").unlink()
    run_stage("choose_start.py", *cell)
    assert [path.name for path in folder.iterdir()] == ["start.txt"]


def test_an_agent_that_is_not_there_is_told_with_how_to_get_one(
    cartpole: dict[str, Any],
) -> None:
    said = refusal(cartpole)
    assert said == (
        "params.yaml: recipes.bc-ppo.start: data/starts/mine/policy.json is not there: "
        "dvc get . models/ENV/TASK/AGENT --rev REVISION -o data/starts/mine"
    )
    Path("data/starts/mine").mkdir(parents=True)
    assert refusal(cartpole) == said


@pytest.mark.parametrize("start", ["bc", START])
def test_a_teacher_starts_from_no_other_agent(
    cartpole: dict[str, Any], start: object
) -> None:
    teacher = cartpole["recipes"]["teacher"]
    cartpole["recipes"]["bc-ppo"]["start"] = "bc"
    teacher["start"] = start
    del teacher["cloning"]
    assert refusal(cartpole) == (
        f"params.yaml: recipes.teacher.start = {start!r}: write demos or scratch: the "
        "teacher comes before any other agent"
    )


def test_a_damaged_agent_is_told(cartpole: dict[str, Any]) -> None:
    save_start(cartpole)
    Path("data/starts/mine/policy.safetensors").write_bytes(b"nothing")
    said = refusal(cartpole)
    assert said.startswith(
        "params.yaml: recipes.bc-ppo.start: data/starts/mine/policy."
    )
    assert "is damaged or not the one that policy.json describes" in said


def test_an_agent_of_another_world_is_told_with_both(
    cartpole: dict[str, Any], document: dict[str, Any]
) -> None:
    save_start(cartpole)
    document |= {"env": "mario"}
    document["run"]["tasks"] = ["1-1"]
    assert refusal(document).startswith(
        "params.yaml: recipes.bc-ppo.start: data/starts/mine: the policy was made for "
    )
    document["recipes"]["bc-ppo"]["observation"] = "state"
    assert refusal(document) == (
        "params.yaml: recipes.bc-ppo.start: data/starts/mine: the policy was made for "
        "env 'cartpole', params.yaml has 'mario': train it again"
    )


@pytest.mark.parametrize(
    ("changes", "observation", "differ"),
    [
        ({}, "state", "observation 'pixels', params.yaml has 'state'"),
        (
            {"action_set": "complex"},
            "pixels",
            "action_set 'simple', params.yaml has 'complex'",
        ),
        ({"frame_skip": 5}, "pixels", "frame_skip 4, params.yaml has 5"),
        ({"height": 84}, "pixels", "height 52, params.yaml has 84"),
    ],
)
def test_an_agent_that_sees_or_does_something_else_is_told_with_both(
    document: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    observation: str,
    differ: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    document["recipes"]["bc-ppo"]["start"] = START
    save_start(document)
    check_starts(parse(document))
    document["envs"]["mario"]["kwargs"] |= changes
    document["recipes"]["bc-ppo"]["observation"] = observation
    assert refusal(document) == (
        "params.yaml: recipes.bc-ppo.start: data/starts/mine: the policy was made for "
        f"{differ}: train it again"
    )


def test_an_agent_of_another_kind_is_told_with_both(cartpole: dict[str, Any]) -> None:
    save_start(cartpole)
    cartpole["recipes"]["dqn"]["start"] = START
    cartpole["run"]["recipes"] = ["bc-ppo", "dqn"]
    assert refusal(cartpole) == (
        "params.yaml: recipes.dqn.start: the start is a policy of the kind "
        "actor-critic, dqn trains one of the kind q: start from another one"
    )


@pytest.mark.parametrize(
    "path", ["models/mario/1-1/bc", "/data/starts/x", "data/starts/", "data/starts/a/b"]
)
def test_a_place_that_dvc_does_not_see_is_refused(
    document: dict[str, Any], path: str
) -> None:
    document["recipes"]["bc-ppo"]["start"] = {"model": path}
    with pytest.raises(InputError) as caught:
        parse(document)
    assert str(caught.value) == (
        f"params.yaml: recipes.bc-ppo.start.model = {path!r}: write data/starts/NAME, "
        "see data/starts/README.md"
    )


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ("clone", " = 'clone': write scratch, demos, bc, or {model: data/starts/NAME}"),
        (3, " = 3: write scratch, demos, bc, or {model: data/starts/NAME}"),
        ({}, " lacks ['model']"),
        ({"modle": "data/starts/x"}, " lacks ['model'] and has unknown ['modle']"),
    ],
)
def test_an_unknown_start_is_told_with_the_known_ones(
    document: dict[str, Any], start: object, said: str
) -> None:
    document["recipes"]["bc-ppo"]["start"] = start
    with pytest.raises(InputError) as caught:
        parse(document)
    assert str(caught.value).startswith(f"params.yaml: recipes.bc-ppo.start{said}")
