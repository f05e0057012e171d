"""What an agent is paid for: a row a term, and its amount in `count`."""

from collections.abc import Mapping

import numpy as np

from warpzone.envs.compiled import compiled

LEDGER = np.dtype(
    [
        ("progress", np.int64),  # pixels walked to new furthest points, see `Odometer`
        ("score", np.int64),
        ("coins", np.int64),
        ("time", np.int64),  # what the game's clock shows; it falls
        ("dead", np.int64),
        ("cleared", np.int64),
    ]
)
"""What the rewards are computed from, as counted since the episode's start."""

TERMS = {
    "progress": 0.02,
    "score": 0.0,
    "coin": 0.0,
    "clock_tick": 0.0,
    "death": -5.0,
    "clear": 2.0,
}
"""What is paid for, and its default weight."""

PROGRESS_CAP = "progress_cap"
DEFAULTS = TERMS | {PROGRESS_CAP: 30}
"""Weights, and the most pixels that are paid in one agent step."""

WEIGHTS = len(DEFAULTS)
"""Numbers that `weights_of` returns."""


@compiled
def count(before, after, cap, amounts):
    """Count what happened between two ledgers: a number a term, in the order of TERMS.

    Args:
        before: Shape ``(1,)``, `LEDGER`; ``after`` too.
        after: The later one.
        cap: The most pixels of progress.
        amounts: Shape ``(len(TERMS),)``, float64; what is counted is written there.
    """
    old, new = before[0], after[0]
    # Only new ground is paid, so walking to and fro earns nothing, and neither does the
    # jump of x when a pipe leads elsewhere.
    amounts[0] = min(new.progress - old.progress, cap)
    amounts[1] = max(new.score - old.score, 0)
    # The hundredth coin starts the count anew.
    amounts[2] = (new.coins - old.coins) % 100
    amounts[3] = max(old.time - new.time, 0)
    amounts[4] = new.dead
    amounts[5] = new.cleared


@compiled
def reward(before, after, weights):
    """Return what happened between two ledgers is worth, by `weights_of`."""
    amounts = np.zeros(len(weights) - 1)
    count(before, after, weights[-1], amounts)
    total = 0.0
    for term in range(len(amounts)):
        total += weights[term] * amounts[term]
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
        raise ValueError(f"reward has unknown {unknown}, it knows {sorted(DEFAULTS)}")
    for name, weight in weights.items():
        is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
        least = 0.0 if name == PROGRESS_CAP else -1e6
        if not (is_number and least <= weight <= 1e6):
            raise ValueError(
                f"reward.{name} = {weight!r}: write a number, {least:g} to 1000000"
            )
    return DEFAULTS | dict(weights)


def weights_of(weights: Mapping[str, float]) -> np.ndarray:
    """Return the weights of all terms, in their order, and the cap, float64."""
    return np.array([weights[name] for name in (*TERMS, PROGRESS_CAP)], np.float64)
