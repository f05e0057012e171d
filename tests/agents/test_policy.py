import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from warpzone.agents.policy import (
    PolicyAgent,
    action_logits,
    build_policy,
    describe_origin,
    find_device,
    load_policy,
    make_deterministic,
    save_policy,
)
from warpzone.core.errors import InputError
from warpzone.envs.mario.observation import ObsType
from warpzone.episodes.agent import RandomAgent


@pytest.fixture(scope="module")
def game(game):
    """Small pictures, for speed."""
    return game.model_copy(update={"height": 36, "width": 36})


@pytest.fixture
def policy(game):
    make_deterministic(seed=3)
    return build_policy(game)


@pytest.fixture
def folder(policy, game, tmp_path):
    save_policy(policy, tmp_path / "model", game, {"stage": "test"})
    return tmp_path / "model"


def pictures(rows, game):
    shape = (rows, game.frame_stack, game.height, game.width)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def generators(rows):
    return [np.random.default_rng(row) for row in range(rows)]


def fix_probabilities(policy, probabilities):
    """Make the policy choose so, whatever it sees."""
    with torch.no_grad():
        policy.action_net.weight.zero_()
        policy.action_net.bias.copy_(torch.tensor(probabilities).log())


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rewrite_weights(folder, change):
    """Change the tensors and keep the checksum right, as another program might."""
    path = folder / "policy.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    spec = json.loads((folder / "policy.json").read_text())
    spec["weights_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "policy.json").write_text(json.dumps(spec))


def test_equal_seeds_build_equal_policies(game, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_deterministic(seed)
        save_policy(build_policy(game), tmp_path / name, game, {})
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")


@pytest.mark.parametrize("height", [37, 38, 39, 60, 240])
def test_a_policy_reads_pictures_of_any_size(game, height):
    game = game.model_copy(update={"height": height, "width": 84, "frame_stack": 3})
    logits = action_logits(build_policy(game), pictures(2, game))
    assert logits.shape == (2, 7)
    assert np.isfinite(logits).all()


def test_a_new_policy_has_channels_last_weights(policy):
    first = policy.features_extractor.layers[0].weight
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert not first.is_contiguous()


def test_a_loaded_policy_is_the_saved_one_to_the_bit(policy, folder, game, tmp_path):
    loaded = load_policy(folder, game)
    seen = pictures(3, game)
    assert np.array_equal(action_logits(loaded, seen), action_logits(policy, seen))
    assert not loaded.training
    save_policy(loaded, tmp_path / "again", game, {"stage": "test"})
    assert content(tmp_path / "again") == content(folder)


def test_saving_again_leaves_other_files_alone(policy, folder, game):
    save_policy(policy, folder / "final", game, {})
    save_policy(policy, folder, game, {})
    assert sorted(path.name for path in folder.iterdir()) == [
        "final",
        "policy.json",
        "policy.safetensors",
    ]


def test_a_policy_may_play_another_level_for_another_reward(folder, game):
    reward = game.reward.model_copy(update={"death": -9.0})
    load_policy(folder, game.model_copy(update={"level": "1-2", "reward": reward}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("height", 96),
        ("width", 96),
        ("frame_stack", 3),
        ("crop_hud", False),
        ("action_set", "complex"),
        ("frame_skip", 5),
    ],
)
def test_a_policy_for_another_interface_is_refused(folder, game, name, value):
    message = f"made for {name} {getattr(game, name)!r}, params.yaml has {value!r}"
    with pytest.raises(InputError, match=message):
        load_policy(folder, game.model_copy(update={name: value}))


def test_a_missing_folder_is_named(game, tmp_path):
    with pytest.raises(
        InputError, match=r"nowhere/policy.json: cannot be read: No such"
    ):
        load_policy(tmp_path / "nowhere", game)


def test_missing_weights_are_named(folder, game):
    (folder / "policy.safetensors").unlink()
    with pytest.raises(InputError, match=r"policy\.safetensors: cannot be read"):
        load_policy(folder, game)


def test_truncated_weights_are_refused(folder, game):
    weights = folder / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match="is damaged"):
        load_policy(folder, game)


def test_a_changed_byte_in_the_weights_is_refused(folder, game):
    weights = bytearray((folder / "policy.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "policy.safetensors").write_bytes(weights)
    with pytest.raises(InputError, match="is damaged"):
        load_policy(folder, game)


def test_weights_that_are_not_safetensors_are_refused(folder, game):
    garbage = b"not safetensors"
    (folder / "policy.safetensors").write_bytes(garbage)
    spec = json.loads((folder / "policy.json").read_text())
    spec["weights_sha256"] = hashlib.sha256(garbage).hexdigest()
    (folder / "policy.json").write_text(json.dumps(spec))
    with pytest.raises(InputError, match="not in the safetensors format"):
        load_policy(folder, game)


def test_missing_and_unknown_tensors_are_both_named(folder, game):
    def rename(tensors):
        tensors["value.bias"] = tensors.pop("value_net.bias")

    rewrite_weights(folder, rename)
    message = r"lacks \['value_net.bias'\] and has unknown \['value.bias'\]"
    with pytest.raises(InputError, match=message):
        load_policy(folder, game)


def test_a_tensor_of_another_shape_is_refused(folder, game):
    rewrite_weights(folder, lambda t: t.update({"value_net.bias": torch.zeros(2)}))
    message = r"value_net.bias is torch.float32 \(2,\), the network needs .* \(1,\)"
    with pytest.raises(InputError, match=message):
        load_policy(folder, game)


def test_a_tensor_of_another_type_is_refused(folder, game):
    double = torch.zeros(1, dtype=torch.float64)
    rewrite_weights(folder, lambda t: t.update({"value_net.bias": double}))
    with pytest.raises(InputError, match=r"value_net.bias is torch.float64"):
        load_policy(folder, game)


def test_a_description_that_is_not_json_is_refused(folder, game):
    (folder / "policy.json").write_text("{")
    with pytest.raises(InputError, match=r"policy\.json: the file: Invalid JSON"):
        load_policy(folder, game)


def test_a_description_without_its_game_is_refused(folder, game):
    spec = json.loads((folder / "policy.json").read_text())
    del spec["game"]
    (folder / "policy.json").write_text(json.dumps(spec))
    with pytest.raises(InputError, match=r"policy\.json: game: Field required"):
        load_policy(folder, game)


def test_another_architecture_is_refused_with_both(folder, game):
    spec = json.loads((folder / "policy.json").read_text())
    spec["architecture"]["features_dim"] = 512
    (folder / "policy.json").write_text(json.dumps(spec))
    with pytest.raises(InputError, match=r"'features_dim': 512.*'features_dim': 256"):
        load_policy(folder, game)


@pytest.mark.parametrize("obs_type", ["pictures", "ram"])
def test_logits_do_not_depend_on_what_else_is_in_the_batch(game, obs_type: ObsType):
    make_deterministic(seed=3)
    policy = build_policy(game, obs_type)
    # Without padding, batches of 1, 2 and 3 are rounded differently.
    with torch.no_grad():
        policy.get_parameter("action_net.weight").mul_(100)
    ram = np.random.default_rng(0).integers(0, 256, (20, 2048), np.uint8)
    seen = {"pictures": pictures(20, game), "ram": ram}[obs_type]
    together = action_logits(policy, seen)
    for row in range(20):
        assert np.array_equal(action_logits(policy, seen[[row]])[0], together[row])
    assert np.array_equal(action_logits(policy, seen[::-1]), together[::-1])


def test_a_policy_that_sees_ram_survives_its_folder(game, tmp_path):
    make_deterministic(seed=3)
    policy = build_policy(game, "ram")
    save_policy(policy, tmp_path, game, {})
    ram = np.random.default_rng(0).integers(0, 256, (5, 2048), np.uint8)
    loaded = load_policy(tmp_path, game, "ram")
    assert np.array_equal(action_logits(loaded, ram), action_logits(policy, ram))
    values = [one.predict_values(torch.from_numpy(ram)) for one in (policy, loaded)]
    assert torch.equal(*values)
    # The game is the same, the network is not.
    with pytest.raises(InputError, match=r"Surroundings.*this version builds"):
        load_policy(tmp_path, game)


def test_a_greedy_agent_takes_the_likeliest_action(policy, game):
    fix_probabilities(policy, [0.1, 0.1, 0.1, 0.1, 0.1, 0.4, 0.1])
    actions = PolicyAgent(policy, temperature=0).act(pictures(3, game), generators(3))
    assert actions.dtype == np.int64
    assert actions.tolist() == [5, 5, 5]


def test_a_sampling_agent_draws_as_the_policy_says(policy, game):
    probabilities = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125, 0.0]
    fix_probabilities(policy, probabilities)
    rows = 640
    agent = PolicyAgent(policy, temperature=1)
    seen = np.zeros((rows, *pictures(1, game).shape[1:]), np.uint8)
    actions = agent.act(seen, generators(rows))
    shares = np.bincount(actions, minlength=7) / rows
    # Five standard errors of a share of one half.
    assert shares == pytest.approx(probabilities, abs=0.1)
    assert shares[6] == 0


def test_a_low_temperature_makes_the_likely_likelier(policy, game):
    fix_probabilities(policy, [0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.7])
    rows = 640
    seen = np.zeros((rows, *pictures(1, game).shape[1:]), np.uint8)
    actions = PolicyAgent(policy, temperature=0.5).act(seen, generators(rows))
    shares = np.bincount(actions, minlength=7) / rows
    # Squares over their sum: 4, 1 and 49 of 54. Five standard errors at most.
    assert shares[[0, 1, 6]] == pytest.approx([4 / 54, 1 / 54, 49 / 54], abs=0.06)


def test_an_agent_draws_where_the_picture_stands_still(policy, game):
    fix_probabilities(policy, [0.0, 0.5, 0.0, 0.0, 0.3, 0.2, 0.0])
    rows = 640
    seen = np.zeros((rows, *pictures(1, game).shape[1:]), np.uint8)
    # Every other screen scrolls.
    seen[1::2, -1] = pictures(1, game)[0, -1]
    agent = PolicyAgent(policy, temperature=0, idle_temperature=1)
    actions = agent.act(seen, generators(rows))
    assert set(actions[1::2]) == {1}
    shares = np.bincount(actions[::2], minlength=7) / (rows // 2)
    assert shares[[1, 4, 5]] == pytest.approx([0.5, 0.3, 0.2], abs=0.14)
    unaware = PolicyAgent(policy, temperature=0).act(seen, generators(rows))
    assert set(unaware) == {1}


def test_a_sampled_action_depends_on_its_own_generator_only(policy, game):
    seen = pictures(4, game)
    agent = PolicyAgent(policy, temperature=1)
    actions = agent.act(seen, generators(4))
    alone = [agent.act(seen[[i]], generators(4)[i : i + 1])[0] for i in range(4)]
    assert actions.tolist() == alone
    assert len(set(actions.tolist())) > 1


def test_a_random_agent_presses_everything_equally_often(game):
    actions = RandomAgent(7).act(np.zeros((1400, 1, 1, 1), np.uint8), generators(1400))
    assert actions.dtype == np.int64
    # Five standard deviations of a count around 200.
    assert np.bincount(actions, minlength=7) == pytest.approx([200] * 7, abs=66)


def test_the_device_is_a_gpu_only_where_one_is_wanted_and_there(monkeypatch):
    for has_gpu, auto in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has_gpu=has_gpu: has_gpu)
        assert find_device("cpu") == torch.device("cpu")
        assert find_device("auto") == torch.device(auto)
    assert find_device("cuda") == torch.device("cuda")


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"device = 'cuda'.*use cpu or auto"):
        find_device("cuda")


def test_the_origin_names_the_values_and_the_versions(game):
    origin = describe_origin("pretrain_bc", game.reward, seed=5)
    assert origin["stage"] == "pretrain_bc"
    assert origin["seed"] == 5
    assert origin["params"]["death"] == game.reward.death
    assert origin["versions"]["nes-py"] == "9.0.1"
    assert len(origin["rom_sha256"]) == 64
