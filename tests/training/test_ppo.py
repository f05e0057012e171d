import tempfile
from contextlib import closing
from functools import partial

import numpy as np
import pytest
import stable_baselines3
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from warpzone.agents import policy as policies
from warpzone.agents.policy import (
    build_policy,
    log_probs_of,
    make_deterministic,
    set_weights,
    to_tensor,
)
from warpzone.core.params import PPOParams
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.observation import ObsType
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.training.checkpoint import Checkpoint
from warpzone.training.critic import Critic
from warpzone.training.ppo import _PPO, Score, _loss_terms, _Rollout, train

EQUAL = Score(0.0, 0.0, 1)


@pytest.fixture(scope="module")
def small(game):
    """Small pictures for speed, and episodes of exactly 8 agent steps."""
    changes = {"height": 36, "width": 36, "frame_stack": 1}
    return game.model_copy(update=changes | {"time_limit": 8, "stuck_limit": 0})


def params(**changes):
    values = {
        "agent_steps": 96,
        "envs": 2,
        "rollout_steps": 16,
        "batch_size": 16,
        "epochs": 2,
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-3,
        "gamma": 0.9,
        "gae_lambda": 0.95,
        "clip_range": 0.2,
        "entropy_coefficient": 0.01,
        "final_entropy_coefficient": 0.0,
        "max_grad_norm": 0.5,
        "target_kl": 0.5,
        "average_decay": 0.5,
        "critic_learning_rate": 1e-3,
        "critic_epochs": 2,
        "critic_warmup": 0,
        "retry_share": 0.0,
        "selection_interval": 1,
        "selection_episodes": 1,
        "goal_clear_rate": 1.0,
        "collapse_share": 0.0,
        "collapse_looks": 1,
    }
    return PPOParams(**values | changes)


def run(
    game,
    noise,
    rl,
    *,
    seed=5,
    start=None,
    score=lambda _: EQUAL,
    threads=2,
    obs_type: ObsType = "pictures",
    **more,
):
    start = start or new_policy(game, obs_type=obs_type)
    critic = new_policy(game, obs_type="ram") if obs_type == "pictures" else None
    make_deterministic(seed)
    env_fns = [partial(MarioEnv, game, noise, obs_type=obs_type)] * rl.envs
    with closing(ThreadedVecEnv(env_fns, threads)) as envs:
        cpu = torch.device("cpu")
        return train(envs, start, rl, seed, score, cpu, critic, **more)


def new_policy(game, seed=9, obs_type: ObsType = "pictures"):
    make_deterministic(seed)
    return build_policy(game, obs_type)


def weights_of(policy):
    return {name: p.detach().clone() for name, p in policy.named_parameters()}


def are_equal(ours, theirs):
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_equal_seeds_train_equal_policies_whatever_the_number_of_threads(small, noise):
    first, second = (
        run(small, noise, params(agent_steps=64), threads=threads) for threads in (1, 2)
    )
    other = run(small, noise, params(agent_steps=64), seed=6)
    weights = weights_of(first.policy)
    assert are_equal(weights_of(second.policy), weights)
    assert not are_equal(weights_of(other.policy), weights)
    assert first.curve.equals(second.curve)


def test_the_curve_counts_the_episodes_of_every_environment(small, no_noise):
    curve = run(small, no_noise, params()).curve
    assert curve["update"].tolist() == [0, 1, 2, 3]
    assert curve["agent_steps"].tolist() == [0, 32, 64, 96]
    # 2 environments x 16 steps / 8 steps an episode.
    assert curve["episodes"].tolist() == [0, 4, 4, 4]
    # 32 agent steps x 4 frames, on top of what it takes to reach the level's start.
    assert curve["emulator_frames"].diff().tolist()[1:] == [128, 128, 128]
    assert curve["clear_rate"].tolist()[1:] == [0, 0, 0]
    # Mario starts at 40, runs at most 2.5 pixels a frame, and is paid 0.02 a pixel.
    assert curve["x_pos_max"].iloc[1:].between(40, 40 + 80).all()
    paid = 0.02 * (curve["x_pos_max"] - 40)
    assert np.allclose(curve["episode_return"].iloc[1:], paid.iloc[1:])


def test_the_entropy_of_a_new_policy_is_nearly_that_of_an_even_choice(small, noise):
    curve = run(small, noise, params(agent_steps=32, learning_rate=1e-9)).curve
    # ln 7
    assert curve["entropy"].iloc[1] == pytest.approx(1.9459, abs=0.01)


