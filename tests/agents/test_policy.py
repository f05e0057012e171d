"""Networks, and agents that play by them."""

from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from warpzone.agents.networks import (
    FEATURES,
    LSTM,
    AsymmetricPolicy,
    Linear,
    PixelNetwork,
    StateNetwork,
)
from warpzone.agents.policy import (
    PolicyAgent,
    action_logits,
    build_policy,
    copy_critic,
    find_device,
    make_deterministic,
    respond,
    set_weights,
    stands_still,
    weights_of,
)
from warpzone.core.errors import InputError
from warpzone.envs.cartpole import CartPoleEnv
from warpzone.episodes.agent import RandomAgent

ACTIONS = 7


def spaces_of(height=36, width=36, frame_stack=4):
    return gym.spaces.Dict(
        {
            "pixels": gym.spaces.Box(0, 255, (frame_stack, height, width), np.uint8),
            "state": gym.spaces.Box(0, 255, (2048,), np.uint8),
        }
    )


def new_policy(key="pixels", seed=3, kind="actor-critic", **shape) -> Any:
    make_deterministic(seed)
    return build_policy("mario", spaces_of(**shape), ACTIONS, key, kind)


@pytest.fixture
def policy():
    return new_policy()


def frames(rows, height=36, width=36, frame_stack=4):
    shape = (rows, frame_stack, height, width)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def states(rows):
    return np.random.default_rng(0).integers(0, 256, (rows, 2048), np.uint8)


def generators(rows):
    return [np.random.default_rng(row) for row in range(rows)]


def actions_of(agent, seen, rngs):
    """Return what an agent does at the first step of episodes."""
    nothing = np.zeros((len(rngs), agent.memory_size), np.float32)
    [key] = agent.keys
    actions, memories = agent.act({key: seen}, nothing, rngs)
    assert memories.shape == nothing.shape
    return actions


def agent_of(policy, temperature, idle_temperature=None):
    return PolicyAgent(policy, "pixels", temperature, idle_temperature)


def fix_probabilities(policy, probabilities):
    """Make the policy choose so, whatever it sees."""
    with torch.no_grad():
        policy.action_net.weight.zero_()
        policy.action_net.bias.copy_(torch.tensor(probabilities).log())


@pytest.mark.parametrize("key", ["pixels", "state"])
def test_equal_seeds_build_equal_policies(key):
    first, second, other = (weights_of(new_policy(key, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("height", [36, 37, 38, 39, 60, 240])
def test_a_policy_reads_frames_of_any_size(height):
    shape = {"height": height, "width": 84, "frame_stack": 3}
    logits = action_logits(new_policy(**shape), "pixels", frames(2, **shape))
    assert logits.shape == (2, ACTIONS)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("kind", ["actor-critic", "recurrent"])
def test_the_actor_reads_its_key_and_the_critic_the_state(kind):
    for key, network in (("pixels", PixelNetwork), ("state", StateNetwork)):
        policy = new_policy(key, kind=kind)
        assert type(policy.pi_features_extractor.network) is network
        assert type(policy.vf_features_extractor.network) is StateNetwork
        # They share nothing.
        ours = set(map(id, policy.pi_features_extractor.parameters()))
        theirs = set(map(id, policy.vf_features_extractor.parameters()))
        assert not ours & theirs


@pytest.mark.parametrize("kind", ["actor-critic", "recurrent"])
def test_what_the_actor_does_not_see_changes_nothing_for_it(kind):
    policy = new_policy(kind=kind)
    seen = {"pixels": torch.from_numpy(frames(3))}
    seen["state"] = torch.from_numpy(states(3))
    # A new critic hardly tells states apart.
    with torch.no_grad():
        policy.value_net.weight.mul_(100)
    for key, stay in (("pixels", (False, True)), ("state", (True, False))):
        other = seen | {key: seen[key].flip(0)}
        logits = [policy.logits(one) for one in (seen, other)]
        values = [policy.predict_values(one) for one in (seen, other)]
        assert (torch.equal(*logits), torch.equal(*values)) == stay


def test_states_are_read_as_the_world_describes_them():
    with closing(CartPoleEnv()) as env:
        space = env.observation_space
    assert isinstance(space, gym.spaces.Box)
    network = StateNetwork(space, "cartpole")
    rows = np.array([[2.4, 2.0, 0.2095, 2.0], [0, 0, 0, -4.0]], np.float32)
    expected = network.layers(torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, -2]]))
    found = network(torch.from_numpy(rows))
    assert found.shape == (2, FEATURES)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_new_policy_has_channels_last_weights(policy):
    first = policy.pi_features_extractor.network.layers[0].weight
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert not first.is_contiguous()


