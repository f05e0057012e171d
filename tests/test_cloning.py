from contextlib import closing

import numpy as np
import pytest
import torch

from warpzone.agents.cloning import (
    Demonstration,
    clone,
    join,
    split_episodes,
    watch_all,
)
from warpzone.agents.policy import build_policy, make_deterministic, save_policy
from warpzone.demos.recording import Recording, watch
from warpzone.errors import InputError
from warpzone.game.env import MarioEnv
from warpzone.params import PretrainBCParams


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


def params(**changes):
    values = {
        "epochs": 4,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "held_out_share": 0.25,
    }
    return PretrainBCParams(**values | changes)


def episode_of(number, length=5):
    return Demonstration(
        np.full((length, 1, 36, 36), number, np.uint8), np.full(length, number)
    )


def readable(rows, seed):
    """Pairs whose picture tells the action: its upper half is lit for 1, else dark."""
    rng = np.random.default_rng(seed)
    actions = rng.integers(0, 2, rows)
    observations = rng.integers(0, 50, (rows, 1, 36, 36), np.uint8)
    observations[actions == 1, :, :18] += 200
    return Demonstration(observations, actions)


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


def test_a_split_keeps_episodes_whole_and_loses_none():
    episodes = [episode_of(number) for number in range(10)]
    train, held_out = split_episodes(episodes, 0.2, np.random.default_rng(0))
    assert (len(train), len(held_out)) == (8, 2)
    numbers = [int(episode.actions[0]) for episode in train + held_out]
    assert sorted(numbers) == list(range(10))
    assert numbers != list(range(10))


@pytest.mark.parametrize(("share", "held_out"), [(0.01, 1), (0.99, 2)])
def test_both_parts_of_a_split_have_an_episode(share, held_out):
    episodes = [episode_of(number) for number in range(3)]
    parts = split_episodes(episodes, share, np.random.default_rng(0))
    assert [len(part) for part in parts] == [3 - held_out, held_out]


def test_one_episode_cannot_be_split():
    with pytest.raises(InputError, match=r"needs two episodes or more.*got 1"):
        split_episodes([episode_of(0)], 0.5, np.random.default_rng(0))


def test_joined_episodes_follow_each_other():
    joined = join([episode_of(4, length=2), episode_of(7, length=1)])
    assert joined.actions.tolist() == [4, 4, 7]
    assert joined.observations[:, 0, 0, 0].tolist() == [4, 4, 7]


def test_a_clone_does_what_the_picture_says(small):
    policy = new_policy(small)
    held_out = readable(40, seed=2)
    cloning = clone(
        policy, readable(96, seed=1), held_out, params(), np.random.default_rng(0)
    )
    assert cloning.predictions.tolist() == held_out.actions.tolist()
    epochs = cloning.epochs
    assert epochs["epoch"].tolist() == [1, 2, 3, 4]
    assert epochs["held_out_loss"].to_numpy().argmin() == cloning.best_epoch - 1
    assert epochs["held_out_accuracy"].tolist()[cloning.best_epoch - 1] == 1


def test_the_loss_of_an_even_guess_among_seven_is_the_log_of_seven(small):
    policy = new_policy(small)
    with torch.no_grad():
        for parameter in policy.action_net.parameters():
            parameter.zero_()
    pairs = readable(20, seed=1)
    still = params(epochs=1, learning_rate=1e-12)
    cloning = clone(policy, pairs, pairs, still, np.random.default_rng(0))
    row = cloning.epochs.iloc[0]
    # ln 7; among equals the first action counts as the likeliest.
    assert row["train_loss"] == pytest.approx(1.94591, abs=1e-5)
    assert row["held_out_loss"] == pytest.approx(1.94591, abs=1e-5)
    share_of_zeros = (pairs.actions == 0).mean()
    assert row["train_accuracy"] == pytest.approx(share_of_zeros)
    assert row["held_out_accuracy"] == pytest.approx(share_of_zeros)


def test_the_policy_gets_the_weights_of_its_best_epoch(small):
    pairs = readable(32, seed=1)
    # These press what nobody pressed in training: it only gets less likely.
    contrary = Demonstration(pairs.observations, np.full(len(pairs), 6))
    long, short = new_policy(small), new_policy(small)
    cloning = clone(long, pairs, contrary, params(epochs=3), np.random.default_rng(0))
    clone(short, pairs, contrary, params(epochs=1), np.random.default_rng(0))
    assert cloning.best_epoch == 1
    for ours, theirs in zip(long.parameters(), short.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_cloning_leaves_the_critic_alone(small):
    policy = new_policy(small)
    before = policy.value_net.weight.clone()
    pairs = readable(32, seed=1)
    clone(policy, pairs, pairs, params(epochs=1), np.random.default_rng(0))
    assert torch.equal(policy.value_net.weight, before)


def test_equal_seeds_clone_equal_bytes(small, tmp_path):
    pairs = readable(32, seed=1)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        policy = new_policy(small)
        clone(policy, pairs, pairs, params(epochs=2), np.random.default_rng(seed))
        save_policy(policy, tmp_path / name, small, {})
    weights = [(tmp_path / n / "policy.safetensors").read_bytes() for n in "abc"]
    assert weights[0] == weights[1] != weights[2]
