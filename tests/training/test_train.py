"""Trainings as a whole: what they cost, keep, report, and when they end."""

import tempfile
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import KVWriter

from warpzone.core.errors import InputError
from warpzone.core.params import DemonstrationsParams
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.episodes.play import play_episodes
from warpzone.episodes.recording import Recording
from warpzone.episodes.table import Score
from warpzone.training.algorithms import ALGORITHMS
from warpzone.training.checkpoint import Checkpoint
from warpzone.training.memory import remember
from warpzone.training.train import make_score

RIGHT = 1
"""Of Mario's action set ``simple``, and of CartPole's."""


def test_equal_seeds_train_equal_policies_whatever_the_number_of_threads(
    world, recipe, weights, are_equal
):
    def run(threads, seed):
        seen = []

        def score(policy):
            seen.append(weights(policy))
            return Score(0.0, float(len(seen)), 1)

        one = replace(world, threads=threads)
        return one.train(recipe(), seed=seed, score=score), seen[-1]

    (first, first_last), (second, second_last) = (run(n, 5) for n in (1, 2))
    _, other_last = run(2, 6)
    assert are_equal(weights(first.policy), weights(second.policy))
    assert are_equal(first_last, second_last)
    assert not are_equal(first_last, other_last)
    assert first.curve.to_csv() == second.curve.to_csv()


def test_the_curve_counts_the_episodes_of_every_environment(
    tiny_mario, recipe, no_noise
):
    curve = replace(tiny_mario, noise=no_noise).train(recipe()).curve
    assert curve["agent_steps"].tolist() == [0, 32, 64, 96]
    # 2 environments x 16 steps / 8 steps an episode.
    assert curve["episodes"].tolist() == [0, 4, 4, 4]
    # 32 agent steps x 4 frames, on top of what it takes to reach the level's start.
    assert curve["emulator_frames"].diff().tolist()[1:] == [128, 128, 128]
    assert curve["success_rate"].tolist()[1:] == [0, 0, 0]
    # Mario starts at 40, runs at most 2.5 pixels a frame, and is paid 0.02 a pixel.
    assert curve["progress"].iloc[1:].between(40, 40 + 80).all()
    paid = 0.02 * (curve["progress"] - 40)
    assert np.allclose(curve["episode_return"].iloc[1:], paid.iloc[1:])


def test_the_curve_says_what_each_term_of_the_reward_paid(tiny_mario, recipe):
    weights = {"death": 0.0, "clear": 0.0, "idle": -0.5, "clock_tick": -0.01}
    curve = tiny_mario.but(reward=weights).train(recipe()).curve
    terms = [name for name in curve if name.startswith("reward_")]
    # Those with a weight.
    assert terms == ["reward_progress", "reward_clock_tick", "reward_idle"]
    assert curve[terms].iloc[0].isna().all()
    paid = curve[terms].iloc[1:].sum(axis=1)
    assert np.allclose(paid, curve["episode_return"].iloc[1:])
    assert (curve["reward_idle"].iloc[1:] % 0.125 == 0).all()
    assert (curve["reward_progress"].iloc[1:] > 0).all()


def test_a_world_without_terms_has_no_columns_of_them(cartpole, recipe):
    curve = cartpole.train(recipe()).curve
    assert not [name for name in curve if name.startswith("reward_")]


def test_the_curve_counts_successes(cartpole, recipe, no_noise):
    # Whoever pushes an upright pole fewer than 9 times cannot make it fall.
    short = replace(cartpole, noise=no_noise).but(time_limit=8)
    curve = short.train(recipe()).curve
    assert curve["episodes"].tolist() == [0, 4, 4, 4]
    assert curve["success_rate"].tolist()[1:] == [1, 1, 1]
    assert curve["progress"].tolist()[1:] == [8, 8, 8]
    assert curve["episode_return"].tolist()[1:] == [8, 8, 8]
    assert curve["emulator_frames"].diff().tolist()[1:] == [32, 32, 32]


def test_second_tries_are_counted_by_place(cartpole, recipe, no_noise):
    """Pushed to the right all along, the pole falls in the 9th or 10th agent step.

    Every episode is then marked at 0 and 8, and restarted at 0.
    """
    world = replace(cartpole, noise=no_noise, restart_probability=1.0)
    start = world.policy()
    with torch.no_grad():
        start.get_parameter("action_net.bias")[RIGHT] = 1e6
    rl = recipe(restart_probability=1.0, total_timesteps=32, learning_rate=1e-9)
    training = world.train(rl, start=start)
    episodes = int(training.curve["episodes"].sum())
    # 2 environments of 16 agent steps.
    assert episodes == 2
    rows = training.second_tries.to_dict("records")
    assert rows == [{"level": "default", "progress": 0, "second_tries": episodes}]