def test_each_weight_is_named_once_and_can_be_set(policy):
    weights = weights_of(policy)
    assert list(weights) == sorted(weights)
    pointers = [weight.data_ptr() for weight in weights.values()]
    assert len(set(pointers)) == len(pointers)
    other = new_policy(seed=4)
    set_weights(other, weights)
    seen = frames(3)
    ours, theirs = (action_logits(one, "pixels", seen) for one in (policy, other))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["actor-critic", "recurrent"])
def test_a_critic_is_handed_on_and_the_actor_stays(kind):
    policy = new_policy(kind=kind)
    teacher = new_policy("state", seed=4)
    before = action_logits(policy, "pixels", frames(3))
    seen = {"state": torch.from_numpy(states(3)), "pixels": torch.from_numpy(frames(3))}
    with torch.no_grad():
        teacher.value_net.bias.fill_(2.0)
        assert not torch.equal(
            policy.predict_values(seen), teacher.predict_values(seen)
        )
        copy_critic(policy, teacher)
        assert torch.equal(policy.predict_values(seen), teacher.predict_values(seen))
    assert np.array_equal(action_logits(policy, "pixels", frames(3)), before)


@pytest.mark.parametrize("key", ["pixels", "state"])
def test_logits_do_not_depend_on_what_else_is_in_the_batch(key):
    policy = new_policy(key)
    # Without padding, batches of 1, 2 and 3 are rounded differently.
    with torch.no_grad():
        policy.get_parameter("action_net.weight").mul_(100)
    seen = {"pixels": frames(20), "state": states(20)}[key]
    together = action_logits(policy, key, seen)
    for row in range(20):
        alone = action_logits(policy, key, seen[[row]])[0]
        assert np.array_equal(alone, together[row])
    assert np.array_equal(action_logits(policy, key, seen[::-1]), together[::-1])


def memories_of(policy, rows):
    """Return what it remembers of some other observations."""
    seen, memories = frames(2 * rows)[rows:], np.zeros((rows, policy.MEMORY))
    return respond(policy, "pixels", seen, memories.astype(np.float32))[1]


def test_what_was_seen_before_decides_what_a_recurrent_policy_does():
    policy = new_policy(kind="recurrent")
    once = np.repeat(frames(1), 3, axis=0)
    first = action_logits(policy, "pixels", once)
    assert np.array_equal(first[0], first[1])
    with torch.no_grad():
        torch_first = policy.logits({"pixels": torch.from_numpy(once)})
    assert np.allclose(torch_first, first, atol=1e-6)
    memories = memories_of(policy, 3)
    assert memories.shape == (3, 2 * FEATURES)
    memories[1] = memories[0]
    logits, after = respond(policy, "pixels", once, memories)
    assert np.array_equal(logits[0], logits[1])
    assert not np.allclose(logits[0], first[0], atol=1e-4)
    assert not np.allclose(logits[0], logits[2], atol=1e-4)
    # It goes on remembering: what has just been seen adds to it.
    assert after.dtype == np.float32
    assert not np.allclose(after, memories, atol=1e-4)


@pytest.mark.parametrize("kind", ["actor-critic", "q", "quantiles"])
def test_all_others_remember_nothing(kind):
    policy = new_policy(kind=kind)
    logits, memories = respond(policy, "pixels", frames(3), np.zeros((3, 0)))
    assert memories.shape == (3, 0)
    assert np.array_equal(logits, action_logits(policy, "pixels", frames(3)))


def test_an_answer_does_not_depend_on_what_else_is_remembered():
    policy = new_policy(kind="recurrent")
    with torch.no_grad():
        policy.get_parameter("action_net.weight").mul_(100)
    seen, memories = frames(20), memories_of(policy, 20)
    logits, after = respond(policy, "pixels", seen, memories)
    for row in range(20):
        alone = respond(policy, "pixels", seen[[row]], memories[[row]])
        assert np.array_equal(alone[0][0], logits[row])
        assert np.array_equal(alone[1][0], after[row])
    turned = respond(policy, "pixels", seen[::-1], memories[::-1])
    assert np.array_equal(turned[0], logits[::-1])
    assert np.array_equal(turned[1], after[::-1])


