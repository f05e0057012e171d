"""What we read is what gym-super-mario-bros reads, frame by frame.

`LevelPlay` and the official single-level environment play the same buttons side by
side. After every frame all 2,048 bytes of RAM are equal, and so are the figures that
either reads from them. What differs, by design:

- The official environment describes a frame before it plays through the cutscene that
  the frame begins (a pipe, a door), `LevelPlay` after it. In such a frame our figures
  are those that the official one would give if it were asked again.
- The official environment plays through a cutscene for ever. `LevelPlay` hands a game
  that is paused in a cutscene back after 2,000 frames.
- The official environment knows a clear by the flag on the castle, which it looks for
  in five of the six places where the game may keep it. See tests/envs/test_ends.py.
- The official environment takes a fall out of the clouds for a death.
- The official ``x_pos_max`` is the largest x in any area. Ours is that of the level's
  first area, see `Odometer` and tests/envs/test_level.py.

After a death or a clear neither emulates anything.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gym_super_mario_bros import SuperMarioBrosEnv

from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LevelPlay
from warpzone.envs.mario.state import (
    WORLD_CLEARED,
    Address,
    GameState,
    PlayerState,
    is_cleared,
    is_cutscene,
    is_dead,
    read_state,
)
from warpzone.envs.nes.buttons import DOWN, RIGHT, START, A, B
from warpzone.episodes.recording import Recording, read_recordings, replay

# Found by search on snapshots, one clear a level.
CLEARS = Path(__file__).parents[1] / "data" / "clears.jsonl"
# Overground, underground, treetops, castle, water and night, and the maze of 8-4.
LEVELS = ["1-1", "1-2", "1-3", "1-4", "2-2", "3-1", "4-2", "4-4", "5-3", "7-2", "8-3"]
LEVELS += ["8-4"]
FRAMES_OF_RANDOM_PLAY = 650
# Mostly to the right, so that random play gets somewhere.
BUTTONS = (*ACTION_SETS["all"], *repeat(RIGHT | B, 8), *repeat(RIGHT | A | B, 16))


class Pair:
    """Both environments on one level, in lockstep."""

    def __init__(self, level: str) -> None:
        self.level = level
        world, stage = map(int, level.split("-"))
        self.official = SuperMarioBrosEnv(target=(world, stage))
        self.play = LevelPlay(make_console("nes-py"), level)
        self.reset()

    def reset(self) -> None:
        self.frame = 0
        _, info = self.official.reset()
        self.play.restart()
        self.check(info)

    def advance(self, buttons: int) -> dict[str, Any]:
        """Play a frame in both, compare, and return the official description."""
        emulated = self.play.emulator_frames
        _, _, terminated, _, info = self.official.step(buttons)
        self.play.advance(buttons)
        self.frame += 1
        has_cutscene = self.play.emulator_frames > emulated + 1
        self.check(self.official._get_info() if has_cutscene else info)
        assert terminated == self.play.is_over, self.where
        return info

    def check(self, info: dict[str, Any]) -> None:
        assert bytes(self.official.ram) == bytes(self.play.ram), self.where
        assert read_state(self.play.ram) == described(info), self.where

    @property
    def where(self) -> str:
        return f"level {self.level}, frame {self.frame} of the episode"


def described(info: dict[str, Any]) -> GameState:
    """Translate the official description."""
    return GameState(
        x_pos=info["x_pos"],
        y_pos=info["y_pos"],
        time=info["time"],
        score=info["score"],
        coins=info["coins"],
        life=info["life"],
        status=info["status"],
        world=info["world"],
        stage=info["stage"],
        dead=info["is_dying"] or info["is_dead"],
        flag_get=info["flag_get"],
    )


def random_buttons(seed: int) -> Iterator[int]:
    rng = np.random.default_rng(seed)
    while True:
        yield from repeat(BUTTONS[rng.integers(len(BUTTONS))], int(rng.integers(1, 30)))


def compare_random_play(level: str, frames: int) -> int:
    """Play random buttons, life after life, and return the frames compared."""
    pair = Pair(level)
    for buttons in islice(random_buttons(seed=LEVELS.index(level)), frames):
        if pair.play.is_over:
            pair.reset()
        pair.advance(buttons)
    return frames


def compare_clear(recording: Recording) -> int:
    """Play a recording and return the frames compared."""
    pair = Pair(recording.level)
    held = recording.held
    for buttons in held:
        assert not pair.play.is_over, pair.where
        pair.advance(buttons)
    assert is_cleared(pair.play.ram), pair.where
    assert not is_dead(pair.play.ram), pair.where
    return len(held)


@pytest.mark.parametrize("level", ["1-1", "1-2", "4-4"])
def test_random_play_agrees_with_the_official_environment(level: str) -> None:
    assert compare_random_play(level, frames=400) == 400


def test_clearing_play_agrees_with_the_official_environment() -> None:
    recording = read_recordings(CLEARS)[0]
    assert recording.level == "1-1"
    assert compare_clear(recording) > 1_000


@pytest.mark.slow
def test_more_than_20_000_frames_on_12_levels_agree_with_the_official_environment() -> (
    None
):
    clears = read_recordings(CLEARS)
    with ThreadPoolExecutor(2) as pool:
        random = pool.map(compare_random_play, LEVELS, repeat(FRAMES_OF_RANDOM_PLAY))
        cleared = pool.map(compare_clear, clears)
        frames = sum(random) + sum(cleared)
    assert frames > 20_000


def test_the_clears_cover_flags_pipes_and_an_axe() -> None:
    clears = read_recordings(CLEARS)
    levels = {recording.level for recording in clears}
    assert {recording.outcome for recording in clears} == {"success"}
    # The end of 1-2 lies behind a pipe.
    assert levels >= {"1-1", "1-2"}
    assert any(level.endswith("-4") for level in levels)


def test_a_castle_is_cleared_by_the_axe() -> None:
    recording = next(r for r in read_recordings(CLEARS) if r.level.endswith("-4"))
    with closing(MarioEnv(recording.level, emulator="nes-py")) as env:
        ram = env.play.ram
        for frames in replay(recording, env, "clears.jsonl"):
            is_last = frames == len(recording.held)
            assert read_state(ram).flag_get == is_last
        assert ram[Address.GAME_MODE] == WORLD_CLEARED


def test_a_pipe_is_described_after_its_cutscene(into_the_bonus_room: bytes) -> None:
    pair = Pair("1-1")
    for buttons in into_the_bonus_room[:-1]:
        pair.advance(buttons)
    emulated = pair.play.emulator_frames
    info = pair.advance(into_the_bonus_room[-1])
    # The official description is of the frame before the cutscene, on top of the pipe.
    assert info["x_pos"] == 918
    assert info["player_state"] == PlayerState.ENTERING_PIPE
    assert read_state(pair.play.ram).x_pos == 24
    assert not is_cutscene(pair.play.ram)
    assert pair.play.emulator_frames == emulated + 40
    # And the room itself agrees, too.
    for buttons in islice(random_buttons(seed=1), 100):
        pair.advance(buttons)


def test_a_game_that_is_paused_in_a_cutscene_is_handed_back(
    into_the_bonus_room: bytes,
) -> None:
    play = LevelPlay(make_console("fceumm"), "1-1")
    for buttons in into_the_bonus_room[:-1]:
        play.advance(buttons)
    emulated = play.emulator_frames
    play.advance(DOWN | START)
    assert is_cutscene(play.ram)
    assert play.emulator_frames == emulated + 1 + 2_000


def test_neither_goes_on_after_a_death() -> None:
    pair = Pair("1-1")
    while not pair.play.is_over:
        pair.advance(RIGHT)
    assert read_state(pair.play.ram).dead
    with pytest.raises(ValueError, match="done environment"):
        pair.official.step(RIGHT)


@pytest.fixture
def ram() -> np.ndarray:
    """The RAM of a console that is switched off, but for Mario on the screen."""
    ram = np.zeros(2048, np.uint8)
    ram[Address.Y_VIEWPORT] = 1
    ram[Address.PLAYER_STATE] = PlayerState.NORMAL
    ram[Address.GAME_MODE] = 1
    ram[Address.GAME_TASK] = 3
    return ram


def test_x_is_a_page_and_a_pixel(ram: np.ndarray) -> None:
    ram[Address.X_PAGE] = 3
    ram[Address.X_PIXEL] = 5
    assert read_state(ram).x_pos == 3 * 256 + 5


@pytest.mark.parametrize(
    ("viewport", "y_pixel", "y_pos"), [(1, 176, 79), (1, 0, 255), (0, 250, 260)]
)
def test_y_counts_from_the_bottom_and_on_above_the_screen(
    ram: np.ndarray, viewport: int, y_pixel: int, y_pos: int
) -> None:
    ram[Address.Y_VIEWPORT] = viewport
    ram[Address.Y_PIXEL] = y_pixel
    assert read_state(ram).y_pos == y_pos
    assert not is_dead(ram)


def test_below_the_screen_and_dying_and_dead_are_death(ram: np.ndarray) -> None:
    assert not is_dead(ram)
    ram[Address.Y_VIEWPORT] = 2
    assert is_dead(ram)
    ram[Address.Y_VIEWPORT] = 1
    for state in PlayerState:
        ram[Address.PLAYER_STATE] = state
        assert is_dead(ram) == (state in (PlayerState.DYING, PlayerState.DEAD))


def test_numbers_are_read_digit_by_digit(ram: np.ndarray) -> None:
    ram[Address.SCORE_DIGITS : Address.SCORE_DIGITS + 6] = [0, 1, 2, 3, 5, 0]
    ram[Address.COIN_DIGITS : Address.COIN_DIGITS + 2] = [0, 7]
    ram[Address.TIME_DIGITS : Address.TIME_DIGITS + 3] = [3, 0, 9]
    state = read_state(ram)
    assert (state.score, state.coins, state.time) == (12350, 7, 309)


@pytest.mark.parametrize(
    ("power_up", "status"),
    [(0, "small"), (1, "tall"), (2, "fireball"), (3, "fireball")],
)
def test_the_power_up_has_a_name(ram: np.ndarray, power_up: int, status: str) -> None:
    ram[Address.POWER_UP] = power_up
    assert read_state(ram).status == status


def test_a_level_is_cleared_at_the_pole_or_by_the_axe(ram: np.ndarray) -> None:
    for state in PlayerState:
        ram[Address.PLAYER_STATE] = state
        ends = (PlayerState.SLIDING_DOWN_POLE, PlayerState.WALKING_OFF)
        assert is_cleared(ram) == (state in ends)
    ram[Address.PLAYER_STATE] = PlayerState.NORMAL
    ram[Address.GAME_MODE] = WORLD_CLEARED
    assert is_cleared(ram)
