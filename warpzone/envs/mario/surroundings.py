"""Features of what is around Mario, read from RAM for many states at once.

They hold for every level: where tiles, enemies and Mario are, how they move, and
nothing about what they mean. They contain nothing that a few frames do not show: no
fractions of pixels, nothing beyond the edges of the screen, not how far the level is.
So an agent that sees frames can learn to act as one that sees these features.
"""

import numpy as np

from warpzone.envs.mario.state import ON_GROUND, Address
from warpzone.envs.nes.machine import RAM_SIZE

# Enemies. Mario's entry is the first of each list of objects, theirs follow.
_SLOTS = 5
# A player float state, and where Mario looks.
_JUMPING, _FACING_RIGHT = 1, 1
# The byte of the buttons A and B is at least this while A is held.
_A_BUTTON = 128
# Tiles of a screen. RAM has two screens, which follow each other by turns.
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


def read_surroundings(ram: np.ndarray) -> np.ndarray:
    """Return the features of states, numbers of about one.

    Args:
        ram: Shape ``(N, 2048)``, uint8.

    Returns:
        Shape ``(N, SURROUNDINGS)``, float32: Mario, then enemies from the left to the
        right, then which tiles are not empty.
    """
    cells = ram.astype(np.int32)
    x = _objects(cells, Address.X_PAGE) * 256 + _objects(cells, Address.X_PIXEL)
    # The screen is the second page; what is above it is in the first.
    y_page = _objects(cells, Address.Y_VIEWPORT) - 1
    y = y_page * 256 + _objects(cells, Address.Y_PIXEL_IN_PAGE)
    x_speed = _signed(_objects(cells, Address.X_SPEED))
    y_speed = _signed(_objects(cells, Address.Y_SPEED))
    screen_x = cells[:, Address.SCREEN_X]
    mario = (
        x[:, 0] % _TILE / _TILE,
        screen_x / _HALF_SCREEN,
        y[:, 0] / _HALF_SCREEN,
        y[:, 0] % _TILE / _TILE,
        x_speed[:, 0] / _MARIO_X_SPEED,
        y_speed[:, 0] / _MARIO_Y_SPEED,
        cells[:, Address.FLOAT_STATE] == ON_GROUND,
        cells[:, Address.FLOAT_STATE] == _JUMPING,
        cells[:, Address.FACING] == _FACING_RIGHT,
        cells[:, Address.BUTTONS_A_B] >= _A_BUTTON,
        cells[:, Address.BUTTONS_A_B_BEFORE] >= _A_BUTTON,
    )
    ahead = x[:, 1:] - x[:, :1]
    below = y[:, 1:] - y[:, :1]
    is_there = cells[:, Address.ENEMY_PRESENT : Address.ENEMY_PRESENT + _SLOTS] != 0
    is_there &= _is_on_screen(ahead + screen_x[:, None])
    kind = cells[:, Address.ENEMY_TYPE : Address.ENEMY_TYPE + _SLOTS]
    distance = np.where(is_there, ahead, _FAR)
    enemies = (
        is_there,
        distance / _ENEMY_X,
        np.where(is_there, ahead.clip(-_NEAR_X, _NEAR_X), 0) / _TILE,
        np.where(is_there, below.clip(-_NEAR_Y, _NEAR_Y), 0) / _ENEMY_Y,
        np.where(is_there, x_speed[:, 1:], 0) / _ENEMY_X_SPEED,
        np.where(is_there, y_speed[:, 1:], 0) / _ENEMY_Y_SPEED,
        *(is_there & (kind >> bit & 1 == 1) for bit in range(8)),
    )
    order = distance.argsort(axis=1, kind="stable")
    in_order = [np.take_along_axis(feature, order, axis=1) for feature in enemies]
    tiles = _tiles(cells, x[:, 0], screen_x)
    features = [*(feature[:, None] for feature in mario), *in_order, tiles]
    return np.concatenate(features, axis=1, dtype=np.float32, casting="unsafe")


def _objects(cells: np.ndarray, address: Address) -> np.ndarray:
    """Return a number of Mario and of each enemy, shape ``(N, 1 + _SLOTS)``."""
    return cells[:, address : address + 1 + _SLOTS]


def _signed(values: np.ndarray) -> np.ndarray:
    return (values + 128) % 256 - 128


def _is_on_screen(left: np.ndarray) -> np.ndarray:
    """Return whether tiles and enemies are on the screen, by their left edges on it."""
    return (left > -_TILE) & (left < _SCREEN_WIDTH)


def _tiles(cells: np.ndarray, x: np.ndarray, screen_x: np.ndarray) -> np.ndarray:
    """Return which tiles around Mario are not empty and on the screen, by rows."""
    size = _ROWS * _COLUMNS
    screens = [
        cells[:, start : start + size].reshape(-1, _ROWS, _COLUMNS)
        for start in (Address.TILES, Address.TILES + size)
    ]
    tiles = np.concatenate(screens, axis=2)
    columns = (x // _TILE)[:, None] + np.arange(-_BEHIND, _AHEAD)
    near = np.take_along_axis(tiles, (columns % (2 * _COLUMNS))[:, None], axis=2)
    is_seen = _is_on_screen(columns * _TILE - (x - screen_x)[:, None])
    return ((near != 0) & is_seen[:, None]).reshape(len(cells), -1)


SURROUNDINGS = read_surroundings(np.zeros((1, RAM_SIZE), np.uint8)).shape[1]
"""Features of a state."""
