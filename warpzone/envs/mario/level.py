"""One level on one console, from its first frame to its end."""

from itertools import batched
from typing import Any

from warpzone.envs.mario.cartridge import WATCH
from warpzone.envs.mario.state import (
    MAX_STRIDE,
    TRACED,
    Address,
    is_cleared,
    is_cutscene,
    is_dead,
    read_area,
    read_time,
    read_x,
)
from warpzone.envs.nes.buttons import NO_BUTTONS, START
from warpzone.envs.nes.consoles import Console

LEVELS = tuple(f"{world}-{stage}" for world in range(1, 9) for stage in range(1, 5))
"""Every level of the game, ``1-1`` to ``8-4``."""

# Worlds, from 0, whose second level opens with a walk into a pipe, an area of its own.
_WORLDS_WITH_AN_INTRO = (0, 1, 3, 6)

# Real cutscenes are shorter. A game that plays by itself for longer is handed back to
# the player, so that a time limit can end the episode.
_MAX_CUTSCENE_FRAMES = 2_000


class Odometer:
    """How far Mario has come, in spite of an x that starts anew in every area.

    Attributes:
        x_pos_max: The furthest x reached in the level's first area, in pixels. Bonus
            rooms have an x of their own, which says nothing about the level.
        progress: Pixels walked to new furthest points, summed over all areas. What a
            pipe skips is not walked.
        travelled: Pixels walked to furthest points since a pipe, a vine or a maze,
            which takes back a run along a wrong way, put Mario where he was. So it
            rises as long as he gets on, over ground that he knows, too, and not while
            he walks to and fro.
    """

    def __init__(self, ram: memoryview) -> None:
        self._area = self._first_area = read_area(ram)
        self._x = read_x(ram)
        self._furthest = {self._area: self._x}
        self._rightmost = self._x
        self.progress = self.travelled = 0

    @property
    def x_pos_max(self) -> int:
        return self._furthest[self._first_area]

    def follow(self, trace: bytes) -> None:
        """Take note of further frames, by what was at `TRACED` in each of them."""
        for low, high, page, pixel in batched(trace, len(TRACED), strict=True):
            self._move(high << 8 | low, page << 8 | pixel)

    def update(self, ram: memoryview) -> None:
        """Take note of one more frame."""
        self._move(read_area(ram), read_x(ram))

    def _move(self, area: int, x: int) -> None:
        has_walked = area == self._area and abs(x - self._x) <= MAX_STRIDE
        furthest = self._furthest.get(area, -1)
        if x > furthest:
            self._furthest[area] = x
            if has_walked:
                self.progress += x - furthest
        if not has_walked:
            self._rightmost = x
        elif x > self._rightmost:
            self.travelled += x - self._rightmost
            self._rightmost = x
        self._area, self._x = area, x

    def copy(self) -> "Odometer":
        """Return an independent copy."""
        # copy.copy takes ten times as long.
        twin = object.__new__(Odometer)
        twin.__dict__.update(self.__dict__, _furthest=self._furthest.copy())
        return twin


type PlaySnapshot = tuple[Any, Odometer]
"""A state of a `LevelPlay`: its console's and the odometer."""


class LevelPlay:
    """A console that plays one level, frame by frame, without its cutscenes.

    Pipes, doors and the black screens between areas are played through at once, their
    timers cut short, as gym-super-mario-bros does: after every call of `run` the player
    is in control, or the level is over.

    The console belongs to this object from now on.

    Raises:
        ValueError: If the game has no such level.
    """

    def __init__(self, console: Console, name: str) -> None:
        if name not in LEVELS:
            raise ValueError(f"no level {name!r}: the game has 1-1 to 8-4")
        self.name = name
        world, stage = map(int, name.split("-"))
        # As RAM counts them.
        self._world, self._stage = world - 1, stage - 1
        self.console = console
        self.ram = console.ram
        self.emulator_frames = 0
        """Frames emulated since this object was made, cutscenes and all."""
        self._enter_level()
        self._level_start = console.snapshot()
        self.restart()

    def restart(self) -> None:
        """Go back to the level's first frame, the same one every time."""
        self.console.restore(self._level_start)
        self.odometer = Odometer(self.ram)

    def run(self, buttons: bytes) -> int:
        """Play a frame for each button mask, and any cutscene that one begins.

        Returns:
            How many were played: all, or fewer if the level is over.
        """
        played = 0
        while played < len(buttons):
            trace = self.console.run(buttons[played:])
            frames = len(trace) // len(TRACED)
            played += frames
            self.emulator_frames += frames
            if WATCH.is_ordinary(self.ram):
                self.odometer.follow(trace)
                continue
            self.odometer.follow(trace[: -len(TRACED)])
            if not self.is_over:
                self._skip_cutscene()
            self.odometer.update(self.ram)
            if self.is_over:
                break
        return played

    def advance(self, buttons: int) -> None:
        """Play one frame, as `run` does."""
        self.run(bytes([buttons]))

    @property
    def has_left(self) -> bool:
        """Whether Mario is on his way to another level, by a pipe of a warp zone.

        The game counts him there from the frame on in which he enters the pipe.
        """
        here = self.ram[Address.WORLD], self.ram[Address.STAGE]
        return here != (self._world, self._stage)

    @property
    def is_over(self) -> bool:
        """Whether Mario is dead, has cleared the level or has left it."""
        return is_dead(self.ram) or is_cleared(self.ram) or self.has_left

    def snapshot(self) -> PlaySnapshot:
        """Return the state of the level. It is valid in this process only."""
        return self.console.snapshot(), self.odometer.copy()

    def restore(self, snapshot: PlaySnapshot) -> None:
        """Bring back a state that `snapshot` returned, also that of another console.

        It has to be of the same kind, on the same level, and still open.
        """
        machine, odometer = snapshot
        self.console.restore(machine)
        self.odometer = odometer.copy()

    def _emulate(self, buttons: int) -> None:
        self.console.advance(buttons)
        self.emulator_frames += 1

    def _enter_level(self) -> None:
        """Start a game, put it on the level, and wait for the clock's first tick."""
        has_intro = self._world in _WORLDS_WITH_AN_INTRO and self._stage >= 1
        ram = self.ram
        self.console.power_on()
        self._tap_start()
        while read_time(ram) == 0:
            self._emulate(START)
            ram[Address.WORLD] = self._world
            ram[Address.STAGE] = self._stage
            ram[Address.AREA] = self._stage + has_intro
            self._emulate(NO_BUTTONS)
            ram[Address.PRELEVEL_TIMER] = 0
        full_clock = read_time(ram)
        while read_time(ram) >= full_clock:
            self._tap_start()

    def _tap_start(self) -> None:
        self._emulate(START)
        self._emulate(NO_BUTTONS)

    def _skip_cutscene(self) -> None:
        ram = self.ram
        if 1 < ram[Address.CHANGE_AREA_TIMER] < 255:
            ram[Address.CHANGE_AREA_TIMER] = 1
        for _ in range(_MAX_CUTSCENE_FRAMES):
            if self.is_over or not is_cutscene(ram):
                break
            ram[Address.PRELEVEL_TIMER] = 0
            self._emulate(NO_BUTTONS)
