"""What several test modules share."""

from pathlib import Path

import pytest

from warpzone.core.params import (
    CompareParams,
    EvaluateParams,
    GameParams,
    NoiseParams,
    Params,
    RewardParams,
    RunsParams,
    load_params,
)
from warpzone.envs.nes.buttons import DOWN, NO_BUTTONS, RIGHT, A


@pytest.fixture(scope="session")
def game() -> GameParams:
    """1-1 as it is usually learned. Change it with ``model_copy(update=...)``."""
    return GameParams(
        emulator="nes-py",
        level="1-1",
        action_set="simple",
        frame_skip=4,
        height=84,
        width=84,
        frame_stack=4,
        crop_hud=True,
        show_buttons=True,
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


@pytest.fixture(scope="session")
def into_the_bonus_room() -> bytes:
    """Buttons that lead from the start of 1-1 into its first open pipe.

    Mario jumps onto the pipe at x = 918; the last frame takes him into the room below.
    """
    jumps = ((1, 28, 16), (1, 28, 20), (1, 28, 20), (1, 20, 0), (1, 28, 5))
    jumps += ((60, 28, 10), (60, 28, 20), (10, 28, 5), (80, 28, 5))
    held = b""
    for run, jump, fall in jumps:
        held += bytes([RIGHT]) * run + bytes([RIGHT | A]) * jump + bytes([RIGHT]) * fall
    return held + bytes([NO_BUTTONS]) * 20 + bytes([DOWN]) * 2


@pytest.fixture
def small_workspace(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    game: GameParams,
    noise: NoiseParams,
) -> Params:
    """Make a folder with nothing but a small params.yaml the current one."""
    params = load_params(Path(__file__).parents[1] / "params.yaml").model_copy(
        update={
            "game": game.model_copy(update={"time_limit": 30}),
            "noise": noise,
            "runs": RunsParams(init=("bc", "scratch"), seed=(1,)),
            "evaluate": EvaluateParams(
                episodes=3, envs=2, temperature=0.0, idle_temperature=1.0
            ),
            "compare": CompareParams(bootstrap_samples=100),
        }
    )
    # JSON is YAML.
    (tmp_path / "params.yaml").write_text(params.model_dump_json())
    monkeypatch.chdir(tmp_path)
    return params
