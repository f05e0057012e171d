"""Behavioural cloning."""

from contextlib import closing
from functools import partial

import numpy as np
import pytest
import torch

from warpzone.agents.model import save_agent
from warpzone.agents.policy import PolicyAgent, action_logits
from warpzone.core.errors import InputError
from warpzone.core.params import CloningParams
from warpzone.episodes.recording import Recording, watch
from warpzone.training.bc import (
    Cloner,
    Transitions,
    join,
    measure,
    split_episodes,
    watch_all,
)
from warpzone.training.checkpoint import Checkpoint

ACTIONS = 7


@pytest.fixture
def recordings(tiny_mario):
    with closing(tiny_mario.but(time_limit=100).make()) as env:
        return [record(env, seed) for seed in range(4)]


def record(env, seed):
    env.reset(seed=seed)
    for _ in range(10 + seed):
        env.step(3)
    return Recording.of_episode(env, seed)


def cloner_of(policy, key="pixels", seed=0, **changes):
    values = {"batch_size": 16, "learning_rate": 1e-3, "weight_decay": 1e-4}
    cloning = CloningParams(**values | {"updates": 1} | changes)
    agent = PolicyAgent(policy, key, 0.0)
    return Cloner(agent, cloning, np.random.default_rng(seed))


def weights_of(policy):
    return torch.cat([p.detach().flatten() for p in policy.action_net.parameters()])


def episode_of(number, length=5):
    return Transitions(
        np.full((length, 1, 36, 36), number, np.uint8), certain(np.full(length, number))
    )


def certain(actions):
    return np.eye(10, dtype=np.float32)[actions]


