"""A level from its first frame to death or the flag, and how far Mario has come."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.level import LEVELS, LevelPlay, Odometer
from warpzone.envs.mario.state import (
    Address,
    is_cutscene,
    read_area,
    read_state,
    read_time,
    read_x,
)
from warpzone.envs.nes.buttons import NO_BUTTONS, RIGHT, A, B
from warpzone.episodes.recording import read_recordings

CLEARS = Path(__file__).parents[1] / "data" / "clears.jsonl"
FIRST_AREA = 0xA690
ROOM = 0xAD7B


@pytest.fixture(scope="module")
def play() -> LevelPlay:
    return LevelPlay(make_console("nes-py"), "1-1")


def begin(name: str) -> LevelPlay:
    return LevelPlay(make_console("nes-py"), name)


def assert_under_control_at_the_start_of(play: LevelPlay) -> None:
    state = read_state(play.ram)
    assert f"{state.world}-{state.stage}" == play.name
    assert not play.is_over
    assert not is_cutscene(play.ram)
    assert (state.score, state.coins, state.life, state.status) == (0, 0, 2, "small")
    assert state.time in (400, 300, 200)
    for _ in range(20):
        play.advance(RIGHT)
    assert read_x(play.ram) > state.x_pos


# 4-2 opens with a walk into a pipe, which is left out.
@pytest.mark.parametrize("name", ["1-1", "4-2"])
def test_a_level_starts_with_mario_under_control(name: str) -> None:
    assert_under_control_at_the_start_of(begin(name))


def rams(play: LevelPlay, held: bytes) -> list[bytes]:
    """The RAM after each frame."""
    seen = []
    for buttons in held:
        play.advance(buttons)
        seen.append(bytes(play.ram))
    return seen


# nes-py's snapshots lack how far the game has got in reading the controllers, see
# `NesPyConsole.snapshot`. In the clear of 1-1 it is in the middle of that after 75, 247
# and 327 frames. It must not be at the level's start, which every episode is restored
# to.
def test_an_episode_does_not_depend_on_where_the_one_before_ended() -> None:
    held = read_recordings(CLEARS)[0].held
    play = begin("1-1")
    expected = rams(play, held[:30])
    for end in (1, 75, 76, 247, 327):
        play.restart()
        rams(play, held[:end])
        play.restart()
        assert rams(play, held[:30]) == expected


@pytest.mark.slow
def test_the_start_of_all_32_levels_is_restored_exactly() -> None:
    held = bytes([RIGHT | A, A, RIGHT | B, NO_BUTTONS, RIGHT])
    with ThreadPoolExecutor(2) as pool:
        for play in pool.map(begin, LEVELS):
            expected = rams(play, held)
            for buttons in (NO_BUTTONS, A | B):
                rams(play, bytes([buttons]))
                play.restart()
                assert rams(play, held) == expected, play.name


@pytest.mark.slow
def test_all_32_levels_start_with_mario_under_control() -> None:
    assert len(LEVELS) == 32
    with ThreadPoolExecutor(2) as pool:
        for play in pool.map(begin, LEVELS):
            assert_under_control_at_the_start_of(play)


def test_there_is_no_level_9_1() -> None:
    with pytest.raises(ValueError, match="no level '9-1': the game has 1-1 to 8-4"):
        begin("9-1")


def test_every_restart_begins_with_the_same_ram(play: LevelPlay) -> None:
    play.restart()
    first = bytes(play.ram)
    for _ in range(50):
        play.advance(RIGHT | B)
    assert bytes(play.ram) != first
    assert play.odometer.progress > 0
    play.restart()
    assert bytes(play.ram) == first
    assert play.odometer.progress == 0


def test_the_same_buttons_lead_to_the_same_ram_on_another_console(
    play: LevelPlay,
) -> None:
    other = begin("1-1")
    play.restart()
    for frame in range(150):
        buttons = RIGHT | (A if frame % 40 < 20 else NO_BUTTONS)
        play.advance(buttons)
        other.advance(buttons)
        assert bytes(play.ram) == bytes(other.ram)


def test_a_snapshot_brings_back_the_console_and_the_odometer(play: LevelPlay) -> None:
    def run(frames: int) -> tuple[bytes, int]:
        for _ in range(frames):
            play.advance(RIGHT)
        return bytes(play.ram), play.odometer.progress

    play.restart()
    run(30)
    snapshot = play.snapshot()
    walked = play.odometer.progress
    later = run(40)
    for _ in range(2):  # A snapshot is not used up.
        play.restore(snapshot)
        assert play.odometer.progress == walked
        assert run(40) == later


def test_frames_are_counted_with_the_cutscenes(
    play: LevelPlay, into_the_bonus_room: bytes
) -> None:
    play.restart()
    before = play.emulator_frames
    for buttons in into_the_bonus_room:
        play.advance(buttons)
    # The way down the pipe takes 39 frames that nobody plays.
    assert play.emulator_frames - before == len(into_the_bonus_room) + 39


def test_walking_right_ends_at_the_first_goomba(play: LevelPlay) -> None:
    play.restart()
    while not play.is_over:
        play.advance(RIGHT)
    state = read_state(play.ram)
    assert state.dead
    assert not state.flag_get
    assert 280 < state.x_pos < 330
    assert play.odometer.x_pos_max == state.x_pos


def test_a_bonus_room_raises_neither_x_pos_max_nor_progress_by_its_own_x(
    play: LevelPlay, into_the_bonus_room: bytes
) -> None:
    play.restart()
    start = read_x(play.ram)
    assert read_area(play.ram) == FIRST_AREA
    for buttons in into_the_bonus_room:
        play.advance(buttons)
    assert read_area(play.ram) == ROOM
    # On the pipe x was 918, in the room it is 24.
    assert read_x(play.ram) == 24
    assert play.odometer.x_pos_max == 918
    assert play.odometer.progress == 918 - start
    # What is walked in the room is new ground, but says nothing about the level.
    for _ in range(60):
        play.advance(RIGHT)
    walked = read_x(play.ram) - 24
    assert walked > 20
    assert play.odometer.x_pos_max == 918
    assert play.odometer.progress == 918 - start + walked


def test_the_clock_runs_on_through_a_pipe(
    play: LevelPlay, into_the_bonus_room: bytes
) -> None:
    play.restart()
    clock = read_time(play.ram)
    for buttons in into_the_bonus_room:
        play.advance(buttons)
        assert clock - 2 <= read_time(play.ram) <= clock
        clock = read_time(play.ram)
    assert clock == 370


class Walk:
    """An odometer on a RAM that the test writes."""

    def __init__(self, x: int, area: int = FIRST_AREA) -> None:
        self.ram = np.zeros(2048, np.uint8)
        self._put(x, area)
        self.odometer = Odometer(self.ram)

    def to(self, x: int, area: int = FIRST_AREA) -> tuple[int, int]:
        self._put(x, area)
        self.odometer.update(self.ram)
        return self.odometer.progress, self.odometer.x_pos_max

    def _put(self, x: int, area: int) -> None:
        self.ram[Address.X_PAGE], self.ram[Address.X_PIXEL] = divmod(x, 256)
        self.ram[Address.AREA_DATA + 1], self.ram[Address.AREA_DATA] = divmod(area, 256)


def test_only_new_ground_counts() -> None:
    walk = Walk(40)
    assert walk.to(43) == (3, 43)
    assert walk.to(41) == (3, 43)
    assert walk.to(43) == (3, 43)
    assert walk.to(45) == (5, 45)


def test_a_jump_of_x_within_an_area_is_not_walked() -> None:
    walk = Walk(40)
    # As when the maze of 8-4 leads on elsewhere in the same area.
    assert walk.to(840) == (0, 840)
    assert walk.to(842) == (2, 842)


def test_a_pipe_that_leads_further_on_pays_for_nothing_that_it_skips() -> None:
    walk = Walk(900)
    assert walk.to(906) == (6, 906)
    assert walk.to(24, ROOM) == (6, 906)
    assert walk.to(30, ROOM) == (12, 906)
    assert walk.to(2600) == (12, 2600)
    assert walk.to(2604) == (16, 2604)


def test_going_back_to_a_known_area_pays_for_new_ground_only() -> None:
    walk = Walk(40)
    walk.to(46)
    walk.to(24, ROOM)
    assert walk.to(44) == (6, 46)
    assert walk.to(48) == (8, 48)
    # The room is as well known as before.
    assert walk.to(24, ROOM) == (8, 48)
    assert walk.to(26, ROOM) == (10, 48)


def test_whoever_is_put_back_gets_on_over_ground_that_he_knows() -> None:
    walk = Walk(1036)
    assert walk.to(1040) == (4, 1040)
    # A maze takes back four pages, in the same area; nothing is paid for them again.
    assert walk.to(16) == (4, 1040)
    assert walk.odometer.travelled == 4
    assert walk.to(22) == (4, 1040)
    assert walk.odometer.travelled == 10
    # To and fro he does not get on.
    walk.to(18)
    walk.to(22)
    assert walk.odometer.travelled == 10
    walk.to(25)
    assert walk.odometer.travelled == 13


def test_a_pipe_back_to_a_known_place_is_a_new_beginning_too() -> None:
    walk = Walk(40)
    for x in range(48, 200, 8):
        walk.to(x)
    walk.to(24, ROOM)
    walk.to(80)
    before = walk.odometer.travelled
    assert walk.to(86) == (192 - 40, 192)
    assert walk.odometer.travelled == before + 6


def test_a_copy_of_an_odometer_goes_its_own_way() -> None:
    walk = Walk(40)
    twin = walk.odometer.copy()
    walk.to(45)
    assert (twin.progress, twin.x_pos_max) == (0, 40)
    twin.update(walk.ram)
    assert (twin.progress, twin.x_pos_max) == (5, 45)