def test_the_warm_up_moves_the_critic_only(small, noise):
    start = new_policy(small, obs_type="ram")
    before = weights_of(start)
    rl = params(agent_steps=320, critic_warmup=10)
    trained = run(small, noise, rl, start=start, obs_type="ram")
    after = weights_of(trained.policy)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if "value_net" in name}
    # There was no update of the actor that could have diverged.
    assert trained.curve["approx_kl"].tolist() == [None] * 11
    losses = trained.curve["value_loss"].tolist()[1:]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


def test_after_the_warm_up_all_of_the_actor_moves(small, noise):
    start = new_policy(small)
    before = weights_of(start)
    trained = run(small, noise, params(critic_warmup=2), start=start)
    after = weights_of(trained.policy)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {"value_net.weight", "value_net.bias"}
    assert trained.curve["approx_kl"].notna().tolist() == [False, False, False, True]
    assert trained.curve["value_loss"].notna().tolist() == [False, True, True, True]


def test_the_entropy_coefficient_falls(small, noise, monkeypatch):
    used = []
    ours = _PPO._update_policy

    def noted(model):
        ours(model)
        used.append(model.ent_coef)

    monkeypatch.setattr(_PPO, "_update_policy", noted)
    rl = params(entropy_coefficient=0.4, final_entropy_coefficient=0.1)
    run(small, noise, rl)
    assert used == pytest.approx([0.3, 0.2, 0.1])


def test_an_update_is_that_of_sb3(small, noise, monkeypatch):
    ours = _PPO._update_policy
    compared = []

    def both(model):
        model.vf_coef = 0.0
        before = weights_of(model.policy)
        state = np.random.get_state()  # noqa: NPY002  # SB3 shuffles with it.
        ours(model)
        found = weights_of(model.policy)
        set_weights(model.policy, before)
        model.policy.optimizer.state.clear()
        np.random.set_state(state)  # noqa: NPY002
        stable_baselines3.PPO.train(model)
        expected = weights_of(model.policy)
        for name, weight in expected.items():
            assert torch.allclose(found[name], weight, atol=1e-5), name
        compared.append(not are_equal(before, found))

    monkeypatch.setattr(_PPO, "_update_policy", both)
    rl = params(agent_steps=32, entropy_coefficient=0.1, final_entropy_coefficient=0.1)
    run(small, noise, rl)
    assert compared == [True]


def test_the_start_is_a_candidate(small, noise):
    start = new_policy(small)
    before = weights_of(start)
    ways = [(0.5, 100), (0.4, 99), (0.3, 200), (0.0, 300)]
    scores = iter([Score(rate, x_pos_max, 100) for rate, x_pos_max in ways])
    trained = run(small, noise, params(), start=start, score=lambda _: next(scores))
    assert trained.best_update == 0
    assert are_equal(trained.best_weights, before)
    assert not are_equal(weights_of(trained.policy), before)


@pytest.mark.parametrize(
    ("rates", "kept"),
    [
        # The lower end of 98 of 100 is 93.
        ([0.5, 0.98, 0.94, 0.95], 3),
        ([0.5, 0.98, 0.94, 0.92], 2),
        ([0.5, 0.98, 0.92, 0.93], 3),
        # Each less than the one before, but the last one surely less than the best.
        ([0.98, 0.94, 0.9, 0.86], 1),
        # Where nothing is cleared, the way decides.
        ([0.0, 0.0, 0.0, 0.0], 0),
    ],
)
def test_the_last_policy_that_is_not_surely_worse_than_the_best_is_kept(
    small, noise, rates, kept
):
    scores = (Score(rate, -index, 100) for index, rate in enumerate(rates))
    training = run(small, noise, params(), score=lambda _: next(scores))
    assert training.best_update == kept


def test_the_best_policy_clears_most_and_then_gets_furthest(small, noise):
    scores = iter(
        [
            Score(0.1, 900, 10, 7, 28),
            Score(0.5, 10, 10, 9),
            Score(0.5, 11, 10),
            Score(0.2, 999, 10),
        ]
    )
    seen = []

    def score(policy):
        seen.append(weights_of(policy))
        return next(scores)

    trained = run(small, noise, params(), score=score)
    assert trained.best_update == 2
    assert are_equal(trained.best_weights, seen[2])
    assert not are_equal(seen[3], seen[2])
    assert trained.curve["selection_clear_rate"].tolist() == [0.1, 0.5, 0.5, 0.2]
    assert trained.curve["selection_x_pos_max"].tolist() == [900, 10, 11, 999]
    assert trained.summary()["selection_agent_steps"] == 16
    assert trained.summary()["selection_emulator_frames"] == 28


