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
    "power": 0,
    "time": 300,
    "x": 140,
    "y": 79,
    "dead": 0,
    "cleared": 0,
}
NOTHING = dict.fromkeys(TERMS, 0.0) | {"progress_cap": 30, "milestone_every": 500}


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
    totals = np.zeros(len(TERMS))
    amount = reward(old, new, weights_of(NOTHING | dict(weights)), totals)
    assert totals.sum() == pytest.approx(amount)
    return amount


def test_nothing_happened_and_nothing_but_idling_is_paid() -> None:
    everything = dict.fromkeys(TERMS, 1.0) | {"progress_cap": 9}
    assert paid(everything | {"idle": 0.0}) == 0.0
    assert paid(everything) == 1.0


def test_each_step_to_new_ground_is_paid_the_same() -> None:
    assert paid({"new_maximum": 0.5}, progress=101) == 0.5
    assert paid({"new_maximum": 0.5}, progress=112) == 0.5
    assert paid({"new_maximum": 0.5}) == 0.0


def test_a_milestone_is_paid_when_it_is_passed_whatever_the_cap() -> None:
    weights = {"milestone": 3.0, "progress_cap": 1, "milestone_every": 50}
    assert paid(weights, progress=149) == 0.0
    assert paid(weights, progress=150) == 3.0
    assert paid(weights, progress=201) == 6.0


def test_growing_is_paid_and_shrinking_is_not() -> None:
    assert paid({"power_up": 0.5}, power=1) == 0.5
    big = START | {"power": 1}
    assert paid_between(big, big | {"power": 2}, {"power_up": 0.5}) == 0.5
    assert paid_between(big, big | {"power": 0}, {"power_up": 0.5}) == 0.0


def test_a_step_that_ends_where_it_began_is_idle() -> None:
    assert paid({"idle": -0.5}) == -0.5
    # Back to the left, and up into the air.
    assert paid({"idle": -0.5}, x=139) == 0.0
    assert paid({"idle": -0.5}, y=80) == 0.0


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
        "new_maximum": 0.03,
        "milestone": 0.7,
        "power_up": 0.4,
    }
    weights |= {"milestone_every": 105}
    after = {"progress": 110, "score": 300, "coins": 4, "time": 299, "cleared": True}
    after |= {"power": 1, "x": 150}
    # Ground 0.2 and 0.03, milestone 0.7, points 1.0, coin 0.5, mushroom 0.4, tick -0.1,
    # flag 2.0.
    assert paid(weights, **after) == pytest.approx(4.73)


def test_totals_are_kept_by_term() -> None:
    before = np.array([tuple(START.values())], LEDGER)
    after = np.array([tuple((START | {"progress": 110, "coins": 5}).values())], LEDGER)
    totals = np.zeros(len(TERMS))
    weights = weights_of(NOTHING | {"progress": 0.5, "coin": 2.0, "death": -9.0})
    for _ in range(2):
        assert reward(before, after, weights, totals) == 9.0
    expected = dict.fromkeys(TERMS, 0.0) | {"progress": 10.0, "coin": 8.0}
    assert dict(zip(TERMS, totals, strict=True)) == expected


def test_weights_that_are_not_given_are_the_defaults() -> None:
    assert check_weights(None) == check_weights({}) == DEFAULTS
    assert check_weights({"death": -1}) == DEFAULTS | {"death": -1}


def test_a_weight_of_something_that_is_not_paid_is_refused_with_those_that_are() -> (
    None
):
    with pytest.raises(ValueError, match=r"unknown \['deaths'\], it knows \['clear',"):
        check_weights({"deaths": -1.0})


@pytest.mark.parametrize(
    ("unknown", "near"),
    [("deaths", "death"), ("power-up", "power_up"), ("new_max", "new_maximum")],
)
def test_the_nearest_term_is_named(unknown: str, near: str) -> None:
    with pytest.raises(ValueError, match=rf": did you mean {near}$"):
        check_weights({unknown: 1.0})


def test_what_is_like_no_term_is_refused_without_a_guess() -> None:
    with pytest.raises(ValueError, match=r"'score'\]$"):
        check_weights({"style": 1.0})


def test_a_milestone_has_a_length() -> None:
    with pytest.raises(ValueError, match=r"milestone_every = 0: write a number, 1 to"):
        check_weights({"milestone_every": 0})


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 2e6, "1", True, None])
def test_a_weight_is_a_finite_number(weight: float) -> None:
    with pytest.raises(ValueError, match=r"reward\.death = .*: write a number"):
        check_weights({"death": weight})
