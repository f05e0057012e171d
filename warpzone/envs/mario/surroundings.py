"""Features of what is around Mario, read from RAM for many states at once.

They hold for every level: where tiles, enemies and Mario are, how they move, and
nothing about what they mean. They contain nothing that a few frames do not show: no
fractions of pixels, nothing beyond the edges of the screen, not how far the level is.
So an agent that sees frames can learn to act as one that sees these features.
"""

import numpy as np

from warpzone.envs.compiled import compiled
from warpzone.envs.mario.state import ON_GROUND, Address
from warpzone.envs.nes.machine import RAM_SIZE

# Enemies. Mario's entry is the first of most lists of objects, theirs follow.
_SLOTS = 5
# A player float state, and where Mario looks.
_JUMPING, _FACING_RIGHT = 1, 1
# The byte of the buttons A and B is at least this while A is held.
_A_BUTTON = 128
# Tiles of a screen.
_ROWS, _COLUMNS = 13, 16
# Columns of tiles around Mario that the features contain.
_BEHIND, _AHEAD = 2, 12
# Pixels to an enemy that is not there, and at which its near distance is clipped.
_FAR, _NEAR_X, _NEAR_Y = 256, 48, 128

# Scales, in pixels. Speeds are in RAM's units: 1/16 pixel a frame across, 1 pixel down.
_TILE, _HALF_SCREEN, _SCREEN_WIDTH = 16, 128, 256
_ENEMY_X, _ENEMY_Y = 64, 32
_MARIO_X_SPEED, _MARIO_Y_SPEED = 40, 5
_ENEMY_X_SPEED, _ENEMY_Y_SPEED = 16, 8


# Features of Mario, of an enemy, and of all.
_OF_MARIO, _OF_ENEMY = 11, 14
_TILES_AT = _OF_MARIO + _OF_ENEMY * _SLOTS
SURROUNDINGS = _TILES_AT + _ROWS * (_BEHIND + _AHEAD)
"""Features of a state."""


def read_surroundings(ram: np.ndarray) -> np.ndarray:
    """Return the features of states, numbers of about one.

    Args:
        ram: Shape ``(N, 2048)``, uint8.

    Returns:
        Shape ``(N, SURROUNDINGS)``, float32: Mario, then enemies from the left to the
        right, then which tiles are not empty.

    Raises:
        ValueError: If it has another shape.
    """
    if ram.shape[1:] != (RAM_SIZE,):
        raise ValueError(f"RAM must have the shape (N, 2048), got {ram.shape}")
    features = np.zeros((len(ram), SURROUNDINGS), np.float32)
    # SB3 may have made floats of them.
    _describe(ram.astype(np.uint8, copy=False), features)
    return features


@compiled
def _describe(ram, features):
    for index in range(len(ram)):
        cells, out = ram[index], features[index]
        screen_x = int(cells[Address.SCREEN_X])
        x, y = _x(cells, 0), _y(cells, 0)
        out[0] = x % _TILE / _TILE
        out[1] = screen_x / _HALF_SCREEN
        out[2] = y / _HALF_SCREEN
        out[3] = y % _TILE / _TILE
        out[4] = _signed(cells[Address.X_SPEED]) / _MARIO_X_SPEED
        out[5] = _signed(cells[Address.Y_SPEED]) / _MARIO_Y_SPEED
        out[6] = cells[Address.FLOAT_STATE] == ON_GROUND
        out[7] = cells[Address.FLOAT_STATE] == _JUMPING
        out[8] = cells[Address.FACING] == _FACING_RIGHT
        out[9] = cells[Address.BUTTONS_A_B] >= _A_BUTTON
        out[10] = cells[Address.BUTTONS_A_B_BEFORE] >= _A_BUTTON
        _describe_enemies(cells, x, y, screen_x, out)
        _describe_tiles(cells, x, screen_x, out)


@compiled
def _describe_enemies(cells, x, y, screen_x, out):
    distances = np.empty(_SLOTS, np.int64)
    for slot in range(_SLOTS):
        ahead = _x(cells, slot + 1) - x
        is_there = cells[Address.ENEMY_PRESENT + slot] != 0
        is_there &= _is_on_screen(ahead + screen_x)
        distances[slot] = ahead if is_there else _FAR
    for slot in range(_SLOTS):
        # A feature of all enemies follows the one before.
        place = _OF_MARIO
        for other in range(_SLOTS):
            is_before = distances[other] < distances[slot]
            is_before |= distances[other] == distances[slot] and other < slot
            place += is_before
        ahead = distances[slot]
        out[place + _SLOTS] = ahead / _ENEMY_X
        if ahead == _FAR:
            continue
        below = _y(cells, slot + 1) - y
        out[place] = 1
        out[place + 2 * _SLOTS] = min(max(ahead, -_NEAR_X), _NEAR_X) / _TILE
        out[place + 3 * _SLOTS] = min(max(below, -_NEAR_Y), _NEAR_Y) / _ENEMY_Y
        x_speed = _signed(cells[Address.X_SPEED + slot + 1])
        y_speed = _signed(cells[Address.Y_SPEED + slot + 1])
        out[place + 4 * _SLOTS] = x_speed / _ENEMY_X_SPEED
        out[place + 5 * _SLOTS] = y_speed / _ENEMY_Y_SPEED
        kind = cells[Address.ENEMY_TYPE + slot]
        for bit in range(8):
            out[place + (6 + bit) * _SLOTS] = kind >> bit & 1


@compiled
def _describe_tiles(cells, x, screen_x, out):
    width = _BEHIND + _AHEAD
    for column in range(width):
        at = x // _TILE + column - _BEHIND
        if _is_on_screen(at * _TILE - (x - screen_x)):
            # RAM has two screens, which follow each other by turns.
            screen, inside = divmod(at % (2 * _COLUMNS), _COLUMNS)
            first = Address.TILES + screen * _ROWS * _COLUMNS + inside
            for row in range(_ROWS):
                tile = cells[first + row * _COLUMNS]
                out[_TILES_AT + row * width + column] = tile != 0


@compiled
def _x(cells, thing):
    return int(cells[Address.X_PAGE + thing]) * 256 + cells[Address.X_PIXEL + thing]


@compiled
def _y(cells, thing):
    # The screen is the second page; what is above it is in the first.
    page = int(cells[Address.Y_VIEWPORT + thing]) - 1
    return page * 256 + cells[Address.Y_PIXEL_IN_PAGE + thing]


@compiled
def _signed(value):
    return (int(value) + 128) % 256 - 128


@compiled
def _is_on_screen(left):
    """Return whether a tile or an enemy is on the screen, by its left edge there."""
    return left > -_TILE and left < _SCREEN_WIDTH
