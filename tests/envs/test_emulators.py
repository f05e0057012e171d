"""FCEUmm plays the game that nes-py plays, frame by frame.

Both get the same buttons on the same level. After every frame the position, the speed,
the score, the clock and all else that `GameState` has are equal, and so are the
distance walked, the frames that cutscenes took and, but for a few pixels now and then,
the screen.

Not all of RAM is: nes-py ends a frame later, where the game has begun with the next one
(frame counter, timers, random numbers, sound).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from warpzone.envs.mario.cartridge import make_console, rom_path
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LEVELS, LevelPlay
from warpzone.envs.mario.state import (
    Address,
    is_cleared,
    is_cutscene,
    is_dead,
    is_ordinary,
    read_state,
)
from warpzone.envs.nes.buttons import RIGHT, A, B
from warpzone.envs.nes.consoles import EMULATORS, Console
from warpzone.envs.nes.fceumm import FceummConsole
from warpzone.envs.nes.machine import SCREEN_SHAPE
from warpzone.episodes.recording import Recording, read_recordings

CLEARS = read_recordings(Path(__file__).parents[1] / "data" / "clears.jsonl")
FRAMES_OF_RANDOM_PLAY = 400
RUN = RIGHT | B
# Mostly to the right, so that random play gets somewhere.
BUTTONS = (RUN, RUN, RUN | A, RUN | A, RUN | A, RIGHT, RIGHT | A, A, 0)


def random_play(seed: int) -> Iterator[int]:
    """Yield buttons that change now and then."""
    rng = np.random.default_rng(seed)
    held = RUN
    while True:
        if rng.random() < 0.1:
            held = int(rng.choice(BUTTONS))
        yield held


def grey(console: Console) -> np.ndarray:
    screen = np.empty(SCREEN_SHAPE, np.uint8)
    console.read_grey(screen)
    return screen


class Pair:
    """nes-py and FCEUmm on one level, in lockstep."""

    def __init__(self, level: str) -> None:
        self.official = LevelPlay(make_console("nes-py"), level)
        self.fast = LevelPlay(make_console("fceumm"), level)
        self.where = f"start of {level}"
        self.pixels: list[int] = []
        """How many differ, one number a frame."""
        self.check()

    def advance(self, buttons: int) -> None:
        self.official.advance(buttons)
        self.fast.advance(buttons)
        self.where = f"{self.official.name}, frame {self.fast.emulator_frames}"
        self.check()

    def check(self) -> None:
        assert read_state(self.official.ram) == read_state(self.fast.ram), self.where
        assert self.official.is_over == self.fast.is_over, self.where
        assert self.official.emulator_frames == self.fast.emulator_frames, self.where
        mine, other = self.fast.odometer, self.official.odometer
        assert (mine.progress, mine.x_pos_max) == (other.progress, other.x_pos_max)
        differ = grey(self.official.console) != grey(self.fast.console)
        self.pixels.append(int(differ.sum()))


def play_randomly(pair: Pair, seed: int) -> None:
    for held in islice(random_play(seed), FRAMES_OF_RANDOM_PLAY):
        pair.advance(held)
        if pair.fast.is_over:
            return


@pytest.mark.parametrize("level", ["1-1", "2-2", "4-4"])
def test_random_play_is_the_same_on_both(level: str) -> None:
    pair = Pair(level)
    play_randomly(pair, seed=1)
    assert len(pair.pixels) > 50
    assert np.mean(np.array(pair.pixels) == 0) > 0.97


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_is_the_same_on_both(level: str) -> None:
    pair = Pair(level)
    for seed in range(2):
        pair.official.restart()
        pair.fast.restart()
        play_randomly(pair, seed)
    assert np.mean(np.array(pair.pixels) == 0) > 0.9
    assert max(pair.pixels) < 0.02 * SCREEN_SHAPE[0] * SCREEN_SHAPE[1]


@pytest.mark.slow
@pytest.mark.parametrize("clear", CLEARS, ids=lambda clear: clear.level)
def test_what_clears_a_level_on_nes_py_clears_it_on_fceumm(clear: Recording) -> None:
    pair = Pair(clear.level)
    for buttons in clear.held:
        pair.advance(buttons)
    assert read_state(pair.fast.ram).flag_get
    assert np.mean(np.array(pair.pixels) == 0) > 0.97


def test_all_64_colours_are_those_of_nes_py() -> None:
    plays = [LevelPlay(make_console(name), "1-1") for name in ("nes-py", "fceumm")]
    for colour in range(64):
        for play in plays:
            play.restart()
            # The game sends what lies at 0x301 to the picture chip: one byte, the
            # colour, for the backdrop. 0x300 is how long the message is.
            play.ram[0x301:0x306] = [0x3F, 0x00, 1, colour, 0]
            play.ram[0x300] = 5
            play.console.advance(0)
            play.console.advance(0)
        one, other = (play.console for play in plays)
        sky = (slice(40, 60), slice(0, 16))
        assert (one.read_rgb()[sky] == other.read_rgb()[sky]).all(), colour
        assert (grey(one)[sky] == grey(other)[sky]).all(), colour


def test_episodes_are_the_same_on_both(mario: Callable[..., MarioEnv]) -> None:
    noise = {"no_op_max": 30, "sticky_probability": 0.25}
    envs = [mario(emulator=name, **noise) for name in ("nes-py", "fceumm")]
    rng = np.random.default_rng(3)
    first, second = (env.reset(seed=7) for env in envs)
    ended = False
    differing = 0
    while not ended:
        assert first[1:] == second[1:]
        differing += int((first[0] != second[0]).any())
        action = int(rng.integers(len(envs[0].codes)))
        first, second = (env.step(action) for env in envs)
        ended = bool(first[2] or first[3])
    assert first[1:] == second[1:]
    assert envs[0].frame_actions == envs[1].frame_actions
    assert len(envs[0].decisions) > 20
    assert differing < 0.1 * len(envs[0].decisions)


def trail(console: Console, buttons: bytes) -> list[tuple[bytes, bytes]]:
    """RAM and screen after each frame."""
    states = []
    for held in buttons:
        console.advance(held)
        states.append((bytes(console.ram), grey(console).tobytes()))
    return states


def fceumm() -> FceummConsole:
    return FceummConsole(rom_path())


def some_buttons(frames: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    return bytes(np.repeat(rng.choice(BUTTONS, frames // 5 + 1), 5)[:frames].tolist())


def test_a_snapshot_is_exact_on_any_console() -> None:
    console, other = fceumm(), fceumm()
    LevelPlay(console, "1-1")
    for seed in range(10):
        before = console.snapshot()
        screen_then = grey(console).tobytes()
        buttons = some_buttons(60, seed)
        expected = trail(console, buttons)
        other.restore(before)
        assert grey(other).tobytes() == screen_then
        assert trail(other, buttons) == expected
        console.restore(before)
        assert trail(console, buttons) == expected


def test_a_level_is_entered_once_for_all_consoles(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = LevelPlay(fceumm(), "2-1")
    first.run(bytes([RUN] * 50))
    with monkeypatch.context() as patching:
        patching.setattr(LevelPlay, "_enter_level", None)
        second = LevelPlay(fceumm(), "2-1")
    console = fceumm()
    console.kept = {}
    alone = LevelPlay(console, "2-1")
    assert second.emulator_frames == alone.emulator_frames > 100
    buttons = some_buttons(60, 1)
    for play in (second, first):
        play.restart()
        alone.restart()
        assert grey(play.console).tobytes() == grey(console).tobytes()
        assert trail(play.console, buttons) == trail(console, buttons)


def test_consoles_that_take_turns_do_not_mix() -> None:
    alone = []
    for seed in range(6):
        play = LevelPlay(fceumm(), LEVELS[seed])
        alone.append(trail(play.console, some_buttons(40, seed)))
    plays = [LevelPlay(fceumm(), LEVELS[seed]) for seed in range(6)]
    turns: list[list[tuple[bytes, bytes]]] = [[] for _ in plays]
    with ThreadPoolExecutor(3) as pool:
        for start in range(0, 40, 4):
            parts = pool.map(
                lambda seed, start=start: trail(
                    plays[seed].console,
                    some_buttons(40, seed)[start : start + 4],
                ),
                range(6),
            )
            for turn, part in zip(turns, parts, strict=True):
                turn += part
    assert turns == alone


@pytest.mark.parametrize("name", EMULATORS)
def test_frames_in_one_call_are_those_of_single_calls(name: str) -> None:
    one, other = (LevelPlay(make_console(name), "1-1") for _ in range(2))
    buttons = bytes([RUN] * 300)
    for held in buttons:
        if not one.is_over:
            one.advance(held)
    played = other.run(buttons)
    # Running on meets the first Goomba.
    assert one.is_over
    assert played < len(buttons)
    assert bytes(one.ram) == bytes(other.ram)
    assert (grey(one.console) == grey(other.console)).all()
    assert one.odometer.progress == other.odometer.progress
    assert one.emulator_frames == other.emulator_frames


def test_an_ordinary_state_is_neither_dead_nor_cleared_nor_a_cutscene() -> None:
    ordinary = {
        Address.PLAYER_STATE: (8,),
        Address.Y_VIEWPORT: (0, 1),
        Address.CHANGE_AREA_TIMER: (0, 1),
        Address.GAME_MODE: (1,),
    }
    ram = np.zeros(2048, np.uint8)
    for address, values in ordinary.items():
        ram[address] = values[0]
    assert is_ordinary(ram)
    for address, values in ordinary.items():
        for value in range(256):
            ram[address] = value
            assert is_ordinary(ram) == (value in values)
            if value in values:
                assert not is_dead(ram)
                assert not is_cleared(ram)
                assert not is_cutscene(ram)
        ram[address] = values[0]


def test_writes_to_ram_are_kept() -> None:
    console = fceumm()
    play = LevelPlay(console, "1-1")
    console.ram[0x7F8] = 1
    console.ram[0x7F9] = 2
    play.advance(0)
    assert read_state(play.ram).time // 10 == 12


def test_power_on_is_always_the_same() -> None:
    console, other = fceumm(), fceumm()
    console.power_on()
    first = trail(console, some_buttons(80, seed=0))
    console.power_on()
    other.power_on()
    assert trail(console, some_buttons(80, seed=0)) == first
    assert trail(other, some_buttons(80, seed=0)) == first