def test_without_restarts_there_are_no_second_tries(tiny_mario, recipe):
    table = tiny_mario.train(recipe()).second_tries
    assert table.to_csv(index=False) == "level,progress,second_tries\n"


# ln 2 and ln 7.
@pytest.mark.parametrize(("name", "even"), [("cartpole", 0.6931), ("mario", 1.9459)])
def test_the_entropy_of_a_new_policy_is_nearly_that_of_an_even_choice(
    cartpole, tiny_mario, recipe, name, even
):
    world = {"cartpole": cartpole, "mario": tiny_mario}[name]
    tiny = {"learning_rate": 1e-9, "final_learning_rate": 1e-9}
    curve = world.train(recipe(total_timesteps=32, **tiny)).curve
    assert curve["entropy_loss"].iloc[1] == pytest.approx(-even, abs=0.01)


@pytest.mark.parametrize("algorithm", ["ppo", "recurrent_ppo"])
def test_the_warm_up_moves_the_critic_only(world, recipe_of, weights, algorithm):
    start = world.policy(kind=ALGORITHMS[algorithm].policy.KIND)
    before = weights(start)
    seen = []

    def score(policy):
        seen.append(weights(policy))
        return Score(0.0, 0.0, 1)

    changes = {"total_timesteps": 160, "critic_warmup": 64, "ema_decay": 0.0}
    rl = recipe_of(algorithm, **changes)
    curve = world.train(rl, start=start, score=score).curve

    def moved(row):
        return {n for n in before if not torch.equal(seen[row][n], before[n])}

    critic = {n for n in before if n.startswith(("value_net", "vf_features_extractor"))}
    assert len(critic) > 4
    assert [moved(row) for row in range(3)] == [set(), critic, critic]
    # Afterwards all of the actor moves.
    assert moved(3) == before.keys()
    # An actor that stands still cannot diverge: what it remembers is the same, too.
    assert curve["approx_kl"].iloc[1:3].abs().max() == 0
    assert curve["approx_kl"].iloc[3] > 0


def test_the_critic_learns_in_the_warm_up(tiny_mario, recipe):
    rl = recipe(total_timesteps=320, critic_warmup=320)
    losses = tiny_mario.train(rl).curve["value_loss"].iloc[1:]
    assert losses.iloc[-3:].mean() < losses.iloc[:3].mean()


def test_what_is_scored_is_a_moving_average_of_the_policies(
    cartpole, recipe, weights, are_equal
):
    averages = {}
    for decay in (0.0, 0.75):
        seen = averages[decay] = []

        def score(policy, seen=seen):
            seen.append(weights(policy))
            return Score(0.0, 0.0, 1)

        cartpole.train(recipe(ema_decay=decay), score=score)
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


def test_milestones_are_the_start_and_the_first_rows_past_their_share(
    cartpole, recipe, weights, are_equal
):
    """With 320 agent steps 10 % is the row at 32, and 30 % the one at 96."""
    seen = []

    def score(policy):
        seen.append(weights(policy))
        return Score(0.0, 1.0, 1)

    kept = cartpole.train(recipe(total_timesteps=320), score=score).milestones
    assert list(kept) == ["0", "10", "30"]
    for percent, row in (("0", 0), ("10", 1), ("30", 3)):
        assert are_equal(kept[percent], seen[row]), percent


def test_the_start_is_a_candidate(cartpole, recipe, weights, are_equal):
    start = cartpole.policy()
    before = weights(start)
    ways = [(0.5, 100), (0.3, 99), (0.2, 200), (0.0, 300)]
    scores = iter([Score(rate, progress, 100) for rate, progress in ways])
    trained = cartpole.train(recipe(), start=start, score=lambda _: next(scores))
    assert trained.best_row == 0
    assert are_equal(weights(trained.policy), before)


