"""Button sets: what an agent may press, by gym-super-mario-bros's names."""

from itertools import product

from gym_super_mario_bros.actions import COMPLEX_MOVEMENT, RIGHT_ONLY, SIMPLE_MOVEMENT

A, B, SELECT, START, UP, DOWN, LEFT, RIGHT = (1 << bit for bit in range(8))
"""The controller's bits, as the console reads them."""

NO_BUTTONS = 0

_BIT = {
    "NOOP": NO_BUTTONS,
    "A": A,
    "B": B,
    "up": UP,
    "down": DOWN,
    "left": LEFT,
    "right": RIGHT,
}


def _mask(names: list[str]) -> int:
    return sum(_BIT[name] for name in names)


# Opposite directions cannot be pressed together on a real controller.
_DIRECTIONS = ([], ["right"], ["left"], ["up"], ["down"])
_ALL = [
    [*direction, *buttons] or ["NOOP"]
    for direction, buttons in product(_DIRECTIONS, ([], ["A"], ["B"], ["A", "B"]))
]

ACTION_SETS: dict[str, tuple[int, ...]] = {
    "right_only": tuple(map(_mask, RIGHT_ONLY)),
    "simple": tuple(map(_mask, SIMPLE_MOVEMENT)),
    "complex": tuple(map(_mask, COMPLEX_MOVEMENT)),
    "all": tuple(map(_mask, _ALL)),
}
"""Button masks of each set; a policy's action is an index into one of them."""


def action_name(buttons: int) -> str:
    """Name a button mask, for example ``right+A+B`` or ``NOOP``."""
    names = ("right", "left", "up", "down", "A", "B")
    return "+".join(name for name in names if buttons & _BIT[name]) or "NOOP"