def test_an_agent_hands_on_what_its_policy_remembers():
    policy = new_policy(kind="recurrent")
    memories = memories_of(policy, 3)
    agent = agent_of(policy, temperature=0)
    assert agent.memory_size == 2 * FEATURES
    actions, after = agent.act({"pixels": frames(3)}, memories, generators(3))
    logits, expected = respond(policy, "pixels", frames(3), memories)
    assert np.array_equal(actions, logits.argmax(axis=1))
    assert np.array_equal(after, expected)


def test_an_lstm_is_torch_s():
    torch.manual_seed(1)
    theirs, ours = torch.nn.LSTM(FEATURES, FEATURES), LSTM()
    for layer, suffix in ((ours.seen, "ih_l0"), (ours.remembered, "hh_l0")):
        theirs.get_parameter(f"weight_{suffix}").data = layer.weight.data
        theirs.get_parameter(f"bias_{suffix}").data = layer.bias.data
    # Three sequences of five steps.
    seen = torch.randn(5, 3, FEATURES)
    hidden, cell = torch.randn(2, 1, 3, FEATURES)
    found, (last, _) = theirs(seen, (hidden, cell))
    hidden, cell = hidden[0], cell[0]
    for step in range(5):
        hidden, cell = ours(ours.seen(seen[step]), hidden, cell)
        assert torch.allclose(hidden, found[step], atol=1e-5)
    # It learns through time, too.
    hidden.square().sum().backward()
    last.square().sum().backward()
    for layer, suffix in ((ours.seen, "ih_l0"), (ours.remembered, "hh_l0")):
        for part in ("weight", "bias"):
            expected = theirs.get_parameter(f"{part}_{suffix}").grad
            assert expected is not None
            found = getattr(layer, part).grad
            assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_greedy_agent_takes_the_likeliest_action(policy):
    fix_probabilities(policy, [0.1, 0.1, 0.1, 0.1, 0.1, 0.4, 0.1])
    agent = agent_of(policy, temperature=0)
    assert agent.keys == ("pixels",)
    actions = actions_of(agent, frames(3), generators(3))
    assert actions.dtype == np.int64
    assert actions.tolist() == [5, 5, 5]


def test_a_sampling_agent_draws_as_the_policy_says(policy):
    probabilities = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125, 0.0]
    fix_probabilities(policy, probabilities)
    rows = 640
    seen = np.zeros((rows, 4, 36, 36), np.uint8)
    actions = actions_of(agent_of(policy, 1), seen, generators(rows))
    shares = np.bincount(actions, minlength=7) / rows
    # Five standard errors of a share of one half.
    assert shares == pytest.approx(probabilities, abs=0.1)
    assert shares[6] == 0


def test_a_low_temperature_makes_the_likely_likelier(policy):
    fix_probabilities(policy, [0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.7])
    weights = agent_of(policy, 0.5).action_weights(frames(2))
    # Squares, the likeliest one's being 1.
    expected = [4 / 49, 1 / 49, 0, 0, 0, 0, 1]
    assert weights.dtype == np.float64
    assert weights == pytest.approx(np.array([expected, expected]), abs=1e-6)


