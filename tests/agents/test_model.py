"""The folder of an agent, which needs nothing beside it to be played."""

import hashlib
import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from warpzone.agents.model import describe_origin, load_agent, save_agent
from warpzone.agents.policy import (
    PolicyAgent,
    action_logits,
    build_policy,
    make_deterministic,
    weights_of,
)
from warpzone.core.errors import InputError
from warpzone.core.params import CloningParams
from warpzone.envs.cartpole import CartPoleEnv
from warpzone.envs.mario import rewards
from warpzone.envs.mario.env import MarioEnv
from warpzone.episodes.play import play_episodes

BOTH = ("pixels", "state")


def mario_env(level="1-1", **changes):
    """Make an env with small frames, for speed."""
    kwargs = {"height": 36, "width": 36, "obs_type": BOTH} | changes
    return MarioEnv(level, **kwargs)


@pytest.fixture(scope="module")
def env():
    with closing(mario_env()) as env:
        yield env


def agent_for(
    env,
    key: str = "pixels",
    temperature: float = 0.5,
    idle_temperature: float | None = 1.0,
    seed: int = 3,
) -> PolicyAgent:
    make_deterministic(seed)
    policy = build_policy(env.WORLD, env.observation_space, len(env.codes), key)
    return PolicyAgent(policy, key, temperature, idle_temperature)


@pytest.fixture(scope="module")
def agent(env):
    return agent_for(env)


