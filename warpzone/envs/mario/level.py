"""One level on one console, from its first frame to its end."""

from typing import Any

import numpy as np

from warpzone.envs.compiled import compiled
from warpzone.envs.mario.state import (
    MAX_STRIDE,
    Address,
    is_cleared,
    is_cutscene,
    is_dead,
    is_ordinary,
    read_area,
    read_time,
    read_x,
)
from warpzone.envs.nes.buttons import NO_BUTTONS, START
from warpzone.envs.nes.consoles import Console
from warpzone.envs.nes.machine import advance, switch_off, switch_on

LEVELS = tuple(f"{world}-{stage}" for world in range(1, 9) for stage in range(1, 5))
"""Every level of the game, ``1-1`` to ``8-4``."""

# Worlds, from 0, whose second level opens with a walk into a pipe, an area of its own.
_WORLDS_WITH_AN_INTRO = (0, 1, 3, 6)

# Real cutscenes are shorter. A game that plays by itself for longer is handed back to
# the player, so that a time limit can end the episode.
_MAX_CUTSCENE_FRAMES = 2_000


# More than the game has.
_MAX_AREAS = 64

ODOMETER = np.dtype(
    [
        # Where Mario is, and the rightmost x since he was put there.
        ("area", np.int64),
        ("x", np.int64),
        ("rightmost", np.int64),
        # What `Odometer` says of them.
        ("progress", np.int64),
        ("travelled", np.int64),
        # The areas that Mario has been in, the level's first one first, and the
        # furthest x in each.
        ("count", np.int64),
        ("areas", np.int64, _MAX_AREAS),
        ("furthest", np.int64, _MAX_AREAS),
    ]
)


class Odometer:
    """How far Mario has come, in spite of an x that starts anew in every area.

    Attributes:
        record: Its numbers, shape ``(1,)``, `ODOMETER`.
    """

    def __init__(self, ram: np.ndarray) -> None:
        self.record = np.zeros(1, ODOMETER)
        _start(self.record, ram)

    @property
    def x_pos_max(self) -> int:
        """The furthest x reached in the level's first area, in pixels.

        Bonus rooms have an x of their own, which says nothing about the level.
        """
        return int(self.record["furthest"][0, 0])

    @property
    def progress(self) -> int:
        """Pixels walked to new furthest points, summed over all areas.

        What a pipe skips is not walked.
        """
        return int(self.record["progress"][0])

    @property
    def travelled(self) -> int:
        """Pixels walked to furthest points since Mario was put where he was.

        A pipe, a vine or a maze, which takes back a run along a wrong way, puts him
        somewhere. So this rises as long as he gets on, over ground that he knows, too,
        and not while he walks to and fro.
        """
        return int(self.record["travelled"][0])

    def update(self, ram: np.ndarray) -> None:
        """Take note of one more frame."""
        _follow(self.record, ram)

    def copy(self) -> "Odometer":
        """Return an independent copy."""
        twin = object.__new__(Odometer)
        twin.record = self.record.copy()
        return twin


@compiled
def _start(record, ram):
    odometer = record[0]
    odometer.area = odometer.areas[0] = read_area(ram)
    odometer.x = odometer.rightmost = odometer.furthest[0] = read_x(ram)
    odometer.progress = odometer.travelled = 0
    odometer.count = 1


