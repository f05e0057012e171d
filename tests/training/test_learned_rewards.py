"""GAIL and RND: what they pay, and that they resume to the bit."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from warpzone.core.params import GAILParams, RNDParams
from warpzone.episodes.table import Score
from warpzone.training.algorithms import check_recipe, make_model
from warpzone.training.bc import Transitions
from warpzone.training.checkpoint import Checkpoint
from warpzone.training.learned_rewards import GAIL, RND, LearnedReward

CPU = torch.device("cpu")
LEARNING: dict[str, Any] = {"batch_size": 16, "learning_rate": 1e-3, "updates": 4}
BLIND = LEARNING | {"learning_rate": 1e-12, "updates": 1}
"""A discriminator that learns nothing, and finds everything about as probable."""


def gail(**changes: Any) -> GAILParams:
    weights: dict[str, Any] = {"weight": 1.0, "env_weight": 0.0, "weight_decay": 0.0}
    return GAILParams(**LEARNING | weights | changes)


def rnd(**changes: Any) -> RNDParams:
    weight: dict[str, Any] = {"weight": 1.0}
    return RNDParams(**LEARNING | weight | changes)


def played(world, policy, length=None) -> Transitions:
    """Return an episode in which actions are chosen by what is observed."""
    seen, chosen = [], []
    with closing(world.make()) as env:
        observation, _ = env.reset(seed=1)
        while env.cause is None and len(seen) != length:
            seen.append(observation[world.key])
            chosen.append(policy(observation))
            observation, *_ = env.step(chosen[-1])
        actions = len(env.codes)
    return Transitions(np.stack(seen), np.eye(actions, dtype=np.float32)[chosen])


def right(_) -> int:
    return 1


def balance(observation) -> int:
    _, _, angle, turn = observation["state"]
    return int(angle + 0.5 * turn > 0)


class Of(NamedTuple):
    """The first arguments of a reward."""

    model: Any
    world: str
    key: str
    seed: int


class Paid:
    """A reward of a model, and what it did to the model's last rollout."""

    def __init__(
        self, world, rl, make: Callable[[Of], LearnedReward], bias=None
    ) -> None:
        with closing(world.envs(rl.n_envs)) as envs:
            self.model: Any = make_model(rl, envs, world.name, world.key, 5, CPU, [])
            if bias is not None:
                with torch.no_grad():
                    self.model.policy.action_net.bias[bias] = 1e6
            self.reward: Any = make(Of(self.model, world.name, world.key, 3))
            self.before: list[np.ndarray] = []
            self.after = np.empty(0)
            pay = self.reward._pay

            def noted(rewards):
                self.before.append(self.model.rollout_buffer.rewards.copy())
                pay(rewards)
                self.after = self.model.rollout_buffer.rewards.copy()

            self.reward._pay = noted
            self.model.learn(rl.total_timesteps, self.reward)

    @property
    def paid(self) -> np.ndarray:
        return self.after - self.before[-1]


# ------------------------------------------------------------------------------ GAIL


def test_a_step_and_an_end_are_paid_by_how_often_episodes_end(
    cartpole, recipe, no_noise
):
    """Pushed to the right all along, the pole falls in the 9th or 10th agent step."""
    world = replace(cartpole, noise=no_noise)
    shown = played(world, balance, 100)
    assert len(shown) == 100
    rl = recipe(total_timesteps=32, gamma=0.9)
    one = Paid(world, rl, lambda of: GAIL(*of, gail(**BLIND), shown, 1), bias=1)
    terminated = np.array(one.reward._terminated)
    ends = terminated.sum()
    assert ends == 2
    # Of 32 agent steps, and each end counts as 1 / (1 - 0.9) = 10.
    ours, theirs = 20 / 52, 10 / 110
    # A tenth lasts 10 agent steps, the first of which comes a step later.
    step, end = np.log((1 - theirs) / (1 - ours)), 9 * np.log(theirs / ours)
    assert step > 0 > end
    # The discriminator says next to nothing.
    expected = step + end * terminated
    assert np.allclose(one.paid + 1, expected, atol=0.3)
    assert one.paid[terminated].max() < -8 < -1.2 < one.paid[~terminated].min()