def test_the_last_policy_is_measured_whatever_the_interval(small, noise):
    curve = run(small, noise, params(selection_interval=2)).curve
    measured = curve["selection_clear_rate"].notna()
    assert measured.tolist() == [True, False, True, True]


def test_training_leaves_nothing_in_the_temporary_folder(
    small, noise, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run(small, noise, params(agent_steps=32))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_policy_learns_to_run_to_the_right(small, no_noise):
    rl = params(
        agent_steps=4096, envs=4, rollout_steps=64, batch_size=64, selection_interval=99
    )
    curve = run(small.model_copy(update={"time_limit": 16}), no_noise, rl).curve
    early, late = (curve["x_pos_max"].iloc[rows].mean() for rows in (1, [-2, -1]))
    assert late > early + 30


def test_the_terms_of_the_loss_are_what_the_papers_say():
    probabilities = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.9, 0.1]])
    batch = _Rollout(
        actions=torch.tensor([[0], [1], [0]]),
        # Ratios 2, 1 and 0.9.
        log_probs=torch.tensor([[0.25], [0.8], [1.0]]).log(),
        advantages=torch.tensor([[1.0], [0.0], [-1.0]]),
    )
    terms = _loss_terms(probabilities.log(), batch, clip_range=0.2)
    # Of 1, 0 and -1 the standard deviation is 1. The first ratio is clipped to 1.2.
    assert terms["policy_loss"].item() == pytest.approx(-(1.2 + 0 - 0.9) / 3)
    # ln 2, 0.500402 and 0.325083 nats.
    entropy = (0.693147 + 0.500402 + 0.325083) / 3
    assert terms["entropy"].item() == pytest.approx(entropy)
    # 1 - ln 2, 0 and -0.1 - ln 0.9.
    approx_kl = (0.306853 + 0 + 0.005361) / 3
    assert terms["approx_kl"].item() == pytest.approx(approx_kl, abs=1e-6)
    assert terms["clip_fraction"].item() == pytest.approx(1 / 3)


def test_an_update_on_a_gpu_mixes_no_devices(small, monkeypatch):
    # Fake tensors know their device and refuse to meet those of another one. They
    # cannot be laid out anew, and have no values to check.
    monkeypatch.setattr(policies, "fast_on_cpu", lambda policy: policy)
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", False)
    with FakeTensorMode():
        gpu = torch.device("cuda")
        with gpu:
            policy = build_policy(small)
        rows = np.ones((6, 1), np.float32)
        rollout = _Rollout(
            *(to_tensor(rows.astype(kind), gpu) for kind in (int, float, float))
        )
        observations = to_tensor(np.ones((6, 1, 36, 36), np.uint8), gpu)
        batch = torch.from_numpy(np.arange(4)).to(gpu)
        log_probs = log_probs_of(policy, observations[batch])
        terms = _loss_terms(log_probs, rollout.take(batch), 0.2)
        assert len(terms) == 4
        for term in terms.values():
            assert term.device.type == "cuda"


def test_training_ends_when_the_goal_is_surely_reached(small, noise):
    # All of 48 cleared: the interval's lower end is 0.926.
    rl = params(goal_clear_rate=0.92)
    scores = iter([Score(0.5, 1.0, 48), Score(1.0, 2.0, 48), Score(1.0, 3.0, 48)])
    training = run(small, noise, rl, score=lambda _: next(scores))
    assert training.ended_by == "goal"
    assert training.best_update == 1
    assert training.curve["update"].tolist() == [0, 1]


def test_training_ends_after_bad_looks_in_a_row_and_keeps_the_best(small, noise):
    rl = params(agent_steps=160, collapse_share=0.5, collapse_looks=2)
    # Bad, fair since it may be 41 %, bad, bad.
    rates = iter([0.8, 0.3, 0.31, 0.3, 0.3, 0.8])
    training = run(small, noise, rl, score=lambda _: Score(next(rates), 1.0, 100))
    assert training.ended_by == "collapse"
    assert training.best_update == 0
    assert training.curve["update"].tolist() == [0, 1, 2, 3, 4]


