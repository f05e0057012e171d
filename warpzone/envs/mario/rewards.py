"""What an agent is paid for: a row a term, and its amount in `count`."""

from collections.abc import Mapping
from difflib import get_close_matches

import numpy as np

from warpzone.envs.compiled import compiled

LEDGER = np.dtype(
    [
        ("progress", np.int64),  # pixels walked to new furthest points, see `Odometer`
        ("score", np.int64),
        ("coins", np.int64),
        ("power", np.int64),  # 0 small, 1 big, 2 with fire
        ("time", np.int64),  # what the game's clock shows; it falls
        ("x", np.int64),  # where Mario is, in pixels
        ("y", np.int64),
        ("dead", np.int64),
        ("cleared", np.int64),
    ]
)
"""What the rewards are computed from, as counted since the episode's start."""

TERMS = {
    "progress": 0.02,
    "new_maximum": 0.0,
    "milestone": 0.0,
    "score": 0.0,
    "coin": 0.0,
    "power_up": 0.0,
    "clock_tick": 0.0,
    "idle": 0.0,
    "death": -5.0,
    "clear": 2.0,
}
"""What is paid for, and its default weight."""

SIZES = {"progress_cap": 30, "milestone_every": 500}
"""The most pixels that are paid in one agent step, and the pixels of a milestone."""

DEFAULTS = TERMS | SIZES
"""All that may be given."""

_LEAST = {"progress_cap": 0.0, "milestone_every": 1.0}

WEIGHTS = len(DEFAULTS)
"""Numbers that `weights_of` returns."""


@compiled
def count(before, after, cap, every, amounts):
    """Count what happened between two ledgers: a number a term, in the order of TERMS.

    Args:
        before: Shape ``(1,)``, `LEDGER`; ``after`` too.
        after: The later one.
        cap: The most pixels of progress.
        every: The pixels of progress from one milestone to the next.
        amounts: Shape ``(len(TERMS),)``, float64; what is counted is written there.
    """
    old, new = before[0], after[0]
    # Only new ground is paid, so walking to and fro earns nothing, and neither does the
    # jump of x when a pipe leads elsewhere.
    amounts[0] = min(new.progress - old.progress, cap)
    amounts[1] = 1 if new.progress > old.progress else 0
    amounts[2] = new.progress // every - old.progress // every
    amounts[3] = max(new.score - old.score, 0)
    # The hundredth coin starts the count anew.
    amounts[4] = (new.coins - old.coins) % 100
    amounts[5] = max(new.power - old.power, 0)
    amounts[6] = max(old.time - new.time, 0)
    amounts[7] = 1 if new.x == old.x and new.y == old.y else 0
    amounts[8] = new.dead
    amounts[9] = new.cleared


@compiled
def reward(before, after, weights, totals):
    """Return what happened between two ledgers is worth, by `weights_of`.

    What each term is worth is added to ``totals``, shape ``(len(TERMS),)``, float64.
    """
    amounts = np.zeros(len(totals))
    count(before, after, weights[-2], weights[-1], amounts)
    total = 0.0
    for term in range(len(amounts)):
        worth = weights[term] * amounts[term]
        totals[term] += worth
        total += worth
    return total


def check_weights(weights: Mapping[str, float] | None) -> dict[str, float]:
    """Return all weights: the given ones, and the defaults of the others.

    Raises:
        ValueError: If there is no such term, or a weight is no finite number.
    """
    weights = {} if weights is None else weights
    if not isinstance(weights, Mapping):
        raise ValueError(f"reward = {weights!r}: write a section of keys and values")
    if unknown := sorted(weights.keys() - DEFAULTS.keys()):
        near = [n for key in unknown for n in get_close_matches(key, DEFAULTS, 1)]
        hint = f": did you mean {', '.join(near)}" if near else ""
        raise ValueError(
            f"reward has unknown {unknown}, it knows {sorted(DEFAULTS)}{hint}"
        )
    for name, weight in weights.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        least = _LEAST.get(name, -1e6)
        if not (is_number and least <= weight <= 1e6):
            raise ValueError(
                f"reward.{name} = {weight!r}: write a number, {least:g} to 1000000"
            )
    return DEFAULTS | dict(weights)


def weights_of(weights: Mapping[str, float]) -> np.ndarray:
    """Return the weights of all terms, in their order, and `SIZES`, float64."""
    return np.array([weights[name] for name in (*TERMS, *SIZES)], np.float64)