def test_the_best_policy_succeeds_most_and_then_gets_furthest(
    cartpole, recipe, weights, are_equal
):
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
        seen.append(weights(policy))
        return next(scores)

    trained = cartpole.train(recipe(), score=score)
    assert trained.best_row == 2
    assert are_equal(weights(trained.policy), seen[2])
    assert not are_equal(seen[3], seen[2])
    assert trained.curve["eval_success_rate"].tolist() == [0.1, 0.5, 0.5, 0.2]
    assert trained.curve["eval_progress"].tolist() == [900, 10, 11, 999]
    summary = trained.summary()
    assert summary == {
        "agent_steps": 96,
        "emulator_frames": trained.curve["emulator_frames"].iloc[-1],
        "best_agent_steps": 64,
        "ended_by": "budget",
        "health": [],
        "eval_episodes": 40,
        "eval_agent_steps": 16,
        "eval_emulator_frames": 28,
        "eval_success_rate_start": 0.1,
        "eval_success_rate_best": 0.5,
        "eval_success_rate_final": 0.2,
        "eval_progress_start": 900,
        "eval_progress_best": 11,
        "eval_progress_final": 999,
    }


def test_the_last_policy_is_evaluated_whatever_the_interval(cartpole, recipe):
    curve = cartpole.train(recipe(eval_freq=64)).curve
    evaluated = curve["eval_success_rate"].notna()
    assert evaluated.tolist() == [True, False, True, True]


