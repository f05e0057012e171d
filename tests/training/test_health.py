"""Trouble in a training is told, and a healthy training is left alone."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from warpzone.core.params import load_params
from warpzone.episodes.table import Score
from warpzone.training.checkpoint import Checkpoint
from warpzone.training.health import CHECKS, WINDOW, History

ROOT = Path(__file__).parents[2]
FINE = {
    "success_rate": 0.2,
    "episode_return": 10.0,
    "entropy_loss": -0.5,
    "value_loss": 1.0,
    "approx_kl": 0.2,
    "explained_variance": 0.6,
    "q_value": 8.0,
}
"""A row of a training with 7 actions and a target_kl of 0.5."""
SCORES = [Score(0.5, 1.0, 100), Score(0.9, 1.0, 100), Score(0.8, 1.0, 100)]


@pytest.fixture
def told(recipe):
    """Check a curve whose columns have the given values; return what is told."""

    def told(scores=SCORES, rows=WINDOW, target_kl=0.5, **columns):
        table: list[dict[str, Any]] = []
        for index in range(rows):
            table.append(FINE | {key: one[index] for key, one in columns.items()})
        history = History(table, scores, recipe(target_kl=target_kl), 7)
        found = {name: check(history) for name, check in CHECKS.items()}
        return {name: said for name, said in found.items() if said}

    return told


def test_a_healthy_curve_is_left_alone(told):
    assert told() == {}


# 1 % of an even choice among 7 is 0.0195 nats.
@pytest.mark.parametrize(
    ("entropy", "success", "is_told"),
    [
        (0.019, 0.4, True),
        (0.02, 0.4, False),
        # Who succeeds may be certain of it.
        (0.001, 0.5, False),
        # No episode has ended.
        (0.001, None, True),
    ],
)
def test_an_entropy_collapse(told, entropy, success, is_told):
    found = told(entropy_loss=[-entropy] * 10, success_rate=[success] * 10)
    assert list(found) == (["entropy"] if is_told else [])
    if success == 0.4 and is_told:
        assert found["entropy"] == (
            "entropy has collapsed: 0.0190 nats, an even choice has 1.95, and 40% of "
            "the episodes succeed: raise ent_coef or lower learning_rate"
        )


@pytest.mark.parametrize(
    ("losses", "is_told"),
    [
        ([1, 1, 11, 1, 1, 30, 1, 12, 1, 1], True),
        # An explosion is three spikes once it has lasted for three rows.
        ([1, 1, 1, 1, 1, 1, 1, 20, 300, 4000], True),
        ([1, 1, 11, 1, 1, 30, 1, 9, 1, 1], False),
        # It may fall as far as it likes.
        ([4000, 300, 20, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.1], False),
        ([50, 60, 50, 70, 50, 50, 50, 50, 50, 50], False),
    ],
)
def test_spikes_of_the_value_loss(told, losses, is_told):
    found = told(value_loss=losses)
    assert list(found) == (["value_loss"] if is_told else [])
    if losses[2] == 11 and is_told:
        assert found["value_loss"].startswith(
            "value_loss spikes: up to 30, while its median is 1: "
        )


@pytest.mark.parametrize(
    ("over", "target", "is_told"),
    [(5, 0.5, True), (4, 0.5, False), (10, None, False), (0, 0.5, False)],
)
def test_a_kl_over_its_target(told, over, target, is_told):
    found = told(approx_kl=[0.6] * over + [0.4] * (10 - over), target_kl=target)
    assert list(found) == (["kl"] if is_told else [])
    if is_told:
        assert found["kl"].startswith(
            "approx_kl is over target_kl = 0.5 in 5 of 10 updates, 0.5 in the middle: "
        )


@pytest.mark.parametrize(("value", "is_told"), [(-0.4, True), (0.09, True), (0.1, 0)])
def test_a_low_explained_variance(told, value, is_told):
    found = told(explained_variance=[value] * 10)
    assert list(found) == (["explained_variance"] if is_told else [])
    assert not is_told or f"is {value:.2f}: the critic" in found["explained_variance"]


@pytest.mark.parametrize(
    ("q", "returns", "is_told"),
    [
        (11.1, 10.0, True),
        # A tenth more is within what can be told.
        (10.9, 10.0, False),
        (0.9, -5.0, True),
        (-1.0, -5.0, False),
    ],
)
def test_an_over_estimated_q(told, q, returns, is_told):
    found = told(q_value=[q] * 10, episode_return=[None] + [returns] * 9)
    assert list(found) == (["q"] if is_told else [])
    assert not is_told or f"{q:.3g} on average" in found["q"]


# Wilson's intervals of 90, 70 and 75 of 100: 0.826 to 0.945, 0.604 to 0.781, 0.657 to
# 0.825; of 96 to 0.835 of 75 of 96.
@pytest.mark.parametrize(
    ("successes", "episodes", "is_told"),
    [(70, 100, True), (75, 100, True), (76, 100, False), (75, 96, False)],
)
def test_falling_success(told, successes, episodes, is_told):
    last = Score(successes / episodes, 1.0, episodes)
    found = told([*SCORES[:2], last])
    assert list(found) == (["success"] if is_told else [])
    if is_told:
        assert found["success"].startswith(
            f"success falls: {successes} of 100 in the last evaluation, 90 of 100 in "
            "the best one, which is kept: "
        )


def test_nothing_is_told_of_few_rows_or_of_columns_that_an_algorithm_lacks(told):
    bad = {"entropy_loss": [0.0] * 10, "explained_variance": [-1.0] * 10}
    assert told(**bad).keys() == {"entropy", "explained_variance"}
    assert told(rows=9, **bad) == {}
    nothing = dict.fromkeys(FINE, [None] * 10)
    assert told([], **nothing) == {}
    assert told(explained_variance=[np.nan] + [-1.0] * 9) == {}


@pytest.mark.parametrize(
    ("curve", "name"),
    [
        ("train_rl/mario/1-1/bc-ppo-1.csv", "bc-ppo"),
        ("train_teacher/mario/1-1/teacher-1.csv", "teacher"),
    ],
)
def test_the_trainings_of_this_repository_are_healthy(curve, name):
    table = pd.read_csv(ROOT / "metrics" / curve)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    names = [part.name for part in fields(Score)]
    recipe = load_params(ROOT / "params.yaml").recipes[name]
    assert len(rows) > 30
    for count in range(1, len(rows) + 1):
        so_far: Any = rows[:count]
        scores = [
            Score(*(row[f"eval_{part}"] for part in names))
            for row in so_far
            if row["eval_episodes"] is not None
        ]
        history = History(so_far, scores, recipe, 7)
        assert [said for check in CHECKS.values() if (said := check(history))] == []


@pytest.fixture
def falling():
    """Score policies worse and worse."""
    rates = iter([0.9, 0.7, 0.5, 0.3])
    return lambda _: Score(next(rates), 1.0, 100)


def test_a_trouble_is_told_once_and_kept(cartpole, recipe, falling):
    told = []
    training = cartpole.train(recipe(), score=falling, warn=told.append)
    assert told == [
        "after 32 agent steps success falls: 70 of 100 in the last evaluation, 90 of "
        "100 in the best one, which is kept: lower learning_rate or target_kl"
    ]
    assert training.health == training.summary()["health"] == told
    assert training.ended_by == "budget"
    assert training.curve["agent_steps"].iloc[-1] == 96


def test_a_trouble_ends_the_training_if_the_recipe_says_so(
    cartpole, recipe, falling, weights, are_equal
):
    start = cartpole.policy()
    before = weights(start)
    rl = recipe(on_bad_health="stop")
    training = cartpole.train(rl, start=start, score=falling)
    assert training.ended_by == "health"
    assert training.curve["agent_steps"].tolist() == [0, 32]
    # The best policy is kept.
    assert are_equal(weights(training.policy), before)


class Killed(Exception):
    """Stands for SIGKILL, as far as one process can."""


def test_what_was_told_before_a_kill_is_not_told_again(
    cartpole, recipe, falling, tmp_path
):
    def kill(_, steps=[0]):  # noqa: B006
        steps[0] += 1
        if steps[0] == 40:
            raise Killed

    told = []
    with pytest.raises(Killed):
        cartpole.train(
            recipe(),
            score=falling,
            warn=told.append,
            checkpoint=Checkpoint(tmp_path / "kept"),
            on_agent_steps=kill,
        )
    assert len(told) == 1
    resumed = cartpole.train(
        recipe(),
        score=falling,
        warn=told.append,
        checkpoint=Checkpoint(tmp_path / "kept"),
    )
    assert resumed.health == told
    assert len(told) == 1