@pytest.fixture(scope="module")
def saved(agent, env, tmp_path_factory):
    """The agent's folder. To be copied."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_agent(agent, folder, env, {"stage": "test"})
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "model"))


def frames(rows):
    return np.random.default_rng(0).integers(0, 256, (rows, 4, 36, 36), np.uint8)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def spec_of(folder):
    return json.loads((folder / "policy.json").read_text())


def rewrite_spec(folder, **changes):
    (folder / "policy.json").write_text(json.dumps(spec_of(folder) | changes))


def rewrite_weights(folder, change):
    """Change the tensors and keep the checksum right, as another program might."""
    path = folder / "policy.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    rewrite_spec(folder, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def refused(folder, env=None):
    """Return the line in which an agent is refused."""
    with pytest.raises(InputError) as raised:
        load_agent(folder, env)
    said = str(raised.value)
    assert said.isprintable()
    return said


def test_equal_agents_are_equal_bytes(env, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_agent(agent_for(env, seed=seed), tmp_path / name, env, {})
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")


def test_a_loaded_agent_is_the_saved_one_to_the_bit(agent, folder, env, tmp_path):
    loaded = load_agent(folder, env)
    seen = frames(3)
    ours, theirs = (action_logits(a.policy, "pixels", seen) for a in (agent, loaded))
    assert np.array_equal(ours, theirs)
    assert not loaded.policy.training
    save_agent(loaded, tmp_path / "again", env, {"stage": "test"})
    assert content(tmp_path / "again") == content(folder)


@pytest.mark.parametrize("kind", ["q", "quantiles"])
@pytest.mark.parametrize("key", ["pixels", "state"])
def test_a_value_based_agent_survives_its_folder_to_the_bit(tmp_path, kind, key):
    with closing(mario_env(obs_type=(key,))) as env:
        make_deterministic(3)
        space: Any = env.observation_space
        actions = len(env.codes)
        policy = build_policy(env.WORLD, space, actions, key, kind)
        agent = PolicyAgent(policy, key, 0.5)
        save_agent(agent, tmp_path / "model", env, {})
        loaded = load_agent(tmp_path / "model", env, key)
        seen = np.random.default_rng(1).integers(
            0, 256, (5, *space[key].shape), np.uint8
        )
        save_agent(loaded, tmp_path / "again", env, {})
    assert np.array_equal(loaded.action_weights(seen), agent.action_weights(seen))
    assert content(tmp_path / "again") == content(tmp_path / "model")
    # The target network stays at home.
    assert spec_of(tmp_path / "model")["kind"] == kind
    assert list(spec_of(tmp_path / "model")["architecture"]) == ["values"]
    names = load_file(tmp_path / "model/policy.safetensors")
    assert not any("target" in name for name in names)
    # Each row depends on its observation only.
    alone = loaded.action_weights(seen[[2]])
    assert np.array_equal(alone[0], loaded.action_weights(seen)[2])


@pytest.mark.parametrize("key", ["pixels", "state"])
def test_a_recurrent_agent_survives_its_folder_to_the_bit(env, tmp_path, key):
    make_deterministic(3)
    kind, actions = "recurrent", len(env.codes)
    policy = build_policy(env.WORLD, env.observation_space, actions, key, kind)
    agent = PolicyAgent(policy, key, 0.5)
    save_agent(agent, tmp_path / "model", env, {})
    loaded = load_agent(tmp_path / "model", env, key)
    save_agent(loaded, tmp_path / "again", env, {})
    assert content(tmp_path / "again") == content(tmp_path / "model")
    assert spec_of(tmp_path / "model")["kind"] == kind
    assert list(spec_of(tmp_path / "model")["architecture"]) == ["actor", "critic"]
    # It plays as the one that was saved, whoever plays beside it.
    levels, seeds = ["1-1"], [1, 2, 3]

    def make(level):
        return mario_env(level, obs_type=(key,), emulator="fceumm", time_limit=12)

    table, recordings = play_episodes(agent, make, levels, seeds, 3)
    again, same = play_episodes(loaded, make, levels, seeds, 1)
    assert table.equals(again)
    assert recordings == same


def test_the_temperature_of_a_value_based_agent_divides_its_q_values(tmp_path):
    with closing(CartPoleEnv(obs_type=("state",))) as env:
        space: Any = env.observation_space
        policy = build_policy(env.WORLD, space, 2, "state", "q")
    seen = np.zeros((1, 4), np.float32)
    [[left, right]] = action_logits(policy, "state", seen)
    [weights] = PolicyAgent(policy, "state", 0.1).action_weights(seen)
    assert weights.min() == pytest.approx(np.exp(-abs(left - right) / 0.1), rel=1e-5)


def test_folders_of_actors_and_critics_do_not_say_so(folder, agent, env):
    assert "kind" not in spec_of(folder)
    rewrite_spec(folder, kind="actor-critic")
    assert load_agent(folder, env).policy.KIND == "actor-critic"


def test_a_folder_of_another_kind_is_refused(folder):
    rewrite_spec(folder, kind="q")
    assert "architecture is {'actor': " in refused(folder)
    rewrite_spec(folder, kind="sac")
    assert "policy.json: kind = 'sac': Input should be 'actor-critic', " in refused(
        folder
    )


def test_an_agent_is_loaded_without_params_or_an_env(
    agent, folder, tmp_path, monkeypatch
):
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    monkeypatch.chdir(nowhere)
    loaded = load_agent(folder)
    assert (loaded.key, loaded.keys) == ("pixels", ("pixels",))
    assert np.array_equal(
        loaded.action_weights(frames(5)), agent.action_weights(frames(5))
    )


@pytest.mark.parametrize("temperatures", [(0.0, None), (0.5, 1.0), (0.0, 0.25)])
def test_how_an_agent_plays_is_stored_with_it(env, tmp_path, temperatures):
    agent = agent_for(env, "pixels", *temperatures)
    save_agent(agent, tmp_path, env, {})
    assert spec_of(tmp_path)["temperature"] == temperatures[0]
    assert spec_of(tmp_path)["idle_temperature"] == temperatures[1]
    loaded = load_agent(tmp_path)
    assert (loaded.temperature, loaded.idle_temperature) == temperatures
    # A screen that scrolls, and one that stands still.
    seen = frames(2)
    seen[1] = seen[1, :1]
    assert np.array_equal(loaded.action_weights(seen), agent.action_weights(seen))
    # Only the likeliest action has a weight where the temperature is 0.
    is_greedy = [(row > 0).sum() == 1 for row in loaded.action_weights(seen)]
    moving, idle = temperatures
    assert is_greedy == [moving == 0, (moving if idle is None else idle) == 0]


def test_an_agent_of_a_world_without_pixels_survives_its_folder(tmp_path):
    with closing(CartPoleEnv(obs_type=("state",))) as env:
        agent = agent_for(env, "state", 0.5, None)
        save_agent(agent, tmp_path, env, {})
        loaded = load_agent(tmp_path, env)
        table, recordings = play_episodes(
            loaded, lambda _: CartPoleEnv(obs_type=("state",)), ["default"], [1, 2], 2
        )
        again, same = play_episodes(
            agent, lambda _: CartPoleEnv(obs_type=("state",)), ["default"], [1, 2], 1
        )
    assert table.equals(again)
    assert recordings == same


def test_an_agent_that_sees_states_survives_its_folder(env, tmp_path):
    agent = agent_for(env, "state")
    save_agent(agent, tmp_path, env, {})
    seen = np.random.default_rng(0).integers(0, 256, (5, 2048), np.uint8)
    loaded = load_agent(tmp_path, env)
    ours, theirs = (action_logits(a.policy, "state", seen) for a in (agent, loaded))
    assert np.array_equal(ours, theirs)
    tensors = {"state": torch.from_numpy(seen)}
    policies: list[Any] = [agent.policy, loaded.policy]
    values = [policy.predict_values(tensors) for policy in policies]
    assert torch.equal(*values)


def test_saving_again_leaves_other_files_alone(agent, folder, env):
    save_agent(agent, folder / "final", env, {})
    save_agent(agent, folder, env, {})
    assert sorted(path.name for path in folder.iterdir()) == [
        "final",
        "policy.json",
        "policy.safetensors",
    ]


@pytest.mark.parametrize(
    ("level", "changes"),
    [
        ("1-2", {}),
        ("1-1", {"reward": {"death": -9.0, "coin": 1.0}}),
        ("1-1", {"time_limit": 7, "stuck_limit": 0}),
        ("1-1", {"no_op_max": 0, "sticky_probability": 0.0}),
        ("1-1", {"emulator": "nes-py"}),
        ("1-1", {"obs_type": ("pixels",)}),
    ],
)
def test_an_agent_may_play_where_the_same_is_seen_and_done(folder, level, changes):
    with closing(mario_env(level, **changes)) as env:
        load_agent(folder, env)


def test_an_agent_stays_readable_when_a_reward_is_added(folder, monkeypatch):
    monkeypatch.setitem(rewards.TERMS, "style", 1.0)
    monkeypatch.setitem(rewards.DEFAULTS, "style", 1.0)
    with closing(mario_env(reward={"style": 2.0})) as env:
        load_agent(folder, env)
    load_agent(folder)


@pytest.mark.parametrize(
    ("name", "value", "made_for"),
    [
        ("height", 96, 36),
        ("width", 96, 36),
        ("frame_stack", 3, 4),
        ("crop_hud", False, True),
        ("show_buttons", False, True),
        ("frame_skip", 5, 4),
        ("action_set", "right_only", "simple"),
    ],
)
def test_an_agent_for_another_interface_is_refused(folder, name, value, made_for):
    message = f"made for {name} {made_for!r}, params.yaml has {value!r}: train it again"
    with (
        closing(mario_env(**{name: value})) as env,
        pytest.raises(InputError, match=message),
    ):
        load_agent(folder, env)


def test_an_agent_that_sees_something_else_is_refused(env, folder):
    message = "made for observation 'pixels', params.yaml has 'state': train it again"
    for place in (env, None):
        with pytest.raises(InputError, match=message):
            load_agent(folder, place, "state")
        assert load_agent(folder, place, "pixels").key == "pixels"


def test_an_agent_of_another_world_is_refused(folder):
    message = "made for env 'mario', params.yaml has 'cartpole': train it again"
    with (
        closing(CartPoleEnv(obs_type=("state",))) as env,
        pytest.raises(InputError, match=message),
    ):
        load_agent(folder, env)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        InputError, match=r"nowhere/policy.json: cannot be read: No such"
    ):
        load_agent(tmp_path / "nowhere")


def test_missing_weights_are_named(folder):
    (folder / "policy.safetensors").unlink()
    with pytest.raises(InputError, match=r"policy\.safetensors: cannot be read"):
        load_agent(folder)


def test_truncated_weights_are_refused(folder):
    weights = folder / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match="is damaged"):
        load_agent(folder)


def test_a_changed_byte_in_the_weights_is_refused(folder):
    weights = bytearray((folder / "policy.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "policy.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="is damaged"):
        load_agent(folder)


def test_weights_that_are_not_safetensors_are_refused(folder):
    garbage = b"not safetensors"
    (folder / "policy.safetensors").write_bytes(garbage)
    rewrite_spec(folder, weights_sha256=hashlib.sha256(garbage).hexdigest())
    with pytest.raises(InputError, match="not in the safetensors format"):
        load_agent(folder)


def test_missing_and_unknown_tensors_are_both_named(folder):
    def rename(tensors):
        tensors["value.bias"] = tensors.pop("value_net.bias")

    rewrite_weights(folder, rename)
    message = r"holds {'value.bias': .*}, the network needs {'value_net.bias': .*}"
    with pytest.raises(InputError, match=message):
        load_agent(folder)


def test_a_tensor_of_another_shape_is_refused(folder):
    rewrite_weights(folder, lambda t: t.update({"value_net.bias": torch.zeros(2)}))
    message = r"holds {'value_net.bias': 'torch.float32 \(2,\)'}, .* needs .* \(1,\)"
    with pytest.raises(InputError, match=message):
        load_agent(folder)


def test_a_tensor_of_another_type_is_refused(folder):
    double = torch.zeros(1, dtype=torch.float64)
    rewrite_weights(folder, lambda t: t.update({"value_net.bias": double}))
    with pytest.raises(InputError, match=r"'value_net.bias': 'torch.float64"):
        load_agent(folder)


def test_a_description_that_is_not_json_is_refused(folder):
    (folder / "policy.json").write_text("{")
    with pytest.raises(InputError, match=r"policy\.json: the file: Invalid JSON"):
        load_agent(folder)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def remove(path):
    path.unlink()


def put_a_folder_there(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", ["policy.json", "policy.safetensors"])
@pytest.mark.parametrize(
    "damage", [cut_off, empty, flip_a_bit, remove, put_a_folder_there]
)
def test_a_damaged_folder_is_told_in_a_line_with_the_file(folder, name, damage):
    damage(folder / name)
    said = refused(folder)
    assert said.startswith(f"{folder / name}: ")


@pytest.mark.parametrize("document", ["[]", "7", "null", '"policy"', "{}", "[" * 9999])
def test_a_description_that_is_no_object_is_refused(folder, document):
    (folder / "policy.json").write_text(document)
    assert refused(folder).startswith(f"{folder}/policy.json: ")


ESCAPE = "\x1b[2J\n"


@pytest.mark.parametrize(
    "changes",
    [
        {ESCAPE: 1},
        {"env": ESCAPE},
        {"observation": ESCAPE},
        {"weights_sha256": ESCAPE},
        {"architecture": {ESCAPE: []}},
        {"spaces": {ESCAPE: ["uint8", [4, 36, 36]], "state": ["uint8", [2048]]}},
        {"spaces": {ESCAPE: ["uint7", [4, 36, 36]]}},
    ],
)
def test_an_escape_sequence_in_a_description_is_shown_escaped(folder, changes):
    rewrite_spec(folder, **changes)
    assert "x1b[2J" in refused(folder)


def test_an_escape_sequence_in_an_interface_is_shown_escaped(env, folder):
    rewrite_spec(folder, interface=spec_of(folder)["interface"] | {ESCAPE: 1})
    assert r"made for \x1b[2J\n 1, params.yaml has None" in refused(folder, env)


def test_an_escape_sequence_in_a_tensor_s_name_is_shown_escaped(folder):
    rewrite_weights(folder, lambda tensors: tensors.update({ESCAPE: torch.zeros(1)}))
    assert "x1b[2J" in refused(folder)


def test_an_escape_sequence_in_a_tensor_s_type_is_shown_escaped(folder):
    path = folder / "policy.safetensors"
    escaped = json.dumps("F\x1b").encode()
    path.write_bytes(path.read_bytes().replace(b'"F32"', escaped, 1))
    rewrite_spec(folder, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    refused(folder)


@pytest.mark.parametrize(
    "key", ["env", "interface", "spaces", "actions", "observation", "architecture"]
)
def test_a_description_that_lacks_something_is_refused(folder, key):
    spec = spec_of(folder)
    del spec[key]
    (folder / "policy.json").write_text(json.dumps(spec))
    with pytest.raises(InputError, match=rf"policy\.json: {key}: Field required"):
        load_agent(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"env": "tetris"},
        {"observation": "sound"},
        {"actions": 0},
        {"actions": -3},
        {"spaces": {"pixels": ["uint7", [4, 36, 36]], "state": ["uint8", [2048]]}},
        {"spaces": {"pixels": ["uint8", [4, 3, 36]], "state": ["uint8", [2048]]}},
        {"spaces": {"pixels": ["uint8", [4, -36, 36]], "state": ["uint8", [2048]]}},
        {"spaces": {"pixels": ["uint8", [4, 36, 36]]}},
        {"spaces": {"pixels": ["uint8", [4, 36, 36]], "state": ["uint8", [7]]}},
        {"spaces": {"pixels": ["uint8", [4, 4096, 4096]], "state": ["uint8", [2048]]}},
        {"temperature": -1.0},
        {"idle_temperature": -1.0},
    ],
)
def test_a_description_of_no_agent_is_refused_in_a_line(folder, changes):
    rewrite_spec(folder, **changes)
    with pytest.raises(InputError, match=r"policy\.json: .*train it again") as raised:
        load_agent(folder)
    assert "\n" not in str(raised.value)


def test_another_architecture_is_refused_with_both(folder):
    layers = spec_of(folder)["architecture"]
    assert layers["critic"] == ["Linear", "Tanh", "Linear", "Tanh"]
    rewrite_spec(folder, architecture=layers | {"critic": ["Linear", "ReLU"]})
    message = r"'critic': \['Linear', 'ReLU'\].*'critic': \['Linear', 'Tanh'.*again"
    with pytest.raises(InputError, match=message):
        load_agent(folder)


def test_the_weights_of_the_folder_are_the_policy_s(agent, folder):
    stored = load_file(folder / "policy.safetensors")
    weights = weights_of(agent.policy)
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[name], weights[name]) for name in stored)


def test_the_origin_names_the_values_and_the_versions():
    params = CloningParams(
        batch_size=7, learning_rate=0.5, weight_decay=0.25, updates=9
    )
    origin = describe_origin("pretrain_bc", "mario", "1-1", params, seed=5)
    assert origin["stage"] == "pretrain_bc"
    assert origin["task"] == "1-1"
    assert origin["seed"] == 5
    assert origin["params"] == params.model_dump()
    assert origin["versions"]["nes-py"] == "9.0.1"
    assert len(origin["rom_sha256"]) == 64
    other = describe_origin("pretrain_bc", "cartpole", "default", params, seed=5)
    assert other["rom_sha256"] is None