def test_training_leaves_nothing_in_the_temporary_folder(
    cartpole, recipe, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cartpole.train(recipe(total_timesteps=32))
    assert not list(tmp_path.iterdir())


def test_training_ends_when_the_goal_is_significantly_reached(cartpole, recipe):
    # 48 successes of 48: the interval's lower end is 0.926.
    rl = recipe(goal_success_rate=0.92)
    scores = iter([Score(0.5, 1.0, 48), Score(1.0, 2.0, 48), Score(1.0, 3.0, 48)])
    training = cartpole.train(rl, score=lambda _: next(scores))
    assert training.ended_by == "goal"
    assert training.best_row == 1
    assert training.curve["agent_steps"].tolist() == [0, 32]


def test_training_ends_after_bad_evaluations_in_a_row_and_keeps_the_best(
    cartpole, recipe, weights, are_equal
):
    rl = recipe(total_timesteps=160, collapse_share=0.5, patience=2)
    # Bad, fair since it may be 41 %, bad, bad.
    rates = iter([0.8, 0.3, 0.31, 0.3, 0.3, 0.8])
    start = cartpole.policy()
    before = weights(start)
    training = cartpole.train(
        rl, start=start, score=lambda _: Score(next(rates), 1.0, 100)
    )
    assert training.ended_by == "collapse"
    assert training.best_row == 0
    assert are_equal(weights(training.policy), before)
    assert training.curve["agent_steps"].tolist() == [0, 32, 64, 96, 128]


@pytest.mark.parametrize("goal", [0.92, 0.99])
def test_a_training_that_gets_to_its_last_row_has_spent_its_budget(
    cartpole, recipe, goal
):
    scores = iter([Score(0.5, 1.0, 48)] * 3 + [Score(1.0, 1.0, 48)])
    spent = []
    training = cartpole.train(
        recipe(goal_success_rate=goal),
        score=lambda _: next(scores),
        on_agent_steps=spent.append,
    )
    assert training.ended_by == "budget"
    assert training.curve["agent_steps"].tolist() == [0, 32, 64, 96]
    assert spent == [2] * 48


def test_a_budget_is_spent_to_the_end_of_the_rollout(cartpole, recipe):
    curve = cartpole.train(recipe(total_timesteps=70)).curve
    assert curve["agent_steps"].tolist() == [0, 32, 64, 96]


class Kept(KVWriter):
    """A tracker."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, Any]]] = []

    def write(self, key_values, key_excluded, step=0) -> None:
        self.rows.append((step, dict(key_values)))

    def close(self) -> None:
        pass


def test_a_tracker_gets_what_sb3_says_of_each_update(cartpole, recipe):
    tracker = Kept()
    training = cartpole.train(recipe(), writers=[tracker])
    assert [step for step, said in tracker.rows if said] == [32, 64, 96]
    for (_, said), (_, row) in zip(
        tracker.rows[-3:], list(training.curve.iterrows())[1:], strict=True
    ):
        for name in ("loss", "value_loss", "approx_kl", "clip_fraction"):
            assert said[f"train/{name}"] == row[name]
        assert said["train/learning_rate"] == pytest.approx(1e-3)
    assert [said["train/n_updates"] for _, said in tracker.rows[-3:]] == [2, 4, 6]


class Killed(Exception):
    """Stands for SIGKILL, as far as one process can."""


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(0, marks=pytest.mark.slow),
        1,
        pytest.param(2, marks=pytest.mark.slow),
    ],
)
def test_a_training_that_was_killed_resumes_to_the_same_end(
    world, recipe, weights, are_equal, tmp_path, row
):
    # Rollouts of 12 steps, episodes of 18 or less, some of which begin further on, and
    # some of which are restarts: it is killed in mid-episode.
    world = replace(
        world.but(time_limit=18), demo_start_probability=0.5, restart_probability=0.7
    )
    rl = recipe(
        total_timesteps=96,
        n_steps=12,
        batch_size=12,
        log_freq=24,
        eval_freq=48,
        critic_warmup=24,
        final_learning_rate=1e-5,
        demo_start_probability=0.5,
        restart_probability=0.7,
    )

    def score(policy):
        return Score(0.0, policy.action_net.bias[0].item(), 1)

    whole = world.train(rl, score=score)
    checkpoint = Checkpoint(tmp_path / "kept")
    steps = 0

    def kill(more):
        nonlocal steps
        steps += more
        if steps == row * 24 + 14:
            raise Killed

    with pytest.raises(Killed):
        world.train(rl, score=score, checkpoint=checkpoint, on_agent_steps=kill)
    said = []
    resumed = world.train(
        rl,
        start=world.policy(seed=77),
        score=score,
        checkpoint=Checkpoint(tmp_path / "kept"),
        on_agent_steps=said.append,
    )
    assert are_equal(weights(resumed.policy), weights(whole.policy))
    assert resumed.best_row == whole.best_row
    assert list(resumed.milestones) == list(whole.milestones) == ["0", "10", "30"]
    for percent, kept in whole.milestones.items():
        assert are_equal(resumed.milestones[percent], kept)
    assert resumed.curve.to_csv() == whole.curve.to_csv()
    assert resumed.second_tries.to_csv() == whole.second_tries.to_csv()
    assert whole.second_tries["second_tries"].sum() > 0
    # Only what came after the last row is played again.
    assert sum(said) == 96 - row * 24


@pytest.mark.parametrize(
    "algorithm",
    ["recurrent_ppo", "a2c", "dqn", "qrdqn", "demo-dqn", "demo-qrdqn"],
)
def test_every_algorithm_resumes_to_the_same_end(
    tiny_mario, recipe_of, weights, are_equal, tmp_path, algorithm
):
    """It is killed in mid-episode, after the memory of 2 x 12 agent steps ran over."""
    world = replace(tiny_mario.but(time_limit=9), restart_probability=0.7)
    is_shown, name = algorithm.startswith("demo-"), algorithm.removeprefix("demo-")
    changes: dict[str, Any] = {"final_learning_rate": 1e-5}
    if name.endswith("dqn"):
        changes |= {"buffer_size": 24}
    more: dict[str, Any] = {}
    if is_shown:
        demos = {"share": 0.25, "margin": 0.8, "margin_weight": 1.0, "updates": 3}
        changes |= {"start": "demos", "demonstrations": DemonstrationsParams(**demos)}
        changes |= {"learning_starts": 0}
        with closing(world.make(keys=("pixels",))) as env:
            env.reset(seed=1)
            while env.cause is None:
                env.step(RIGHT)
            shown = [Recording.of_episode(env, 1)]
            cpu, dqn = torch.device("cpu"), recipe_of(name)
            more["remembered"] = remember(shown, world.kwargs, env, dqn, cpu, "demos")
    rl = recipe_of(name, **changes)

    def score(policy):
        return Score(0.0, next(policy.parameters()).flatten()[0].item(), 1)

    whole = world.train(rl, score=score, **more)
    checkpoint, steps = Checkpoint(tmp_path / "kept"), 0

    def kill(taken):
        nonlocal steps
        steps += taken
        if steps == 64 + 10:
            raise Killed

    with pytest.raises(Killed):
        world.train(rl, score=score, checkpoint=checkpoint, on_agent_steps=kill, **more)
    start = world.policy(seed=77, kind=ALGORITHMS[name].policy.KIND)
    checkpoint = Checkpoint(tmp_path / "kept")
    resumed = world.train(rl, start=start, score=score, checkpoint=checkpoint, **more)
    assert are_equal(weights(resumed.policy), weights(whole.policy))
    assert resumed.curve.to_csv() == whole.curve.to_csv()
    assert resumed.second_tries.to_csv() == whole.second_tries.to_csv()
    for percent, kept in whole.milestones.items():
        assert are_equal(resumed.milestones[percent], kept)
    assert ("margin_loss" in whole.curve) == is_shown


def test_a_memory_is_trained_on_from_one_only(tiny_mario, recipe_of, weights):
    """The kind of the start has to be that of the algorithm."""
    rl = recipe_of("recurrent_ppo", total_timesteps=32)
    with pytest.raises(InputError, match="of the kind actor-critic, recurrent_ppo tr"):
        tiny_mario.train(rl, start=tiny_mario.policy())
    start = tiny_mario.policy(seed=4, kind="recurrent")
    before = weights(start)
    kept = tiny_mario.train(rl, start=start).milestones["0"]
    assert all(torch.equal(before[name], kept[name]) for name in kept)


def test_a_training_that_was_killed_once_it_had_ended_ends_at_once(
    cartpole, recipe, weights, are_equal, tmp_path
):
    whole = cartpole.train(recipe(), checkpoint=Checkpoint(tmp_path / "kept"))
    said = []
    resumed = cartpole.train(
        recipe(),
        checkpoint=Checkpoint(tmp_path / "kept"),
        on_agent_steps=said.append,
    )
    assert said == []
    assert are_equal(weights(resumed.policy), weights(whole.policy))
    assert resumed.curve.to_csv() == whole.curve.to_csv()


def test_a_training_that_was_killed_at_its_goal_ends_there(cartpole, recipe, tmp_path):
    checkpoint = Checkpoint(tmp_path / "kept")
    rl = recipe(goal_success_rate=0.92)
    scores = [Score(1.0, 2.0, 48), Score(0.5, 1.0, 48)]

    def kill(_):
        if not scores:
            raise Killed

    with pytest.raises(Killed):
        cartpole.train(
            rl,
            score=lambda _: scores.pop(),
            checkpoint=checkpoint,
            on_agent_steps=kill,
        )
    resumed = cartpole.train(rl, checkpoint=Checkpoint(tmp_path / "kept"))
    assert resumed.ended_by == "goal"
    assert resumed.curve["agent_steps"].tolist() == [0, 32]


@pytest.mark.parametrize("key", ["pixels", "state"])
def test_a_score_is_what_the_episodes_of_selection_give(tiny_mario, recipe, key):
    world = replace(tiny_mario, key=key).but(time_limit=40)
    policy = world.policy()
    with torch.no_grad():
        # It always walks to the right.
        policy.get_parameter("action_net.bias")[RIGHT] = 1e6

    class Right:
        keys, memory_size = ("state",), 0

        def act(self, observations, memories, rngs):
            return np.full(len(rngs), RIGHT), memories

    levels = ("1-1", "1-2")
    rl = recipe(n_eval_episodes=3, n_envs=2)
    score = make_score(world.agent(), world.make, levels, rl, 7)(policy)
    seeds = [episode_seed(Purpose.SELECTION, 7, index) for index in range(3)]
    table, _ = play_episodes(Right(), world.make, levels, seeds, 3)
    assert table["level"].tolist() == ["1-1", "1-2", "1-1"]
    assert score.episodes == 3
    assert score.success_rate == 0
    assert score.progress == pytest.approx(table["progress"].mean())
    assert score.progress > 150
    assert score.agent_steps == table["agent_steps"].sum()
    assert score.emulator_frames == table["emulator_frames"].sum()


@pytest.mark.parametrize(("goal", "episodes"), [(0.0, 80), (0.05, 80), (0.06, 64)])
def test_an_evaluation_ends_once_the_goal_is_out_of_reach(
    cartpole, recipe, goal, episodes
):
    # Nobody balances a pole by pushing to the left only. With no success in 64
    # episodes, the success rate may still be 5.7 %.
    policy = cartpole.policy()
    with torch.no_grad():
        policy.get_parameter("action_net.bias")[0] = 1e6
    rl = recipe(n_eval_episodes=80, goal_success_rate=goal)
    score = make_score(cartpole.agent(), cartpole.make, ["default"], rl, 7)(policy)
    assert (score.episodes, score.success_rate) == (episodes, 0)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["ppo", "recurrent_ppo"])
def test_a_policy_learns_to_run_to_the_right(
    tiny_mario, recipe_of, no_noise, algorithm
):
    world = replace(tiny_mario, noise=no_noise).but(time_limit=16)
    size = {"total_timesteps": 4096, "n_envs": 4, "n_steps": 64, "batch_size": 64}
    rl = recipe_of(algorithm, **size, log_freq=256)
    curve = world.train(rl).curve
    early, late = (curve["progress"].iloc[rows].mean() for rows in (1, [-2, -1]))
    assert late > early + 30


@pytest.mark.slow
def test_a_policy_learns_to_balance_a_pole(cartpole, recipe):
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
    )
    curve = cartpole.train(rl).curve
    assert curve["progress"].iloc[1] < 50
    assert curve["progress"].iloc[-1] > 150
