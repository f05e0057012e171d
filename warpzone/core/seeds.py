"""Which random seeds are for what, so that no episode is ever seen twice."""

from enum import Enum

SEEDS = 1_000
"""Values that `seed` in params.yaml may take."""
EPISODES = 100_000
"""Episode seeds of each purpose for each value of `seed`."""


class Purpose(Enum):
    """What an episode is played for."""

    DEMONSTRATION = 0
    TRAINING = 1
    SELECTION = 2
    EVALUATION = 3
    DAGGER = 4


def episode_seed(purpose: Purpose, seed: int, index: int) -> int:
    """Return the noise seed of one episode.

    Equal only for equal arguments, so no purpose ever sees an episode of another.

    Raises:
        ValueError: If ``seed`` or ``index`` is out of range.
    """
    if not 0 <= seed < SEEDS:
        raise ValueError(f"seed must be in [0, {SEEDS - 1}], got {seed}")
    if not 0 <= index < EPISODES:
        raise ValueError(f"episode index must be in [0, {EPISODES - 1}], got {index}")
    return (purpose.value * SEEDS + seed) * EPISODES + index