class AlwaysPositive(GAIL):
    """The reward of the paper: ``-log(1 - D)``, and nothing for an end."""

    def _step_and_end(self, terminated):
        return 0.0, 0.0

    def _logits(self, seen, chosen):
        return np.logaddexp(0, super()._logits(seen, chosen))


class AlwaysNegative(AlwaysPositive):
    """The other one that is used: ``log D``."""

    def _logits(self, seen, chosen):
        return -np.logaddexp(0, -GAIL._logits(self, seen, chosen))


def value_of_living(world, recipe, kind, shown) -> float:
    """Return by how much an agent that lives on is paid better than one that falls.

    Both pay is that of one discriminator, which has learned nothing yet: only the
    length of the episodes can tell.
    """
    rl = recipe(total_timesteps=400, n_envs=2, n_steps=200, batch_size=200, gamma=0.9)
    falls = Paid(world, rl, lambda of: kind(*of, gail(**BLIND), shown, 1), bias=1)
    terminated = np.array(falls.reward._terminated)
    first = int(terminated[:, 0].argmax())
    discount = 0.9 ** np.arange(100)
    dying = float((falls.after[: first + 1, 0] * discount[: first + 1]).sum())
    living = float((falls.after[~terminated].mean() * discount).sum())
    return living - dying


@pytest.mark.parametrize(
    ("kind", "of_long", "of_short"),
    [
        # Whatever was demonstrated, these pay for living and for dying.
        (AlwaysPositive, True, True),
        (AlwaysNegative, False, False),
        # It pays as the demonstrations were.
        (GAIL, True, False),
    ],
)
def test_naive_rewards_pay_for_living_or_dying_whatever_was_demonstrated(
    cartpole, recipe, no_noise, kind, of_long, of_short
):
    world = replace(cartpole, noise=no_noise)
    long = played(world, balance, 100)
    short = played(world, right)
    # Shorter still than the agent's.
    short = Transitions(short.observations[:5], short.probabilities[:5])
    assert (value_of_living(world, recipe, kind, long) > 0) is of_long
    assert (value_of_living(world, recipe, kind, short) > 0) is of_short


def test_the_discriminator_learns_to_tell_the_agent_from_the_demonstrations(
    cartpole, recipe, no_noise
):
    world = replace(cartpole, noise=no_noise)
    shown = played(world, balance, 100)
    start = world.policy()
    with torch.no_grad():
        start.get_parameter("action_net.bias")[1] = 1e6
    still = {"learning_rate": 1e-9, "final_learning_rate": 1e-9}
    rl = recipe(total_timesteps=160, gail=gail(updates=20), **still)
    curve = world.train(rl, start=start, shown=[shown]).curve
    accuracy, loss = curve["discriminator_accuracy"], curve["discriminator_loss"]
    assert np.isnan(accuracy.iloc[0])
    assert accuracy.iloc[-1] > max(0.8, accuracy.iloc[1])
    # A guess costs ln 2.
    assert loss.iloc[-1] < 0.5 * loss.iloc[1] < 0.5 * np.log(2)
    # What the agent does, pushing to the right all along, is seldom demonstrated.
    assert curve["gail_reward"].iloc[-1] < 0
    # The return is still the env's.
    assert (curve["episode_return"].dropna() > 0).all()