def test_a_training_that_neither_succeeds_nor_collapses_spends_its_budget(small, noise):
    training = run(small, noise, params())
    assert training.ended_by == "budget"
    assert training.curve["update"].tolist() == [0, 1, 2, 3]


class Killed(BaseException):
    """Stands for SIGKILL, as far as one process can."""


def test_what_is_scored_is_a_moving_average_of_the_policies(small, noise):
    averages = {}
    for decay in (0.0, 0.75):
        seen = averages[decay] = []

        def score(policy, seen=seen):
            seen.append(weights_of(policy))
            return EQUAL

        run(small, noise, params(average_decay=decay), score=score)
    policies = averages[0.0]
    expected = policies[0]
    for policy, average in zip(policies, averages[0.75], strict=True):
        expected = {
            name: 0.75 * expected[name] + 0.25 * weight
            for name, weight in policy.items()
        }
        for name, weight in average.items():
            assert torch.allclose(weight, expected[name], atol=1e-6), name
    assert not are_equal(policies[3], policies[0])


@pytest.mark.parametrize("obs_type", ["pictures", "ram"])
@pytest.mark.parametrize("update", [0, 1, 2])
def test_a_training_that_was_killed_goes_on_to_the_same_end(
    small, noise, tmp_path, update, obs_type
):
    # Episodes of 8 agent steps and rollouts of 12: killed in mid-episode.
    rl = params(agent_steps=96, rollout_steps=12, batch_size=12, selection_interval=2)

    def score(policy):
        return Score(0.0, policy.action_net.bias[0].item(), 1)

    how = {"score": score, "obs_type": obs_type}
    whole = run(small, noise, rl, **how)

    checkpoint = Checkpoint(tmp_path / "kept")
    steps = 0

    def kill(more):
        nonlocal steps
        steps += more
        if steps == update * 24 + 14:
            raise Killed

    with pytest.raises(Killed):
        run(small, noise, rl, checkpoint=checkpoint, on_agent_steps=kill, **how)
    said = []
    resumed = run(
        small, noise, rl, checkpoint=checkpoint, on_agent_steps=said.append, **how
    )
    assert are_equal(weights_of(resumed.policy), weights_of(whole.policy))
    assert are_equal(resumed.best_weights, whole.best_weights)
    assert resumed.curve.to_csv() == whole.curve.to_csv()
    # Only what came after the last update is played again.
    assert said[0] == update * 24
    assert sum(said) == 96


def test_the_critic_learns_returns_that_the_memory_tells(small):
    rng = np.random.default_rng(3)
    # All that differs is how high Mario is.
    height = 0xCE
    ram = np.zeros((64, 4, 2048), np.uint8)
    ram[..., height] = rng.integers(0, 256, (64, 4))
    returns = (ram[..., height] > 127).astype(np.float32)
    critic = Critic(new_policy(small, obs_type="ram"), 1e-3)
    assert critic.values(ram).shape == (64, 4)
    np.random.seed(3)  # noqa: NPY002  # It shuffles with it.
    losses = [critic.fit(ram, returns, 10) for _ in range(120)]
    assert losses[-1] < 0.05 < losses[0]
    assert np.abs(critic.values(ram) - returns).mean() < 0.2


def test_advantages_come_from_the_memory_of_the_right_step(small, noise, monkeypatch):
    # A critic that says what a byte of the RAM holds, which counts frames.
    seen = []
    clock = 9

    def values(self, ram):
        assert ram.shape[-1] == 2048
        return ram[..., clock].astype(np.float32)

    def fit(self, ram, returns, epochs):
        seen.append((ram, returns))
        return 0.0

    monkeypatch.setattr(Critic, "values", values)
    monkeypatch.setattr(Critic, "fit", fit)
    rl = params(agent_steps=32, gae_lambda=0.0, gamma=0.5)
    trained = run(small, noise, rl)
    [(ram, returns)] = seen
    assert (ram.shape, returns.shape) == ((16, 2, 2048), (16, 2))
    # Episodes of 8 agent steps end at rows 7 and 15, and nothing follows an end.
    rewards = returns[:-1] - 0.5 * ram[1:, :, clock]
    rewards[7] = returns[7]
    assert (np.abs(rewards) < 1).all()
    assert trained.curve["episodes"].tolist() == [0, 4]
