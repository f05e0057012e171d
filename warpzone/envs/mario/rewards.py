"""What an agent is paid for: a row a term."""

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Ledger(NamedTuple):
    """What the rewards are computed from, as counted since the episode's start."""

    progress: int  # pixels walked to new furthest points, see `level.Odometer`
    score: int
    coins: int
    time: int  # what the game's clock shows; it falls
    dead: bool
    cleared: bool


class Term(NamedTuple):
    """Something that is paid for: its default weight, and its amount from two ledgers.

    The earlier ledger is the first argument.
    """

    weight: float
    amount: Callable[[Ledger, Ledger], float]


TERMS = {
    # Only new ground is paid, so walking to and fro earns nothing, and neither does the
    # jump of x when a pipe leads elsewhere.
    "progress": Term(0.02, lambda before, after: after.progress - before.progress),
    "score": Term(0.0, lambda before, after: max(after.score - before.score, 0)),
    "coin": Term(0.0, lambda before, after: (after.coins - before.coins) % 100),
    "clock_tick": Term(0.0, lambda before, after: max(before.time - after.time, 0)),
    "death": Term(-5.0, lambda before, after: after.dead),
    "clear": Term(2.0, lambda before, after: after.cleared),
}

PROGRESS_CAP = "progress_cap"
DEFAULTS = {name: term.weight for name, term in TERMS.items()} | {PROGRESS_CAP: 30}
"""Weights, and the most pixels that are paid in one agent step."""


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


def reward(before: Ledger, after: Ledger, weights: Mapping[str, float]) -> float:
    """Return what happened between two ledgers is worth, by `check_weights`."""
    amounts = {name: term.amount(before, after) for name, term in TERMS.items()}
    amounts["progress"] = min(amounts["progress"], weights[PROGRESS_CAP])
    return float(sum(weights[name] * amount for name, amount in amounts.items()))
