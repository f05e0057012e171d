"""What is paid, computed by hand."""

from collections.abc import Mapping

import numpy as np
import pytest

from warpzone.envs.mario.rewards import (
    DEFAULTS,
    LEDGER,
    TERMS,
    check_weights,
    reward,
    weights_of,
)

START = {
    "progress": 100,
    "score": 200,
    "coins": 3,
    "time": 300,
    "dead": 0,
    "cleared": 0,
}
NOTHING = dict.fromkeys(TERMS, 0.0) | {"progress_cap": 30}


def paid(weights: Mapping[str, float], **after: int) -> float:
    """The reward of a step that begins at ``START`` and changes what is given."""
    return paid_between(START, START | after, weights)


def paid_between(
    before: Mapping[str, int], after: Mapping[str, int], weights: Mapping[str, float]
) -> float:
    ledgers = [
        np.array([tuple(numbers[name] for name in START)], LEDGER)
        for numbers in (before, after)
    ]
    old, new = ledgers
    return reward(old, new, weights_of(NOTHING | dict(weights)))


def test_nothing_happened_and_nothing_is_paid() -> None:
    everything = dict.fromkeys(TERMS, 1.0) | {"progress_cap": 9}
    assert paid(everything) == 0.0


def test_a_pixel_of_new_ground_is_paid_up_to_the_cap() -> None:
    assert paid({"progress": 0.5}, progress=112) == 6.0
    assert paid({"progress": 0.5}, progress=130) == 15.0
    assert paid({"progress": 0.5}, progress=190) == 15.0
    assert paid({"progress": 0.5, "progress_cap": 5}, progress=112) == 2.5


def test_points_are_paid() -> None:
    assert paid({"score": 0.01}, score=350) == 1.5


def test_a_score_that_starts_anew_costs_nothing() -> None:
    assert paid({"score": 0.01}, score=0) == 0.0


def test_coins_are_paid_and_the_hundredth_starts_the_count_anew() -> None:
    assert paid({"coin": 0.5}, coins=5) == 1.0
    assert paid({"coin": 0.5}, coins=1) == 49.0  # 98 coins: 3 + 98 = 101.
    near = START | {"coins": 99}
    assert paid_between(near, near | {"coins": 1}, {"coin": 0.5}) == 1.0


def test_a_tick_of_the_clock_is_paid_and_a_clock_that_is_wound_up_is_not() -> None:
    assert paid({"clock_tick": -0.1}, time=298) == pytest.approx(-0.2)
    assert paid({"clock_tick": -0.1}, time=400) == 0.0


def test_death_and_the_clear_are_paid() -> None:
    assert paid({"death": -1.0}, dead=True) == -1.0
    assert paid({"clear": 2.0}, cleared=True) == 2.0


def test_the_parts_add_up() -> None:
    weights = {
        "progress": 0.02,
        "score": 0.01,
        "coin": 0.5,
        "clock_tick": -0.1,
        "death": -1.0,
        "clear": 2.0,
    }
    after = {"progress": 110, "score": 300, "coins": 4, "time": 299, "cleared": True}
    # Ground 0.2, points 1.0, coin 0.5, tick -0.1, flag 2.0.
    assert paid(weights, **after) == pytest.approx(3.6)


def test_weights_that_are_not_given_are_the_defaults() -> None:
    assert check_weights(None) == check_weights({}) == DEFAULTS
    assert check_weights({"death": -1}) == DEFAULTS | {"death": -1}


def test_a_weight_of_something_that_is_not_paid_is_refused_with_those_that_are() -> (
    None
):
    with pytest.raises(ValueError, match=r"unknown \['deaths'\], it knows \['clear',"):
        check_weights({"deaths": -1.0})


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 2e6, "1", True, None])
def test_a_weight_is_a_finite_number(weight: float) -> None:
    with pytest.raises(ValueError, match=r"reward\.death = .*: write a number"):
        check_weights({"death": weight})