def test_the_env_s_own_reward_has_its_weight_and_truncation_its_value(
    tiny_mario, recipe, no_noise
):
    """Episodes are truncated after 8 agent steps."""
    world = replace(tiny_mario, noise=no_noise)
    shown = played(world, right)
    rl = recipe(total_timesteps=32)

    def of(weight, env_weight):
        params = gail(**BLIND, weight=weight, env_weight=env_weight)
        return Paid(world, rl, lambda of: GAIL(*of, params, shown, 1))

    whole, none, double = of(1e-6, 1.0), of(1e-6, 0.0), of(2.0, 0.5)
    assert np.abs(whole.paid).max() < 1e-5
    env_rewards = np.array(none.reward._env_rewards)
    assert (env_rewards != 0).any()
    assert np.allclose(-none.paid, env_rewards, atol=1e-5)
    # Nothing has ended, and the discriminator says next to nothing. The one that was
    # shown has, after 8 agent steps, for 10.
    assert not np.array(none.reward._terminated).any()
    expected = 2 * np.log(8 / 18)
    assert np.allclose(double.paid + 0.5 * env_rewards, expected, atol=0.8)
    # What SB3 adds where an episode is truncated is still there.
    bootstrapped = whole.before[0] - env_rewards
    assert (bootstrapped[7] != 0).all()
    assert np.allclose(none.after, bootstrapped, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["long", "short"])
def test_an_agent_learns_to_live_as_long_as_was_demonstrated(
    cartpole, recipe, no_noise, of
):
    """Blind to what is seen, by nothing but the lengths of episodes."""
    world = replace(cartpole, noise=no_noise)
    shown = played(world, balance, 200) if of == "long" else played(world, right)
    rl = recipe(
        total_timesteps=16384,
        n_envs=8,
        n_steps=64,
        batch_size=64,
        n_epochs=4,
        gamma=0.98,
        ent_coef=0.0,
        log_freq=1024,
        eval_freq=16384,
        gail=gail(**BLIND),
    )
    curve = world.train(rl, shown=[shown]).curve
    if of == "long":
        assert curve["progress"].iloc[-1] > 60
    else:
        assert curve["progress"].iloc[-1] < 12


# ------------------------------------------------------------------------------- RND


def test_what_has_been_seen_often_is_paid_less(cartpole, recipe):
    rl = recipe(total_timesteps=160, rnd=rnd(updates=40))
    curve = cartpole.train(rl).curve
    assert curve["predictor_loss"].iloc[-1] < 0.3 * curve["predictor_loss"].iloc[1]
    assert curve["rnd_reward"].iloc[-1] < 0.5 * curve["rnd_reward"].iloc[1]
    assert (curve["rnd_reward"].iloc[1:] > 0).all()


def test_something_new_is_paid_more(world, recipe):
    rl = recipe(total_timesteps=96)
    one = Paid(world, rl, lambda of: RND(*of, rnd(updates=40)))
    usual = np.concatenate(one.reward._after)
    new = usual[:1].copy()
    new[0] = 1.0 if world.name == "cartpole" else 255 - new[0]
    errors = [one.reward._errors(seen).mean().item() for seen in (usual, new)]
    assert errors[1] > 4 * errors[0]


def test_novelty_is_that_of_the_observation_after_the_step(cartpole, recipe, no_noise):
    """Where an episode ends it is its last one, not the first of the next."""
    world = replace(cartpole, noise=no_noise)
    rl = recipe(total_timesteps=32)
    one = Paid(world, rl, lambda of: RND(*of, rnd()), bias=1)
    after = np.array(one.reward._after)
    seen = one.model.rollout_buffer.observations["state"]
    seen = seen.reshape(2, 16, 4).swapaxes(0, 1) if seen.ndim == 2 else seen
    starts = one.model.rollout_buffer.episode_starts
    starts = (
        starts.reshape(2, 16).T if starts.ndim == 1 or starts.shape[1] == 1 else starts
    )
    same = (after[:-1] == seen[1:]).all(axis=2)
    assert (same == (starts[1:] == 0)).all()
    assert (starts[1:] == 1).sum() == 2
    # A fallen pole leans by more than 12 degrees.
    assert (np.abs(after[:-1][starts[1:] == 1][:, 2]) > 0.2).all()


