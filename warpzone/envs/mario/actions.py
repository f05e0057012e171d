"""Button sets: what an agent may press, by gym-super-mario-bros's names."""

from itertools import product

from gym_super_mario_bros.actions import COMPLEX_MOVEMENT, RIGHT_ONLY, SIMPLE_MOVEMENT

from warpzone.envs.nes.buttons import action_mask

# Opposite directions cannot be pressed together on a real controller.
_DIRECTIONS = ([], ["right"], ["left"], ["up"], ["down"])
_ALL = [
    [*direction, *buttons] or ["NOOP"]
    for direction, buttons in product(_DIRECTIONS, ([], ["A"], ["B"], ["A", "B"]))
]

_WALK = [buttons for buttons in SIMPLE_MOVEMENT if "B" not in buttons]

ACTION_SETS: dict[str, tuple[int, ...]] = {
    "walk": tuple(map(action_mask, _WALK)),
    "right_only": tuple(map(action_mask, RIGHT_ONLY)),
    "simple": tuple(map(action_mask, SIMPLE_MOVEMENT)),
    "complex": tuple(map(action_mask, COMPLEX_MOVEMENT)),
    "all": tuple(map(action_mask, _ALL)),
}
"""Button masks of each set; a policy's action is an index into one of them."""
