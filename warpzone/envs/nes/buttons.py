"""The controller: its buttons as bits, and names for masks of them."""

from collections.abc import Iterable

A, B, SELECT, START, UP, DOWN, LEFT, RIGHT = (1 << bit for bit in range(8))
"""The controller's bits, as the console reads them."""

NO_BUTTONS = 0

# By nes-py's names, in the order in which an action's name lists them.
_BITS = {
    "right": RIGHT,
    "left": LEFT,
    "up": UP,
    "down": DOWN,
    "A": A,
    "B": B,
    "select": SELECT,
    "start": START,
}


def action_mask(names: Iterable[str]) -> int:
    """Return the button mask of nes-py's names, for example ``["right", "A"]``."""
    return sum(_BITS[name] for name in names if name != "NOOP")


def action_name(mask: int) -> str:
    """Return the name of a button mask, for example ``right+A+B`` or ``NOOP``."""
    return "+".join(name for name, bit in _BITS.items() if mask & bit) or "NOOP"
