"""Named RAM addresses, and what they say about the game.

The addresses are those of the community's RAM map of Super Mario Bros,
https://datacrystal.tcrf.net/wiki/Super_Mario_Bros./RAM_map, and of the disassembly
that it cites. `tests/envs/test_conformance.py` compares what is read here with
gym-super-mario-bros frame by frame.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from warpzone.envs.compiled import compiled

ON_GROUND = 0
"""A player float state."""
# Game modes; the second one is that after the axe has been touched.
PLAYING, WORLD_CLEARED = 1, 2
# A game task; those before it load an area.
RUNNING = 3

MAX_STRIDE = 8
"""No walk, run, fall or platform moves Mario more pixels than this in one frame."""


class Address(IntEnum):
    """Where the game keeps what we read or write."""

    FRAME = 0x0009
    BUTTONS_A_B = 0x000A
    BUTTONS_A_B_BEFORE = 0x000D
    PLAYER_STATE = 0x000E
    ENEMY_PRESENT = 0x000F
    ENEMY_TYPE = 0x0016
    FLOAT_STATE = 0x001D
    FACING = 0x0033
    X_SPEED = 0x0057
    X_PAGE = 0x006D
    X_PIXEL = 0x0086
    Y_SPEED = 0x009F
    Y_VIEWPORT = 0x00B5
    Y_PIXEL_IN_PAGE = 0x00CE
    AREA_DATA = 0x00E7
    SCREEN_X = 0x03AD
    Y_PIXEL = 0x03B8
    TILES = 0x0500
    CHANGE_AREA_TIMER = 0x06DE
    IN_CLOUDS = 0x0743
    POWER_UP = 0x0756
    LIVES = 0x075A
    STAGE = 0x075C
    WORLD = 0x075F
    AREA = 0x0760
    GAME_MODE = 0x0770
    GAME_TASK = 0x0772
    PRELEVEL_TIMER = 0x07A0
    SCORE_DIGITS = 0x07DE
    COIN_DIGITS = 0x07ED
    TIME_DIGITS = 0x07F8


class PlayerState(IntEnum):
    """Values of `Address.PLAYER_STATE`: which routine of the game moves Mario.

    In those before `NORMAL`, but for `DEAD`, the buttons do nothing.
    """

    LEFTMOST = 0x00
    CLIMBING_VINE = 0x01
    ENTERING_SIDE_PIPE = 0x02
    ENTERING_PIPE = 0x03
    SLIDING_DOWN_POLE = 0x04
    WALKING_OFF = 0x05
    DEAD = 0x06
    ENTERING_AREA = 0x07
    NORMAL = 0x08
    DYING = 0x0B


STATUSES = ("small", "tall", "fireball")


class GameState(NamedTuple):
    """What the screen would tell a person, read from RAM after one frame."""

    x_pos: int  # pixels from the left edge of the current area
    y_pos: int  # pixels above the bottom of the screen; 256 and more is over its top
    time: int  # what the game's clock shows, in game seconds (about 0.4 s each)
    score: int
    coins: int
    life: int  # lives in reserve; 255 after the last one is lost
    status: str  # one of `STATUSES`
    world: int
    stage: int
    dead: bool  # dying, dead or in a pit
    flag_get: bool  # flag grabbed, or axe touched in a castle


def read_state(ram: np.ndarray) -> GameState:
    """Read everything that episodes report."""
    facts = np.empty(len(GameState._fields), np.int64)
    read_facts(ram, facts)
    read = GameState._make(facts.tolist())
    return read._replace(
        status=STATUSES[facts[6]], dead=bool(read.dead), flag_get=bool(read.flag_get)
    )


@compiled
def read_facts(ram, out):
    """Write the fields of `GameState`, in their order, into ``out``, int64."""
    out[0] = read_x(ram)
    is_above_screen = ram[Address.Y_VIEWPORT] < 1
    out[1] = (510 if is_above_screen else 255) - ram[Address.Y_PIXEL]
    out[2] = read_time(ram)
    out[3] = _digits(ram, Address.SCORE_DIGITS, 6)
    out[4] = _digits(ram, Address.COIN_DIGITS, 2)
    out[5] = ram[Address.LIVES]
    out[6] = min(ram[Address.POWER_UP], 2)
    out[7] = ram[Address.WORLD] + 1
    out[8] = ram[Address.STAGE] + 1
    out[9] = is_dead(ram)
    out[10] = is_cleared(ram)


@compiled
def _digits(ram, address, count):
    number = 0
    for place in range(address, address + count):
        number = number * 10 + ram[place]
    return number


@compiled
def read_x(ram: np.ndarray) -> int:
    """Mario's x in pixels from the left edge of the current area."""
    return ram[Address.X_PAGE] << 8 | ram[Address.X_PIXEL]


@compiled
def read_area(ram: np.ndarray) -> int:
    """Which area Mario is in: the cartridge address of its layout.

    Pipes, vines and doors lead to areas whose x starts anew. The area number and the
    area pointer in RAM change before Mario gets there; this address does not.
    """
    return ram[Address.AREA_DATA + 1] << 8 | ram[Address.AREA_DATA]


@compiled
def read_time(ram: np.ndarray) -> int:
    """What the game's clock shows."""
    return _digits(ram, Address.TIME_DIGITS, 3)


@compiled
def is_dead(ram: np.ndarray) -> bool:
    """Whether Mario is dying, dead or in a pit."""
    dying = ram[Address.PLAYER_STATE] in (PlayerState.DYING, PlayerState.DEAD)
    return dying or is_in_pit(ram)


@compiled
def is_in_pit(ram: np.ndarray) -> bool:
    """Whether Mario is below the screen, and not because he fell out of the clouds.

    From there the game leads him back to the level. gym-super-mario-bros takes it for a
    death.
    """
    is_in_level = ram[Address.IN_CLOUDS] == 0 and ram[Address.GAME_TASK] == RUNNING
    return ram[Address.Y_VIEWPORT] > 1 and is_in_level


@compiled
def is_cleared(ram: np.ndarray) -> bool:
    """Whether the level is won: flagpole grabbed, or axe touched in a castle.

    Either is the event itself. In the frame in which Mario touches the pole the game
    begins to slide him down, by a routine that nothing else leads to; vines have their
    own. The axe changes the game mode. gym-super-mario-bros looks for the flag on the
    castle instead, in five of the six places where it may be.
    """
    ends = (PlayerState.SLIDING_DOWN_POLE, PlayerState.WALKING_OFF)
    is_at_pole = ram[Address.PLAYER_STATE] in ends
    return is_at_pole or ram[Address.GAME_MODE] == WORLD_CLEARED


@compiled
def is_cutscene(ram: np.ndarray) -> bool:
    """Whether the game plays by itself (pipes, doors, the black screens between)."""
    state = ram[Address.PLAYER_STATE]
    is_automatic = state < PlayerState.NORMAL and state != PlayerState.DEAD
    return is_automatic or ram[Address.GAME_MODE] == WORLD_CLEARED


@compiled
def is_ordinary(ram: np.ndarray) -> bool:
    """Whether the player is in control: no death, no clear, no cutscene."""
    return (
        ram[Address.PLAYER_STATE] == PlayerState.NORMAL
        and ram[Address.Y_VIEWPORT] <= 1
        and ram[Address.CHANGE_AREA_TIMER] <= 1
        and ram[Address.GAME_MODE] == PLAYING
    )
