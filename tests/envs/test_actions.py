"""Button sets are those of gym-super-mario-bros, bit by bit."""

import gym_super_mario_bros.actions as official
import pytest
from nes_py.wrappers import JoypadSpace

from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.nes.buttons import (
    DOWN,
    LEFT,
    NO_BUTTONS,
    RIGHT,
    SELECT,
    START,
    UP,
    A,
    B,
    action_name,
)

OFFICIAL = {
    "right_only": official.RIGHT_ONLY,
    "simple": official.SIMPLE_MOVEMENT,
    "complex": official.COMPLEX_MOVEMENT,
}


def test_the_bits_are_those_of_nes_py() -> None:
    bits = {"A": A, "B": B, "select": SELECT, "start": START}
    bits |= {"up": UP, "down": DOWN, "left": LEFT, "right": RIGHT, "NOOP": NO_BUTTONS}
    assert JoypadSpace._button_map == bits


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_set_holds_the_official_buttons_in_the_official_order(name: str) -> None:
    bits = JoypadSpace._button_map
    masks = tuple(sum(bits[button] for button in action) for action in OFFICIAL[name])
    assert ACTION_SETS[name] == masks


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_action_is_named_as_the_official_one(name: str) -> None:
    names = ["+".join(action) for action in OFFICIAL[name]]
    assert [action_name(mask) for mask in ACTION_SETS[name]] == names


def test_all_is_every_direction_with_every_button_and_begins_with_none() -> None:
    masks = ACTION_SETS["all"]
    assert masks[0] == NO_BUTTONS
    # Five directions, none among them, times A and B or not.
    assert len(masks) == len(set(masks)) == 5 * 2 * 2
    for mask in masks:
        assert not mask & (START | SELECT)
        assert (mask & (UP | DOWN | LEFT | RIGHT)).bit_count() <= 1
    assert set(masks) > set(ACTION_SETS["complex"])


def test_walk_is_simple_without_b() -> None:
    walk = [mask for mask in ACTION_SETS["simple"] if not mask & B]
    assert list(ACTION_SETS["walk"]) == walk


def test_the_sets_are_named_as_in_params() -> None:
    assert list(ACTION_SETS) == ["walk", "right_only", "simple", "complex", "all"]
    assert [len(masks) for masks in ACTION_SETS.values()] == [5, 5, 7, 12, 20]