def readable(rows, seed):
    """Pairs whose frame tells the action: its upper half is lit for 1, else dark."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 2, rows)
    observations = rng.integers(0, 50, (rows, 1, 36, 36), np.uint8)
    observations[actions == 1, :, :18] += 200
    return Transitions(observations, certain(actions)[:, :ACTIONS])


def test_watching_side_by_side_is_watching_one_by_one(recordings, tiny_mario):
    watched = []
    episodes = watch_all(
        recordings,
        tiny_mario.kwargs,
        "pixels",
        ACTIONS,
        "demos.jsonl",
        lambda: watched.append(1),
    )
    assert [len(episode) for episode in episodes] == [10, 11, 12, 13]
    assert len(watched) == 4
    for recording, episode in zip(recordings, episodes, strict=True):
        seen, actions = watch(recording, tiny_mario.kwargs, ("pixels",), "here")
        assert np.array_equal(episode.observations, seen["pixels"])
        assert np.array_equal(episode.actions, actions)
        assert np.array_equal(episode.probabilities, np.eye(ACTIONS)[actions])
        assert actions.tolist() == [3] * len(episode)


def test_a_world_without_pixels_is_watched_by_its_state(cartpole):
    with closing(cartpole.make()) as env:
        env.reset(seed=1)
        expected = []
        for action in (0, 1, 1, 0):
            expected.append(env.state.astype(np.float32))
            env.step(action)
        recording = Recording.of_episode(env, 1)
    [episode] = watch_all([recording], cartpole.kwargs, "state", 2, "demos.jsonl")
    assert np.array_equal(episode.observations, expected)
    assert episode.actions.tolist() == [0, 1, 1, 0]


def test_a_recording_that_does_not_replay_is_named_by_its_line(recordings, tiny_mario):
    broken = recordings[1].model_copy(update={"state_sha256": "0" * 64})
    both = [recordings[0], broken]
    with pytest.raises(InputError, match=r"demos\.jsonl, line 2: the replay ends"):
        watch_all(both, tiny_mario.kwargs, "pixels", ACTIONS, "demos.jsonl")


def test_a_split_keeps_episodes_whole_and_holds_the_last_ones_out():
    episodes = [episode_of(number) for number in range(10)]
    train, held_out = split_episodes(episodes, 0.2)
    assert [int(episode.actions[0]) for episode in train] == list(range(8))
    assert [int(episode.actions[0]) for episode in held_out] == [8, 9]


@pytest.mark.parametrize(("share", "held_out"), [(0.01, 1), (0.99, 2)])
def test_both_parts_of_a_split_have_an_episode(share, held_out):
    episodes = [episode_of(number) for number in range(3)]
    parts = split_episodes(episodes, share)
    assert [len(part) for part in parts] == [3 - held_out, held_out]


def test_joined_episodes_follow_each_other():
    joined = join([episode_of(4, length=2), episode_of(7, length=1)])
    assert joined.actions.tolist() == [4, 4, 7]
    assert joined.observations[:, 0, 0, 0].tolist() == [4, 4, 7]


def test_every_step_of_every_episode_is_drawn_alike(tiny_mario):
    episodes = [readable(rows, seed=rows) for rows in (1, 20, 11)]
    policies = []
    for parts in (episodes, [join(episodes)]):
        cloner = cloner_of(tiny_mario.policy())
        fit = cloner.fit(parts, 20)
        policies.append((weights_of(cloner.average.policy), fit))
    assert torch.equal(policies[0][0], policies[1][0])
    assert policies[0][1] == policies[1][1]


def test_a_clone_does_what_the_frame_says(tiny_mario):
    cloner = cloner_of(tiny_mario.policy())
    held_out = readable(40, seed=2)
    updates = []
    cloner.fit([readable(96, seed=1)], 300, on_update=lambda: updates.append(1))
    fit, predictions = measure(cloner.average.policy, "pixels", held_out)
    assert predictions.tolist() == held_out.actions.tolist()
    assert fit.accuracy == 1
    assert fit.loss < 0.1
    assert len(updates) == 300


def test_a_clone_does_what_the_state_says(cartpole):
    # Push to where the pole leans.
    rng = np.random.default_rng(1)
    states = rng.uniform(-0.2, 0.2, (200, 4)).astype(np.float32)
    leans = (states[:, 2] > 0).astype(int)
    pairs = Transitions(states, np.eye(2, dtype=np.float32)[leans])
    cloner = cloner_of(cartpole.policy(), "state", learning_rate=1e-2)
    cloner.fit([pairs], 200)
    fit, _ = measure(cloner.average.policy, "state", pairs)
    assert fit.accuracy > 0.95


def test_the_loss_of_an_even_guess_among_seven_is_the_log_of_seven(tiny_mario):
    policy = tiny_mario.policy()
    with torch.no_grad():
        for parameter in policy.action_net.parameters():
            parameter.zero_()
    pairs = readable(20, seed=1)
    still = cloner_of(policy, learning_rate=1e-12)
    fitted = still.fit([pairs], 5)
    measured, predictions = measure(still.average.policy, "pixels", pairs)
    # ln 7; among equals the first action counts as the likeliest.
    assert fitted.loss == pytest.approx(1.94591, abs=1e-5)
    assert measured.loss == pytest.approx(1.94591, abs=1e-5)
    assert not predictions.any()
    assert measured.accuracy == pytest.approx((pairs.actions == 0).mean())


def test_what_plays_is_a_moving_average_of_the_weights(tiny_mario):
    policy = tiny_mario.policy()
    cloner = cloner_of(policy, batch_size=4)
    pairs = readable(32, seed=1)
    cloner.fit([pairs], 1)
    first = weights_of(policy)
    assert torch.equal(weights_of(cloner.average.policy), first)
    cloner.fit([pairs], 1)
    expected = 0.99 * first + 0.01 * weights_of(policy)
    assert torch.allclose(weights_of(cloner.average.policy), expected, atol=1e-7)


def test_an_annealed_learning_rate_falls_to_nothing(tiny_mario):
    moves = []
    for anneal in (False, True):
        policy = tiny_mario.policy()
        cloner = cloner_of(policy)
        weights = [weights_of(policy)]
        cloner.fit(
            [readable(32, seed=1)],
            40,
            anneal,
            partial(lambda policy, w: w.append(weights_of(policy)), policy, weights),
        )
        moves.append(float((weights[-1] - weights[-2]).abs().mean()))
    assert moves[1] < 0.1 * moves[0]


def test_cloning_leaves_the_critic_alone(tiny_mario, weights):
    policy = tiny_mario.policy()
    before = weights(policy)
    cloner_of(policy).fit([readable(32, seed=1)], 3)
    moved = {n for n, w in weights(policy).items() if not torch.equal(w, before[n])}
    assert moved == {
        name
        for name in before
        if not name.startswith(("value_net", "vf_features_extractor"))
    }


def test_equal_seeds_clone_equal_bytes(tiny_mario, tmp_path):
    with closing(tiny_mario.make()) as env:
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            cloner = cloner_of(tiny_mario.policy(), seed=seed)
            cloner.fit([readable(32, seed=1)], 4)
            agent = tiny_mario.agent(cloner.average.policy)
            save_agent(agent, tmp_path / name, env, {})
    weights = [(tmp_path / n / "policy.safetensors").read_bytes() for n in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_a_cloner_resumes_to_the_same_bytes(tiny_mario, weights, are_equal, tmp_path):
    pairs = [readable(32, seed=1)]
    whole = cloner_of(tiny_mario.policy())
    whole.fit(pairs, 3)
    Checkpoint(tmp_path / "kept").save(whole.state_dict())
    resumed = cloner_of(tiny_mario.policy(seed=77), seed=99)
    resumed.load_state_dict(Checkpoint(tmp_path / "kept").state)
    ends = [cloner.fit(pairs, 3) for cloner in (resumed, whole)]
    assert ends[0] == ends[1]
    assert are_equal(weights(resumed.average.policy), weights(whole.average.policy))


@pytest.mark.slow
def test_a_clone_learns_how_sure_to_be(tiny_mario):
    policy = tiny_mario.policy()
    pairs = readable(64, seed=1)
    unsure = pairs.probabilities.copy()
    unsure[pairs.actions == 1] = [0, 0.7, 0.3, 0, 0, 0, 0]
    pairs = Transitions(pairs.observations, unsure)
    cloner = cloner_of(policy)
    cloner.fit([pairs], 400)
    average = cloner.average.policy
    fit, _ = measure(average, "pixels", pairs)
    learned = np.exp(action_logits(average, "pixels", pairs.observations))
    assert np.abs(learned - unsure).max() < 0.1
    # No loss can be less than the entropy, -0.7 ln 0.7 - 0.3 ln 0.3 = 0.610864 nats.
    least = 0.610864 * (pairs.actions == 1).mean()
    assert least < fit.loss < least + 0.03
    assert fit.accuracy == 1