def test_the_reward_is_the_error_over_the_spread_of_its_sums(cartpole, recipe):
    rl = recipe(total_timesteps=32, gamma=0.9)
    one = Paid(cartpole, rl, lambda of: RND(*of, rnd(weight=3.0, updates=1)))
    reward = one.reward
    # What was paid, times the spread, gives the errors; these give the sums.
    spread = np.sqrt(reward._of_returns.var + 1e-8)
    errors = one.paid * spread / 3
    sums, last = [], np.zeros(2)
    for error in errors:
        last = 0.9 * last + error
        sums.append(last)
    assert np.allclose(reward.returns, last, rtol=1e-3)
    # SB3's running variance begins with a ten-thousandth of a 1.
    assert np.var(sums) == pytest.approx(reward._of_returns.var, rel=0.05)


def test_a_network_sees_the_newest_frame(tiny_mario, recipe):
    world = tiny_mario.but(frame_stack=4)
    one = Paid(world, recipe(total_timesteps=32), lambda of: RND(*of, rnd()))
    assert np.array(one.reward._after).shape == (16, 2, 1, 36, 36)
    assert one.reward._of_seen.mean.shape == (1, 36, 36)
    # A pixel of the run is between black and white.
    assert one.reward._of_seen.mean.max() <= 1


# ------------------------------------------------------------------------------ both


class Killed(Exception):
    """Stands for SIGKILL, as far as one process can."""


@pytest.mark.parametrize("row", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_training_with_learned_rewards_resumes_to_the_same_bytes(
    world, recipe, weights, are_equal, tmp_path, row
):
    world = replace(world.but(time_limit=18), restart_probability=0.5)
    shown = [played(world, right), played(world, lambda _: 0)]
    rl = recipe(
        n_steps=12,
        batch_size=12,
        log_freq=24,
        eval_freq=48,
        restart_probability=0.5,
        gail=gail(env_weight=0.5, weight_decay=1e-3),
        rnd=rnd(),
    )

    def score(policy):
        return Score(0.0, policy.action_net.bias[0].item(), 1)

    def run(**more):
        return world.train(rl, score=score, shown=shown, **more)

    whole, steps = run(), 0

    def kill(more):
        nonlocal steps
        steps += more
        if steps == row * 24 + 14:
            raise Killed

    with pytest.raises(Killed):
        run(checkpoint=Checkpoint(tmp_path / "kept"), on_agent_steps=kill)
    resumed = run(checkpoint=Checkpoint(tmp_path / "kept"), start=world.policy(77))
    assert resumed.curve.to_csv() == whole.curve.to_csv()
    assert are_equal(weights(resumed.policy), weights(whole.policy))
    for column in ("gail_reward", "discriminator_loss", "rnd_reward", "predictor_loss"):
        assert whole.curve[column].iloc[1:].notna().all()


@pytest.mark.parametrize("algorithm", ["a2c", "recurrent_ppo"])
def test_they_pay_others_as_well(cartpole, recipe_of, algorithm):
    rl = recipe_of(algorithm, gail=gail(), rnd=rnd())
    check_recipe("mine", rl)
    curve = cartpole.train(rl, shown=[played(cartpole, balance, 60)]).curve
    for column in ("gail_reward", "rnd_reward", "value_loss"):
        assert curve[column].iloc[1:].notna().all()


@pytest.mark.parametrize("algorithm", ["ppo", "recurrent_ppo"])
def test_who_is_paid_nothing_has_the_same_returns(cartpole, recipe_of, algorithm):
    returns = []
    with closing(cartpole.envs(2)) as envs:
        rl = recipe_of(algorithm, total_timesteps=32)
        model: Any = make_model(rl, envs, "cartpole", "state", 5, CPU, [])
        reward: Any = RND(model, "cartpole", "state", 3, rnd())
        pay = reward._pay

        def pay_nothing(rewards):
            returns.append(model.rollout_buffer.returns.copy())
            pay(0 * rewards)
            returns.append(model.rollout_buffer.returns.copy())

        reward._pay = pay_nothing
        model.learn(32, reward)
    assert np.array_equal(*returns)


def test_without_them_a_training_has_no_such_columns(cartpole, recipe):
    columns = set(cartpole.train(recipe()).curve)
    assert not columns & {"gail_reward", "discriminator_accuracy", "rnd_reward"}
