"""Contestants that take turns, and what is written down of them."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from warpzone.core.progress import progress_bar

# Exponents that are called flat, and linear.
_TOLERANCE = 0.15


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    seconds: float
    """Length of a contestant's turn, where it can be chosen."""
    envs: int
    """Beside SB3's, a process each."""
    many_envs: int
    """Beside the emulator alone."""
    counts: tuple[int, ...]
    """Environments in the line that shows how costs grow."""
    processes: tuple[int, ...]
    """The same of stable-retro's, a process each."""
    levels: tuple[int, ...]
    demonstrations: tuple[int, ...]
    pairs: int
    """Pairs of observation and action to clone."""
    rollout_steps: int
    """Agent steps of each environment between two updates of PPO."""
    planned_steps: int
    """Agent steps the planner plays in a turn."""
    stages: int
    """Stages whose start-up is measured."""
    start_ups: int
    """Rounds of that; a start takes seconds."""


FULL = Size(
    rounds=5,
    seconds=1.0,
    envs=16,
    many_envs=64,
    counts=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    processes=(1, 2, 4, 8, 16),
    levels=(1, 2, 4, 8, 16, 32),
    demonstrations=(10, 100, 1000),
    pairs=1024,
    rollout_steps=32,
    planned_steps=40,
    stages=100,
    start_ups=3,
)
QUICK = Size(
    rounds=1,
    seconds=0.2,
    envs=2,
    many_envs=4,
    counts=(1, 2),
    processes=(1, 2),
    levels=(1, 2),
    demonstrations=(1, 2),
    pairs=128,
    rollout_steps=8,
    planned_steps=5,
    stages=1,
    start_ups=1,
)


@dataclass(frozen=True)
class Row:
    """A contestant against its baseline. The higher ratio is the better one."""

    topic: str
    contestant: str
    baseline: str
    unit: str
    words: str
    values: Sequence[float]
    """One a round."""
    baseline_values: Sequence[float]
    target: float | None = None
    """The least ratio that we want."""
    value: float = field(init=False)
    baseline_value: float = field(init=False)
    ratio: float = field(init=False)
    """Median of the ratios within each round, not the ratio of the medians."""
    low: float = field(init=False)
    """The lowest ratio within a round; ``high`` is the highest."""
    high: float = field(init=False)

    def __post_init__(self) -> None:
        pairs = zip(self.values, self.baseline_values, strict=True)
        ratios = [a / b for a, b in pairs]
        for name, value in (
            ("value", statistics.median(self.values)),
            ("baseline_value", statistics.median(self.baseline_values)),
            ("ratio", statistics.median(ratios)),
            ("low", min(ratios)),
            ("high", max(ratios)),
        ):
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Metric:
    """A number that has no baseline."""

    topic: str
    name: str
    unit: str
    words: str
    values: Sequence[float]
    """One a round; a single one of what is the same in every round."""
    target: float | None = None
    """The most that we want."""
    value: float = field(init=False)
    """Their median."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", statistics.median(self.values))


@dataclass(frozen=True)
class Line:
    """How a cost or a rate grows."""

    topic: str
    name: str
    unit: str
    words: str
    sizes: Sequence[int]
    values: Sequence[float]
    contestant: str = ""
    """Whose it is, where several have the same name."""
    exponent: float = field(init=False)
    """Of the size, in the straight line through the logarithms."""
    slope: str = field(init=False)

    def __post_init__(self) -> None:
        exponent = fitted_exponent(self.sizes, self.values)
        object.__setattr__(self, "exponent", exponent)
        object.__setattr__(self, "slope", slope_in_words(exponent))


type Result = Row | Metric | Line


def alternate[T](
    contestants: Mapping[str, Callable[[], T]], rounds: int, title: str
) -> dict[str, list[T]]:
    """Let contestants take turns, so that a busy machine slows all of them alike.

    Args:
        contestants: Each works for a while and returns what it measured.
        rounds: Turns of each.
        title: For the progress bar.

    Returns:
        What each measured in every round.
    """
    results: dict[str, list[T]] = {name: [] for name in contestants}
    with progress_bar(rounds, title, "round") as bar:
        for _ in range(rounds):
            for name, contestant in contestants.items():
                results[name].append(contestant())
            bar.update(1)
    return results


def seconds_a_call(call: Callable[[], object], seconds: float) -> float:
    """Call something again and again for so long, and return how long one call took."""
    began = time.perf_counter()
    for calls in count(1):
        call()
        if (elapsed := time.perf_counter() - began) >= seconds:
            return elapsed / calls
    raise AssertionError


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long one call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def fitted_exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the b of the a * n^b that fits best in logarithms; 0 for one size."""
    if len(sizes) < 2:
        return 0.0
    logs = [[math.log(number) for number in numbers] for numbers in (sizes, values)]
    return float(np.polyfit(*logs, deg=1)[0])


def slope_in_words(exponent: float) -> str:
    """Name a slope, for example ``flat`` for an exponent of 0.1."""
    if abs(exponent) <= _TOLERANCE:
        return "flat"
    if abs(exponent - 1) <= _TOLERANCE:
        return "linear"
    return f"as n^{exponent:.2f}"
