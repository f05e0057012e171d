"""What an agent is paid for."""

from dataclasses import dataclass

from warpzone.core.params import RewardParams


@dataclass(frozen=True, slots=True)
class Ledger:
    """What the rewards are computed from, as counted since the episode's start."""

    progress: int
    """Pixels walked to new furthest points, see `level.Odometer`."""
    score: int
    coins: int
    time: int
    """What the game's clock shows; it falls."""
    dead: bool
    cleared: bool


def reward(before: Ledger, after: Ledger, weights: RewardParams) -> float:
    """Pay for what happened between two frames.

    Only new ground is paid, so walking to and fro earns nothing, and neither does the
    jump of x when a pipe leads elsewhere.

    Args:
        before: The ledger before the agent step.
        after: The ledger after it.
        weights: What a pixel, a point, a coin, a tick of the clock, death and the
            clear are worth.
    """
    progress = min(after.progress - before.progress, weights.progress_cap)
    return (
        weights.progress * progress
        + weights.score * max(after.score - before.score, 0)
        + weights.coin * ((after.coins - before.coins) % 100)
        + weights.clock_tick * max(before.time - after.time, 0)
        + weights.death * after.dead
        + weights.clear * after.cleared
    )
