"""Named RAM addresses, and what they say about the game.

The addresses are those of the community's RAM map of Super Mario Bros,
https://datacrystal.tcrf.net/wiki/Super_Mario_Bros./RAM_map, and of the disassembly
that it cites. `tests/envs/test_conformance.py` compares what is read here with
gym-super-mario-bros frame by frame.
"""

from enum import IntEnum
from typing import NamedTuple

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


ORDINARY = (
    (Address.PLAYER_STATE.value, PlayerState.NORMAL.value, PlayerState.NORMAL.value),
    (Address.Y_VIEWPORT.value, 0, 1),
    (Address.CHANGE_AREA_TIMER.value, 0, 1),
    (Address.GAME_MODE.value, PLAYING, PLAYING),
)
"""What RAM holds while the player is in control: no death, no clear, no cutscene.

Each row is an address and the lowest and highest value there."""

TRACED = (
    Address.AREA_DATA.value,
    Address.AREA_DATA.value + 1,
    Address.X_PAGE.value,
    Address.X_PIXEL.value,
)
"""What `read_area` and `read_x` read, which consoles trace from frame to frame."""


class GameState(NamedTuple):
    """What the screen would tell a person, read from RAM after one frame."""

    x_pos: int  # pixels from the left edge of the current area
    y_pos: int  # pixels above the bottom of the screen; 256 and more is over its top
    time: int  # what the game's clock shows, in game seconds (about 0.4 s each)
    score: int
    coins: int
    life: int  # lives in reserve; 255 after the last one is lost
    status: str  # small, tall or fireball
    world: int
    stage: int
    dead: bool  # dying, dead or in a pit
    flag_get: bool  # flag grabbed, or axe touched in a castle


def read_state(ram: memoryview) -> GameState:
    """Read everything that episodes report."""
    is_above_screen = ram[Address.Y_VIEWPORT] < 1
    return GameState(
        x_pos=read_x(ram),
        y_pos=(510 if is_above_screen else 255) - ram[Address.Y_PIXEL],
        time=read_time(ram),
        score=_digits(ram, Address.SCORE_DIGITS, 6),
        coins=_digits(ram, Address.COIN_DIGITS, 2),
        life=ram[Address.LIVES],
        status=("small", "tall", "fireball")[min(ram[Address.POWER_UP], 2)],
        world=ram[Address.WORLD] + 1,
        stage=ram[Address.STAGE] + 1,
        dead=is_dead(ram),
        flag_get=is_cleared(ram),
    )


def read_x(ram: memoryview) -> int:
    """Mario's x in pixels from the left edge of the current area."""
    return ram[Address.X_PAGE] << 8 | ram[Address.X_PIXEL]


def read_area(ram: memoryview) -> int:
    """Which area Mario is in: the cartridge address of its layout.

    Pipes, vines and doors lead to areas whose x starts anew. The area number and the
    area pointer in RAM change before Mario gets there; this address does not.
    """
    return ram[Address.AREA_DATA + 1] << 8 | ram[Address.AREA_DATA]


def read_time(ram: memoryview) -> int:
    """What the game's clock shows."""
    return _digits(ram, Address.TIME_DIGITS, 3)


def is_dead(ram: memoryview) -> bool:
    """Whether Mario is dying, dead or in a pit."""
    dying = ram[Address.PLAYER_STATE] in (PlayerState.DYING, PlayerState.DEAD)
    return dying or is_in_pit(ram)


def is_in_pit(ram: memoryview) -> bool:
    """Whether Mario is below the screen, and not because he fell out of the clouds.

    From there the game leads him back to the level. gym-super-mario-bros takes it for a
    death.
    """
    is_in_level = ram[Address.IN_CLOUDS] == 0 and ram[Address.GAME_TASK] == RUNNING
    return ram[Address.Y_VIEWPORT] > 1 and is_in_level


def is_cleared(ram: memoryview) -> bool:
    """Whether the level is won: flagpole grabbed, or axe touched in a castle.

    Either is the event itself. In the frame in which Mario touches the pole the game
    begins to slide him down, by a routine that nothing else leads to; vines have their
    own. The axe changes the game mode. gym-super-mario-bros looks for the flag on the
    castle instead, in five of the six places where it may be.
    """
    ends = (PlayerState.SLIDING_DOWN_POLE, PlayerState.WALKING_OFF)
    is_at_pole = ram[Address.PLAYER_STATE] in ends
    return is_at_pole or ram[Address.GAME_MODE] == WORLD_CLEARED


def is_cutscene(ram: memoryview) -> bool:
    """Whether the game plays by itself (pipes, doors, the black screens between)."""
    state = ram[Address.PLAYER_STATE]
    is_automatic = state < PlayerState.NORMAL and state != PlayerState.DEAD
    return is_automatic or ram[Address.GAME_MODE] == WORLD_CLEARED


def _digits(ram: memoryview, address: int, count: int) -> int:
    number = 0
    for digit in ram[address : address + count]:
        number = number * 10 + digit
    return number
