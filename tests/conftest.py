"""What several test modules share."""

import pytest

from warpzone.params import GameParams, NoiseParams, RewardParams


@pytest.fixture(scope="session")
def game() -> GameParams:
    """1-1 as it is usually learned. Change it with ``model_copy(update=...)``."""
    return GameParams(
        level="1-1",
        action_set="simple",
        frame_skip=4,
        height=84,
        width=84,
        frame_stack=4,
        crop_hud=True,
        time_limit=1500,
        stuck_limit=100,
        reward=RewardParams(
            progress=0.02,
            progress_cap=30,
            score=0.0,
            coin=0.0,
            clock_tick=0.0,
            death=-1.0,
            clear=2.0,
        ),
    )


@pytest.fixture(scope="session")
def noise() -> NoiseParams:
    return NoiseParams(no_op_max=30, sticky_probability=0.25)


@pytest.fixture(scope="session")
def no_noise() -> NoiseParams:
    return NoiseParams(no_op_max=0, sticky_probability=0.0)
