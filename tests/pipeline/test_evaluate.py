"""The stage that measures an agent: what it writes, and which agents it refuses."""

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from stages import evaluate
from warpzone.agents.model import save_agent
from warpzone.agents.policy import PolicyAgent, build_policy, make_deterministic
from warpzone.core.errors import InputError
from warpzone.core.params import NoiseParams, Params, parse_params
from warpzone.envs.registry import env_class, make_env
from warpzone.episodes.recording import read_recordings
from warpzone.episodes.table import read_episodes

QUIET = NoiseParams(no_op_max=0, sticky_probability=0.0, sticky_unit="frame")

type Evaluate = Callable[..., tuple[Path, Params]]


@pytest.fixture
def evaluated(small_workspace: Params, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Evaluate an agent of CartPole, or of another world."""

    def evaluated(
        agent: str,
        noise: str = "default",
        env: str = "cartpole",
        task: str = "default",
        **changes: Any,
    ) -> tuple[Path, Params]:
        document = small_workspace.model_dump(mode="json") | changes
        document |= {"env": env}
        document["run"]["tasks"] = [task]
        document["envs"]["cartpole"]["kwargs"]["time_limit"] = 60
        params = parse_params(document, "params.yaml")
        Path("params.yaml").write_text(params.model_dump_json())
        cell = ["--task", task, "--agent", agent]
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *cell])
        evaluate.main()
        return Path("data/episodes", env, task, agent, f"{noise}.csv"), params

    return evaluated


def write_agent(folder: str, env: str, kwargs: dict[str, Any]) -> None:
    """Write an agent with random weights, as a training in such an env would."""
    make_deterministic(1)
    level = {"cartpole": "default", "mario": "1-1"}[env]
    keys = env_class(env).OBS_TYPES
    with closing(make_env(env, kwargs, level, QUIET, keys)) as made:
        assert isinstance(made.observation_space, gym.spaces.Dict)
        policy = build_policy(env, made.observation_space, len(made.codes), "state")
        save_agent(PolicyAgent(policy, "state", 1.0), Path(folder), made, {})


def test_it_writes_the_same_bytes_every_time(evaluated: Evaluate) -> None:
    table, params = evaluated("random")
    recordings = table.with_suffix(".jsonl")
    first = table.read_bytes(), recordings.read_bytes()
    evaluated("random")
    assert (table.read_bytes(), recordings.read_bytes()) == first
    cell = {"agent": "random", "task": "default", "noise": "default"}
    episodes = read_episodes(table, env_class("cartpole"), **cell)
    seeds = [recording.seed for recording in read_recordings(recordings)]
    # Purpose 3, seed 1, one after the other.
    assert episodes["seed"].tolist() == seeds == [300_100_000, 300_100_001, 300_100_002]
    assert len(episodes) == params.evaluate.noises["default"].episodes


def test_a_trained_agent_plays_as_its_folder_says(evaluated: Evaluate) -> None:
    kwargs = {"time_limit": 60}
    write_agent("models/cartpole/default/bc", "cartpole", kwargs)
    table, _ = evaluated("bc")
    first = table.read_bytes()
    evaluated("bc")
    assert table.read_bytes() == first
    random, _ = evaluated("random")
    assert random.read_text().replace("random,", "bc,") != first.decode()


def test_each_noise_is_a_table_of_its_own(evaluated: Evaluate) -> None:
    tables = [evaluated("random", noise)[0] for noise in ("default", "none")]
    cell = {"agent": "random", "task": "default"}
    noisy, quiet = (
        read_episodes(table, env_class("cartpole"), **cell, noise=table.stem)
        for table in tables
    )
    assert set(noisy["no_op_max"]) == {30}
    assert set(quiet["no_op_max"]) == {0}
    # The noises share their seeds.
    assert noisy["seed"].tolist() == quiet["seed"].tolist()


def test_only_where_a_noise_says_so_the_reference_plays(evaluated: Evaluate) -> None:
    versions = {}
    for noise in ("default", "none"):
        table, _ = evaluated("random", noise, "mario", "1-1")
        [version] = {
            recording.version
            for recording in read_recordings(table.with_suffix(".jsonl"))
        }
        versions[noise] = version.split()[0].rstrip(",")
    assert versions == {"default": "nes-py", "none": "fceumm"}


def test_the_script_balances_longer_than_chance(evaluated: Evaluate) -> None:
    table, _ = evaluated("script", "none")
    cell = {"agent": "script", "task": "default", "noise": "none"}
    script = read_episodes(table, env_class("cartpole"), **cell)
    table, _ = evaluated("random", "none")
    cell["agent"] = "random"
    random = read_episodes(table, env_class("cartpole"), **cell)
    assert sum(script["progress"]) > sum(random["progress"])


def test_a_noise_may_say_how_an_agent_plays(
    small_workspace: Params, evaluated: Evaluate
) -> None:
    """At 0 it takes the likeliest action; null is as its folder says, here 1."""
    write_agent("models/cartpole/default/bc", "cartpole", {"time_limit": 60})
    evaluate = small_workspace.model_dump(mode="json")["evaluate"]
    condition = evaluate["noises"]["none"]
    for name, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        evaluate["noises"][name] = condition | {"temperature": temperature}
    table, _ = evaluated("bc", "none", evaluate=evaluate)
    text = {
        name: table.with_name(f"{name}.csv").read_text().replace(f",{name},", ",,")
        for name in ("none", "greedy", "sampled")
    }
    assert text["none"] == text["sampled"] != text["greedy"]


def refusal(evaluated: Evaluate, agent: str, **changes: Any) -> str:
    """Evaluating an agent fails with one line, and nothing is written."""
    with pytest.raises(InputError) as caught:
        evaluated(agent, **changes)
    message = str(caught.value)
    assert "\n" not in message
    assert not Path("data/episodes").exists()
    return message


def test_a_missing_agent_is_named_beside_those_that_there_are(
    evaluated: Evaluate,
) -> None:
    assert refusal(evaluated, "bc-ppo-2") == (
        "no agent 'bc-ppo-2': models/cartpole/default/bc-ppo-2 is not there; "
        "params.yaml makes random, script, bc, bc-ppo-1, ppo-1"
    )


def test_an_agent_of_another_interface_is_refused(
    small_workspace: Params, evaluated: Evaluate
) -> None:
    kwargs = small_workspace.world.kwargs | {"frame_skip": 6}
    write_agent("models/mario/1-1/bc", "mario", kwargs)
    assert refusal(evaluated, "bc", env="mario", task="1-1") == (
        "models/mario/1-1/bc: the policy was made for frame_skip 6, params.yaml has 4: "
        "train it again"
    )


def test_an_agent_of_another_world_is_refused(
    small_workspace: Params, evaluated: Evaluate
) -> None:
    write_agent("models/cartpole/default/bc", "mario", small_workspace.world.kwargs)
    assert refusal(evaluated, "bc") == (
        "models/cartpole/default/bc: the policy was made for env 'mario', params.yaml "
        "has 'cartpole': train it again"
    )


def test_an_agent_with_a_damaged_folder_is_refused(evaluated: Evaluate) -> None:
    folder = Path("models/cartpole/default/bc")
    write_agent(str(folder), "cartpole", {"time_limit": 60})
    weights, spec = folder / "policy.safetensors", folder / "policy.json"
    whole = weights.read_bytes(), spec.read_bytes()
    weights.write_bytes(whole[0][:-1])
    assert "policy.safetensors: is damaged" in refusal(evaluated, "bc")
    weights.write_bytes(whole[0])
    spec.write_text("{")
    assert "policy.json: the file: " in refusal(evaluated, "bc")
    spec.unlink()
    assert "policy.json: cannot be read: No such file" in refusal(evaluated, "bc")
    spec.write_text(json.dumps(json.loads(whole[1]) | {"env": "chess"}))
    assert "env = 'chess'" in refusal(evaluated, "bc")
    spec.write_bytes(whole[1])
    evaluated("bc")


def test_an_unknown_task_is_told_with_those_that_there_are(
    evaluated: Evaluate,
) -> None:
    message = refusal(evaluated, "random", task="1-1")
    assert "run.tasks: envs.cartpole.tasks has no '1-1', it has default" in message
