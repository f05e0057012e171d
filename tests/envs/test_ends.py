"""How episodes end, in every level of the real game.

What ends a level is put in front of Mario: tiles in RAM, which the game itself finds
when he touches them.
"""

from collections.abc import Callable
from contextlib import closing
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gym_super_mario_bros import SuperMarioBrosEnv

from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LEVELS
from warpzone.envs.mario.state import Address, PlayerState, read_x
from warpzone.envs.nes.buttons import DOWN, NO_BUTTONS, RIGHT, UP
from warpzone.episodes.recording import read_recordings

CLEARS = read_recordings(Path(__file__).parents[1] / "data" / "clears.jsonl")
POLE, VINE, AXE = 0x25, 0x26, 0xC5
ENEMY_STATE = 0x1E
WARP_ZONE = 0x06D6
STAR_TIMER = 0x079F
AREA_POINTER = 0x0750
CLOUDS = 0x2B
GOOMBA, FLAG = 0x06, 0x31
# Enemies, and one more place, for what there is only one of.
SLOTS = 6
WAIT, WALK, RUN, RUN_AND_JUMP, LEFT = 0, 1, 3, 4, 6


def put(ram: np.ndarray, tile: int, *, instead_of_air: bool) -> None:
    """Put a tile into the next two columns: all of the air, or all of the ground."""
    next_column = read_x(ram) // 16 + 1
    for column in (next_column, next_column + 1):
        # Two screens, of 13 rows and 16 columns, follow each other by turns.
        first = Address.TILES + 208 * (column // 16 % 2) + column % 16
        for address in range(first, first + 208, 16):
            if (ram[address] == 0) == instead_of_air:
                ram[address] = tile


def touch_the_end(env: MarioEnv) -> tuple[float, bool, bool, dict[str, Any]]:
    """Walk to a pole, or in a castle to an axe, and return how it ends."""
    ends: tuple[float, bool, bool, dict[str, Any]] = (0.0, False, False, {})
    while env.cause is None:
        if env.level.endswith("-4"):
            put(env.play.ram, AXE, instead_of_air=False)
        else:
            put(env.play.ram, POLE, instead_of_air=True)
        _, *ends = env.step(WALK)  # pyright: ignore[reportAssignmentType]
    return ends


def fill_all_slots(ram: np.ndarray, types: int = GOOMBA) -> None:
    for slot in range(SLOTS):
        ram[Address.ENEMY_PRESENT + slot] = 1
        ram[Address.ENEMY_TYPE + slot] = types


def fill_free_slots(ram: np.ndarray) -> None:
    """Let Goombas fall from above, on a Mario with a star, whom nobody hurts."""
    ram[STAR_TIMER] = 0xFF
    for slot in range(SLOTS - 1):
        if not ram[Address.ENEMY_PRESENT + slot]:
            ram[Address.ENEMY_PRESENT + slot] = 1
            ram[Address.ENEMY_TYPE + slot] = GOOMBA
            ram[ENEMY_STATE + slot] = 0
            # Mario is the first of all objects.
            for address in (Address.X_PAGE, Address.X_PIXEL):
                ram[address + 1 + slot] = ram[address]
            ram[Address.Y_VIEWPORT + 1 + slot] = 1
            ram[Address.Y_PIXEL_IN_PAGE + 1 + slot] = 32


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_begins_and_ends_as_itself(
    mario: Callable[..., MarioEnv], level: str
) -> None:
    env = mario(level, emulator="fceumm", obs_type="state", reward={"clear": 7.0})
    _, info = env.reset()
    assert f"{info['world']}-{info['stage']}" == level
    assert (info["score"], info["coins"], info["life"]) == (0, 0, 2)
    assert (info["status"], info["cause"]) == ("small", None)
    _, reward, terminated, truncated, info = (None, *touch_the_end(env))
    assert (terminated, truncated) == (True, False)
    assert info["cause"] == "clear"
    assert info["is_success"]
    assert info["flag_get"]
    assert f"{info['world']}-{info['stage']}" == level
    assert 7.0 <= reward < 8.0
    # The game's own death: its clock shows 001, and its next tick is the last one.
    env.reset()
    env.play.ram[Address.TIME_DIGITS : Address.TIME_DIGITS + 3] = [0, 0, 1]
    while env.cause is None:
        *_, info = env.step(WAIT)
    assert (info["cause"], info["is_success"], info["dead"]) == ("clock", False, True)
    assert f"{info['world']}-{info['stage']}" == level


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_ends_as_itself_on_the_reference_emulator(
    mario: Callable[..., MarioEnv], level: str
) -> None:
    env = mario(level, obs_type="state")
    env.reset()
    fill_all_slots(env.play.ram)
    *_, info = touch_the_end(env)
    assert (info["cause"], info["is_success"]) == ("clear", True)


@pytest.mark.parametrize("emulator", ["fceumm", "nes-py"])
def test_a_pipe_of_a_warp_zone_leaves_the_level(
    mario: Callable[..., MarioEnv], emulator: str, into_the_bonus_room: bytes
) -> None:
    env = mario(emulator=emulator, obs_type="state", action_set="complex", frame_skip=1)
    env.reset()
    for held in into_the_bonus_room[:-1]:
        env.step(env.codes.index(held))
    # Makes a warp zone of where Mario is: its pipes lead to the worlds 4, 3 and 2.
    env.play.ram[WARP_ZONE] = 4
    before = env.progress
    _, reward, terminated, truncated, info = env.step(env.codes.index(DOWN))
    assert (terminated, truncated, info["cause"]) == (True, False, "left_level")
    assert (info["is_success"], env.outcome) == (False, "failure")
    assert (info["world"], info["stage"]) != (1, 1)
    # In the frame in which he enters the pipe; nothing is paid or counted for it.
    assert len(env.frame_actions) == len(into_the_bonus_room)
    assert (reward, info["progress"], info["place"]) == (0.0, before, 918)


@pytest.mark.parametrize("emulator", ["fceumm", "nes-py"])
@pytest.mark.parametrize("level", ["1-2", "4-2"])
def test_another_level_pays_nothing_however_mario_gets_there(
    mario: Callable[..., MarioEnv], emulator: str, level: str
) -> None:
    env = mario(level, emulator=emulator, obs_type="state")
    env.reset()
    ram = env.play.ram
    ram[Address.WORLD], ram[Address.STAGE] = 4, 0
    # The game loads the area that its pointer names, behind a black screen.
    ram[Address.GAME_TASK] = 0
    _, reward, terminated, _, info = env.step(RUN_AND_JUMP)
    assert (terminated, info["cause"], reward) == (True, "left_level", 0.0)


# With these seeds he takes a wrong way, and then again.
@pytest.mark.parametrize(
    ("level", "seed", "steps"), [("4-4", 20, 222), ("7-4", 14, 660)]
)
def test_who_runs_through_the_loop_of_a_maze_is_not_stuck(
    mario: Callable[..., MarioEnv], level: str, seed: int, steps: int
) -> None:
    env = mario(
        level, emulator="fceumm", obs_type="state", reward={"progress_cap": 1000}
    )
    _, info = env.reset()
    rng = np.random.default_rng(seed)
    places: list[int] = []
    action = known = longest = hold = 0
    while len(places) < steps:
        # Only pits kill a Mario with a star.
        env.play.ram[STAR_TIMER] = 0xFF
        if hold == 0:
            action = RUN_AND_JUMP if rng.random() < 0.5 else RUN
            hold = int(rng.integers(1, 9))
        hold -= 1
        _, reward, *_, info = env.step(action)
        places.append(info["x_pos"])
        known = known + 1 if reward == 0 else 0
        longest = max(longest, known)
        assert env.cause is None
    # The level takes back 1,024 pixels; an agent step of running is up to 12.
    assert min(np.diff(places)) <= 12 - 1024
    # For more than the limit he has run over ground that he knew, which is not paid.
    assert longest > env.stuck_limit == 100
    assert info["reward"] == pytest.approx(0.02 * env.play.odometer.progress)
    assert env.play.odometer.progress <= info["x_pos_max"]
    # Who stands still is stuck there, too.
    while env.cause is None:
        env.play.ram[STAR_TIMER] = 0xFF
        *_, info = env.step(WAIT)
    assert info["cause"] == "stuck"
    assert len(env.decisions) < steps + 120


def test_who_walks_to_and_fro_is_stuck(mario: Callable[..., MarioEnv]) -> None:
    env = mario(emulator="fceumm", obs_type="state")
    _, info = env.reset()
    for step in range(200):
        env.play.ram[STAR_TIMER] = 0xFF
        *_, info = env.step(WALK if step % 20 < 10 else LEFT)
        if env.cause is not None:
            break
    assert info["cause"] == "stuck"
    # Ten steps of walking to the right, and then nothing but known ground.
    assert info["x_pos_max"] > 60
    assert 100 < info["steps"] <= 115


@pytest.mark.parametrize("emulator", ["fceumm", "nes-py"])
def test_the_pole_ends_the_episode_in_the_frame_of_the_touch(
    mario: Callable[..., MarioEnv], emulator: str
) -> None:
    env = mario(emulator=emulator, obs_type="state", frame_skip=30)
    env.reset()
    touch_the_end(env)
    assert env.play.ram[Address.PLAYER_STATE] == PlayerState.SLIDING_DOWN_POLE
    # One frame of thirty: a native run ends there, too.
    assert len(env.frame_actions) == 1


@pytest.mark.parametrize("emulator", ["fceumm", "nes-py"])
@pytest.mark.parametrize("enemy", [GOOMBA, FLAG])
def test_a_vine_is_no_end_whatever_else_is_there(
    mario: Callable[..., MarioEnv], emulator: str, enemy: int
) -> None:
    env = mario(emulator=emulator, obs_type="state")
    env.reset()
    put(env.play.ram, VINE, instead_of_air=True)
    env.step(WALK)
    fill_all_slots(env.play.ram, enemy)
    env.step(WAIT)
    # He hangs on it, as on a pole.
    assert env.play.ram[Address.FLOAT_STATE] == 3
    assert env.cause is None


@pytest.mark.parametrize("emulator", ["fceumm", "nes-py"])
def test_a_fall_out_of_the_clouds_is_no_death(
    mario: Callable[..., MarioEnv], emulator: str
) -> None:
    env = mario("2-1", emulator=emulator, obs_type="state", action_set="all")
    env.reset()
    ram = env.play.ram
    put(ram, VINE, instead_of_air=True)
    env.step(env.codes.index(RIGHT))
    ram[AREA_POINTER] = CLOUDS
    while ram[Address.IN_CLOUDS] == 0:
        env.step(env.codes.index(UP))
    lowest = 0
    while ram[Address.IN_CLOUDS] != 0:
        *_, info = env.step(env.codes.index(RIGHT))
        lowest = max(lowest, ram[Address.Y_VIEWPORT])
        assert env.cause is None
    # The screen is the second page: he has fallen two more screens below it.
    assert lowest >= 3
    *_, info = env.step(WAIT)
    # The clouds of 2-1 lead back to this place.
    assert (info["cause"], info["x_pos"]) == (None, 2600)
    assert (info["world"], info["stage"], info["dead"]) == (2, 1, False)


def test_a_clear_is_seen_where_the_official_environment_sees_none(
    mario: Callable[..., MarioEnv],
) -> None:
    """All places for enemies are taken before the castle comes, so its flag is sixth.

    The official environment looks into five, so it plays on in 1-2.
    """
    [clear] = (recording for recording in CLEARS if recording.level == "1-1")
    official = SuperMarioBrosEnv(target=(1, 1))
    official.reset()
    env = mario(obs_type="state", action_set="all", frame_skip=1)
    env.reset()
    info: dict[str, Any] = {}
    said: dict[str, Any] = {}
    with closing(official):
        for held in chain(clear.held, repeat(clear.held[-1])):
            for ram in (env.play.ram, official.ram):
                types = ram[Address.ENEMY_TYPE : Address.ENEMY_TYPE + SLOTS]
                if read_x(ram) > 2700 and FLAG not in types:
                    fill_free_slots(ram)
            *_, info = env.step(env.codes.index(held))
            _, _, terminated, _, said = official.step(held)
            assert not said["flag_get"]
            assert not terminated
            if env.cause is not None:
                break
            assert bytes(env.play.ram) == bytes(official.ram)
        assert (info["cause"], info["x_pos"]) == ("clear", 3161)
        while (said["world"], said["stage"]) == (1, 1):
            *_, said = official.step(NO_BUTTONS)
        assert (said["world"], said["stage"], said["flag_get"]) == (1, 2, False)