def test_an_agent_draws_where_the_screen_stands_still(policy):
    fix_probabilities(policy, [0.0, 0.5, 0.0, 0.0, 0.3, 0.2, 0.0])
    rows = 640
    seen = np.zeros((rows, 4, 36, 36), np.uint8)
    # Every other screen scrolls.
    seen[1::2, -1] = frames(1)[0, -1]
    agent = agent_of(policy, temperature=0, idle_temperature=1)
    actions = actions_of(agent, seen, generators(rows))
    assert set(actions[1::2]) == {1}
    shares = np.bincount(actions[::2], minlength=7) / (rows // 2)
    assert shares[[1, 4, 5]] == pytest.approx([0.5, 0.3, 0.2], abs=0.14)
    unaware = actions_of(agent_of(policy, temperature=0), seen, generators(rows))
    assert set(unaware) == {1}


def test_a_screen_stands_still_where_less_than_a_twentieth_of_it_changes():
    stacks = np.full((5, 3, 10, 10), 100, np.uint8)
    # 4 and 5 of 100 pixels change by 17.
    stacks[1, -1].flat[:4] = stacks[2, -1].flat[:5] = 117
    # All of them by 16.
    stacks[3, -1] = 84
    # What is between the oldest and the newest frame does not count.
    stacks[4, 1] = 255
    assert stands_still(stacks).tolist() == [True, True, False, True, True]
    # Darker counts like brighter: no number wraps around.
    stacks[0, -1] = 0
    assert not stands_still(stacks)[0]


def test_of_a_single_frame_nobody_can_tell_whether_it_stands_still():
    assert stands_still(frames(3, frame_stack=1)).tolist() == [False] * 3
    policy = new_policy(frame_stack=1)
    fix_probabilities(policy, [0.4, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0])
    agent = agent_of(policy, 0, idle_temperature=1)
    seen = np.zeros((40, 1, 36, 36), np.uint8)
    assert set(actions_of(agent, seen, generators(40))) == {1}


def test_an_agent_that_sees_states_is_never_idle():
    policy = new_policy("state")
    fix_probabilities(policy, [0.4, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0])
    agent = PolicyAgent(policy, "state", 0, idle_temperature=1)
    seen = np.zeros((40, 2048), np.uint8)
    assert set(actions_of(agent, seen, generators(40))) == {1}


def test_a_sampled_action_depends_on_its_own_generator_only(policy):
    seen = frames(4)
    agent = agent_of(policy, temperature=1)
    actions = actions_of(agent, seen, generators(4))
    alone = [
        actions_of(agent, seen[[i]], generators(4)[i : i + 1])[0] for i in range(4)
    ]
    assert actions.tolist() == alone
    assert len(set(actions.tolist())) > 1


def test_another_policy_plays_in_the_same_way(policy):
    other = new_policy(seed=4)
    agent = agent_of(policy, 0.25, 2.0).playing(other)
    assert agent.policy is other
    assert (agent.key, agent.temperature, agent.idle_temperature) == ("pixels", 0.25, 2)


def test_a_random_agent_does_everything_equally_often():
    seen = np.zeros((1400, 1), np.uint8)
    actions = actions_of(RandomAgent(7), seen, generators(1400))
    assert actions.dtype == np.int64
    # Five standard deviations of a count around 200.
    assert np.bincount(actions, minlength=7) == pytest.approx([200] * 7, abs=66)


def test_a_linear_layer_has_second_derivatives():
    torch.manual_seed(1)
    ours = Linear(6, 5)
    theirs = torch.nn.Linear(6, 5)
    theirs.load_state_dict(ours.state_dict())
    found = []
    for layer in (ours, theirs):
        seen = torch.linspace(-1, 1, 24).reshape(4, 6).requires_grad_()
        loss = layer(torch.tanh(layer(seen)[:, :1]) * seen).square().sum()
        weights = [layer.weight, layer.bias]
        first = torch.autograd.grad(loss, weights, create_graph=True)
        squared = sum(one.square().sum() for one in first)
        assert isinstance(squared, torch.Tensor)
        found.append(torch.autograd.grad(squared, weights))
    for mine, other in zip(*found, strict=True):
        assert torch.allclose(mine, other, rtol=1e-4)


@pytest.mark.parametrize("kind", ["actor-critic", "recurrent"])
def test_a_policy_on_a_gpu_mixes_no_devices(monkeypatch, kind):
    # Fake tensors know their device and refuse to meet those of another one. They
    # cannot be laid out anew, and have no values to check.
    monkeypatch.setattr(AsymmetricPolicy, "to", lambda self, **_: self)
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    with FakeTensorMode():
        gpu = torch.device("cuda")
        with gpu:
            policy = build_policy("mario", spaces_of(), ACTIONS, "pixels", kind)
        seen = torch.ones((6, 4, 36, 36), dtype=torch.uint8, device=gpu)
        log_probs = policy.logits({"pixels": seen})
        assert log_probs.device.type == "cuda"
        assert log_probs.shape == (6, ACTIONS)


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