@compiled
def _follow(record, ram):
    odometer = record[0]
    area, x = read_area(ram), read_x(ram)
    has_walked = area == odometer.area and abs(x - odometer.x) <= MAX_STRIDE
    index = 0
    while index < odometer.count and odometer.areas[index] != area:
        index += 1
    if index == odometer.count:
        odometer.areas[index] = area
        odometer.furthest[index] = -1
        odometer.count += 1
    furthest = odometer.furthest[index]
    if x > furthest:
        odometer.furthest[index] = x
        if has_walked:
            odometer.progress += x - furthest
    if not has_walked:
        odometer.rightmost = x
    elif x > odometer.rightmost:
        odometer.travelled += x - odometer.rightmost
        odometer.rightmost = x
    odometer.area = area
    odometer.x = x


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
        # World and stage as RAM counts them.
        self.level = np.zeros(2, np.uint8)
        self.console = console
        self.ram = console.ram
        self.frames = np.zeros(1, np.int64)
        self.enter(name)

    def enter(self, name: str) -> None:
        """Go to the first frame of a level.

        Raises:
            ValueError: If the game has no such level.
        """
        if name not in LEVELS:
            raise ValueError(f"no level {name!r}: the game has 1-1 to 8-4")
        self.name = name
        self.level[:] = [int(part) - 1 for part in name.split("-")]
        kept, counted = self.console.kept, int(self.frames[0])
        # Two threads that do it at once keep the same.
        if name not in kept:
            self.frames[0] = 0
            self._enter_level()
            kept[name] = self.console.snapshot(), int(self.frames[0])
        self._level_start, way = kept[name]
        self.frames[0] = counted or way
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
        codes = np.frombuffer(bytearray(buttons), np.uint8)
        return self.console.call(
            _run, self.odometer.record, self.level, self.frames, codes
        )

    def advance(self, buttons: int) -> None:
        """Play one frame, as `run` does."""
        self.run(bytes([buttons]))

    @property
    def emulator_frames(self) -> int:
        """Frames since the console was switched on, cutscenes and all.

        The way to the first level's first frame counts, also where another console has
        played it: else the number would depend on what was made before. For the same
        reason that to further levels does not.
        """
        return int(self.frames[0])

    @property
    def is_over(self) -> bool:
        """Whether Mario is dead, has cleared the level or has left it."""
        return is_over(self.ram, self.level)

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
        self.frames += 1

    def _enter_level(self) -> None:
        """Start a game, put it on the level, and wait for the clock's first tick."""
        world, stage = self.level.tolist()
        has_intro = world in _WORLDS_WITH_AN_INTRO and stage >= 1
        ram = self.ram
        self.console.power_on()
        self._tap_start()
        while read_time(ram) == 0:
            self._emulate(START)
            ram[Address.WORLD] = world
            ram[Address.STAGE] = stage
            ram[Address.AREA] = stage + has_intro
            self._emulate(NO_BUTTONS)
            ram[Address.PRELEVEL_TIMER] = 0
        full_clock = read_time(ram)
        while read_time(ram) >= full_clock:
            self._tap_start()

    def _tap_start(self) -> None:
        self._emulate(START)
        self._emulate(NO_BUTTONS)


@compiled
def has_left(ram, level):
    """Whether Mario is on his way to another level, by a pipe of a warp zone.

    The game counts him there from the frame on in which he enters the pipe.
    """
    return ram[Address.WORLD] != level[0] or ram[Address.STAGE] != level[1]


@compiled
def is_over(ram, level):
    """Whether Mario is dead, has cleared the level or has left it."""
    return is_dead(ram) or is_cleared(ram) or has_left(ram, level)


@compiled
def play_frames(core, state, ram, odometer, level, frames, codes):
    """Play a frame for each button mask, and any cutscene that one begins.

    Args:
        core: See machine.py; ``state`` too.
        state: Of the console.
        ram: The live RAM.
        odometer: Follows Mario, `ODOMETER`.
        level: World and stage as RAM counts them.
        frames: Counts all frames that are emulated.
        codes: The button masks.

    Returns:
        How many were played: all, or fewer if the level is over.
    """
    for index in range(len(codes)):
        advance(core, state, codes[index])
        frames[0] += 1
        if not is_ordinary(ram):
            if not is_over(ram, level):
                _skip_cutscene(core, state, ram, level, frames)
            if is_over(ram, level):
                _follow(odometer, ram)
                return index + 1
        _follow(odometer, ram)
    return len(codes)


@compiled
def _skip_cutscene(core, state, ram, level, frames):
    if 1 < ram[Address.CHANGE_AREA_TIMER] < 255:
        ram[Address.CHANGE_AREA_TIMER] = 1
    for _ in range(_MAX_CUTSCENE_FRAMES):
        if is_over(ram, level) or not is_cutscene(ram):
            break
        ram[Address.PRELEVEL_TIMER] = 0
        advance(core, state, NO_BUTTONS)
        frames[0] += 1


@compiled
def _run(core, state, ram, odometer, level, frames, codes):
    if len(codes) == 0:
        return 0
    memory = switch_on(core, state, ram)
    played = play_frames(core, state, memory, odometer, level, frames, codes)
    switch_off(core, state, ram)
    return played
