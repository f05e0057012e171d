from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from warpzone.agents.policy import (
    action_logits,
    build_policy,
    make_deterministic,
    save_policy,
)
from warpzone.core.errors import InputError
from warpzone.core.params import load_params
from warpzone.envs.mario.env import MarioEnv
from warpzone.episodes.recording import Recording, watch
from warpzone.training.bc import (
    Cloner,
    Demonstration,
    join,
    measure,
    split_episodes,
    watch_all,
)

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="module")
def small(game):
    """Small pictures, for speed."""
    return game.model_copy(update={"height": 36, "width": 36, "frame_stack": 1})


@pytest.fixture(scope="module")
def recordings(small, noise):
    with closing(MarioEnv(small, noise)) as env:
        return [record(env, seed) for seed in range(4)]


def record(env, seed):
    env.reset(seed=seed)
    for _ in range(10 + seed):
        env.step(3)
    return Recording.of_episode(env, seed)


def cloner_of(policy, seed=0, **changes):
    bc = load_params(PARAMS).pretrain_bc
    changes = {"batch_size": 16, "learning_rate": 1e-3} | changes
    bc = bc.model_copy(update=changes)
    return Cloner(policy, bc, np.random.default_rng(seed))


def weights_of(policy):
    return torch.cat([p.detach().flatten() for p in policy.action_net.parameters()])


def episode_of(number, length=5):
    return Demonstration(
        np.full((length, 1, 36, 36), number, np.uint8), certain(np.full(length, number))
    )


def certain(actions):
    return np.eye(10, dtype=np.float32)[actions]


def readable(rows, seed):
    """Pairs whose picture tells the action: its upper half is lit for 1, else dark."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 2, rows)
    observations = rng.integers(0, 50, (rows, 1, 36, 36), np.uint8)
    observations[actions == 1, :, :18] += 200
    return Demonstration(observations, certain(actions)[:, :7])


def new_policy(small):
    make_deterministic(seed=0)
    return build_policy(small)


def test_watching_side_by_side_is_watching_one_by_one(recordings, small):
    watched = []
    demonstrations = watch_all(
        recordings, small, "demos.jsonl", lambda: watched.append(1)
    )
    assert [len(demonstration) for demonstration in demonstrations] == [10, 11, 12, 13]
    assert len(watched) == 4
    for recording, demonstration in zip(recordings, demonstrations, strict=True):
        observations, actions = watch(recording, small, "here")
        assert np.array_equal(demonstration.observations, observations)
        assert np.array_equal(demonstration.actions, actions)


def test_a_recording_that_does_not_replay_is_named_by_its_line(recordings, small):
    broken = recordings[1].model_copy(update={"ram_sha256": "0" * 64})
    with pytest.raises(InputError, match=r"demos\.jsonl, line 2: the replay ends"):
        watch_all([recordings[0], broken], small, "demos.jsonl")


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


def test_one_episode_cannot_be_split():
    with pytest.raises(InputError, match=r"needs two episodes or more.*got 1"):
        split_episodes([episode_of(0)], 0.5)


def test_joined_episodes_follow_each_other():
    joined = join([episode_of(4, length=2), episode_of(7, length=1)])
    assert joined.actions.tolist() == [4, 4, 7]
    assert joined.observations[:, 0, 0, 0].tolist() == [4, 4, 7]


def test_every_step_of_every_episode_is_drawn_alike(small):
    episodes = [readable(rows, seed=rows) for rows in (1, 20, 11)]
    policies = []
    for parts in (episodes, [join(episodes)]):
        cloner = cloner_of(new_policy(small))
        fit = cloner.fit(parts, 20)
        policies.append((weights_of(cloner.average.policy), fit))
    assert torch.equal(policies[0][0], policies[1][0])
    assert policies[0][1] == policies[1][1]


def test_a_clone_does_what_the_picture_says(small):
    cloner = cloner_of(new_policy(small))
    held_out = readable(40, seed=2)
    updates = []
    cloner.fit([readable(96, seed=1)], 300, on_update=lambda: updates.append(1))
    fit, predictions = measure(cloner.average.policy, held_out)
    assert predictions.tolist() == held_out.actions.tolist()
    assert fit.accuracy == 1
    assert fit.loss < 0.1
    assert len(updates) == 300


def test_the_loss_of_an_even_guess_among_seven_is_the_log_of_seven(small):
    policy = new_policy(small)
    with torch.no_grad():
        for parameter in policy.action_net.parameters():
            parameter.zero_()
    pairs = readable(20, seed=1)
    still = cloner_of(policy, learning_rate=1e-12)
    fitted = still.fit([pairs], 5)
    measured, predictions = measure(still.average.policy, pairs)
    # ln 7; among equals the first action counts as the likeliest.
    assert fitted.loss == pytest.approx(1.94591, abs=1e-5)
    assert measured.loss == pytest.approx(1.94591, abs=1e-5)
    assert not predictions.any()
    assert measured.accuracy == pytest.approx((pairs.actions == 0).mean())


def test_what_plays_is_a_moving_average_of_the_weights(small):
    policy = new_policy(small)
    cloner = cloner_of(policy, batch_size=4)
    pairs = readable(32, seed=1)
    cloner.fit([pairs], 1)
    first = weights_of(policy)
    assert torch.equal(weights_of(cloner.average.policy), first)
    cloner.fit([pairs], 1)
    expected = 0.99 * first + 0.01 * weights_of(policy)
    assert torch.allclose(weights_of(cloner.average.policy), expected, atol=1e-7)


def test_an_annealed_learning_rate_falls_to_nothing(small):
    moves = []
    for anneal in (False, True):
        policy = new_policy(small)
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


def test_cloning_leaves_the_critic_alone(small):
    policy = new_policy(small)
    before = policy.value_net.weight.clone()
    cloner_of(policy).fit([readable(32, seed=1)], 3)
    assert torch.equal(policy.value_net.weight, before)


def test_equal_seeds_clone_equal_bytes(small, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        cloner = cloner_of(new_policy(small), seed)
        cloner.fit([readable(32, seed=1)], 4)
        save_policy(cloner.average.policy, tmp_path / name, small, {})
    weights = [(tmp_path / n / "policy.safetensors").read_bytes() for n in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_a_clone_learns_how_sure_to_be(small):
    policy = new_policy(small)
    pairs = readable(64, seed=1)
    unsure = pairs.probabilities.copy()
    unsure[pairs.actions == 1] = [0, 0.7, 0.3, 0, 0, 0, 0]
    pairs = Demonstration(pairs.observations, unsure)
    cloner = cloner_of(policy)
    cloner.fit([pairs], 400)
    fit, _ = measure(cloner.average.policy, pairs)
    learned = np.exp(action_logits(cloner.average.policy, pairs.observations))
    assert np.abs(learned - unsure).max() < 0.1
    # No loss can be less than the entropy, -0.7 ln 0.7 - 0.3 ln 0.3 = 0.610864 nats.
    least = 0.610864 * (pairs.actions == 1).mean()
    assert least < fit.loss < least + 0.03
    assert fit.accuracy == 1
