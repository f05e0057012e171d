"""What is around Mario, read from RAM for many moments at once.

The addresses are those of `warpzone.envs.mario.state`. It holds for every level: where
tiles, enemies and Mario are, how they move, and nothing about what they mean. There is
nothing in it that a few frames do not show: no fractions of pixels, nothing beyond the
edges of the screen, not how far the level is. What is done because of it can be learnt
from frames.
"""

import numpy as np

# Mario's entry is the first of each list of objects, enemies follow.
_SLOTS = 5
_X_SPEED, _X_PAGE, _X_PIXEL = 0x57, 0x6D, 0x86
_Y_SPEED, _Y_PAGE, _Y_PIXEL = 0x9F, 0xB5, 0xCE
_ENEMY_PRESENT, _ENEMY_TYPE = 0x0F, 0x16
_FLOAT_STATE, _FACING, _SCREEN_X = 0x1D, 0x33, 0x3AD
_BUTTONS_A_B, _BUTTONS_A_B_BEFORE = 0x0A, 0x0D
_TILES, _ROWS, _COLUMNS = 0x500, 13, 16
"""Two screens' worth of tiles, which follow each other along the level by turns."""
_TILE = 16
"""Pixels."""

_BEHIND, _AHEAD = 2, 12
"""Columns of tiles that are looked at."""
_WIDTH = 256
"""Of the screen, in pixels."""
_FAR = 256
"""Pixels to an enemy that is not there."""

SURROUNDINGS = 11 + _SLOTS * 14 + _ROWS * (_BEHIND + _AHEAD)
"""Numbers that describe a moment."""


def read_surroundings(ram: np.ndarray) -> np.ndarray:
    """Describe moments by numbers of about one.

    Args:
        ram: Shape ``(N, 2048)``, uint8.

    Returns:
        Shape ``(N, SURROUNDINGS)``, float32: Mario, then enemies from the left to the
        right, then which tiles are not empty.
    """
    cells = ram.astype(np.int32)
    x = _objects(cells, _X_PAGE) * 256 + _objects(cells, _X_PIXEL)
    # The screen is the second page; what is above it is in the first.
    y = (_objects(cells, _Y_PAGE) - 1) * 256 + _objects(cells, _Y_PIXEL)
    x_speed = _signed(_objects(cells, _X_SPEED))
    y_speed = _signed(_objects(cells, _Y_SPEED))
    mario = (
        x[:, 0] % 16 / 16,
        cells[:, _SCREEN_X] / 128,
        y[:, 0] / 128,
        y[:, 0] % 16 / 16,
        x_speed[:, 0] / 40,
        y_speed[:, 0] / 5,
        *(cells[:, _FLOAT_STATE] == state for state in (0, 1)),
        cells[:, _FACING] == 1,
        cells[:, _BUTTONS_A_B] >= 128,
        cells[:, _BUTTONS_A_B_BEFORE] >= 128,
    )
    ahead = x[:, 1:] - x[:, :1]
    below = y[:, 1:] - y[:, :1]
    on_screen = ahead + cells[:, _SCREEN_X, None]
    is_there = cells[:, _ENEMY_PRESENT : _ENEMY_PRESENT + _SLOTS] != 0
    is_there &= (on_screen > -_TILE) & (on_screen < _WIDTH)
    kind = cells[:, _ENEMY_TYPE : _ENEMY_TYPE + _SLOTS]
    enemies = (
        is_there,
        np.where(is_there, ahead, _FAR) / 64,
        np.where(is_there, ahead.clip(-48, 48), 0) / 16,
        np.where(is_there, below.clip(-128, 128), 0) / 32,
        np.where(is_there, x_speed[:, 1:], 0) / 16,
        np.where(is_there, y_speed[:, 1:], 0) / 8,
        *(is_there & (kind >> bit & 1 == 1) for bit in range(8)),
    )
    order = np.where(is_there, ahead, _FAR).argsort(axis=1, kind="stable")
    in_order = [np.take_along_axis(figure, order, axis=1) for figure in enemies]
    return np.concatenate(
        [*(figure[:, None] for figure in mario), *in_order, _tiles(cells, x[:, 0])],
        axis=1,
        dtype=np.float32,
        casting="unsafe",
    )


def _objects(cells: np.ndarray, address: int) -> np.ndarray:
    """Return a figure of Mario and of each enemy, shape ``(N, 1 + _SLOTS)``."""
    return cells[:, address : address + 1 + _SLOTS]


def _signed(values: np.ndarray) -> np.ndarray:
    return (values + 128) % 256 - 128


def _tiles(cells: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return which tiles around Mario are not empty and on the screen, by rows."""
    size = _ROWS * _COLUMNS
    screens = [
        cells[:, start : start + size].reshape(-1, _ROWS, _COLUMNS)
        for start in (_TILES, _TILES + size)
    ]
    tiles = np.concatenate(screens, axis=2)
    columns = (x // _TILE)[:, None] + np.arange(-_BEHIND, _AHEAD)
    near = np.take_along_axis(tiles, (columns % (2 * _COLUMNS))[:, None], axis=2)
    on_screen = columns * _TILE - (x - cells[:, _SCREEN_X])[:, None]
    is_seen = (on_screen > -_TILE) & (on_screen < _WIDTH)
    return ((near != 0) & is_seen[:, None]).reshape(len(cells), -1)
