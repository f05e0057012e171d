"""Pictures of films: a screen with a caption, several side by side, a ghost.

Letters are those of Pillow's bitmap font, so equal pictures have equal bytes on every
machine. A picture has the shape ``(height, width, 3)``, uint8, RGB.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CAPTION_HEIGHT = 36
"""In pixels, below a screen that is less than 512 wide; see `add_captions`."""
GHOST = (24, 40)
"""Width and height of what is shown of a ghost, in pixels."""

_GAP = 8
_FEET = 12
"""Rows of a ghost below the middle of the player."""
_DIMMED, _GHOSTLY = 0.6, 0.55
_PAPER, _INK, _PALE = (16, 16, 24), (255, 255, 255), (150, 150, 165)
_PRESSED, _LOOSE = (235, 60, 50), (60, 60, 72)
_SUCCESS, _FAILURE = (110, 230, 120), (255, 120, 100)
_LETTER_WIDTH, _LETTER_HEIGHT = 6, 11
_CELL = 8
"""Width of a direction's key."""
_PLACES = {"left": (0, 1), "up": (1, 0), "down": (1, 2), "right": (2, 1)}
"""Column and row of a direction in a joypad's cross."""

_FONT = ImageFont.load_default_imagefont()


class Caption(NamedTuple):
    """What is written below a screen."""

    name: str
    seconds: float
    place: str
    keys: Sequence[str]
    """Keys of the controller, by name."""
    held: str
    """Names of those that are held, with ``+`` between them."""
    ended: str | None
    """How the episode ended; None as long as it lasts."""
    is_success: bool


def add_captions(screen: np.ndarray, *captions: Caption) -> np.ndarray:
    """Return a screen with captions below it, whose letters grow with its width."""
    width = screen.shape[1]
    zoom = max(1, width // 256)
    below = [
        np.asarray(_draw(-(-width // zoom), caption))
        .repeat(zoom, axis=0)
        .repeat(zoom, axis=1)[:, :width]
        for caption in captions
    ]
    picture = np.concatenate([screen, *below])
    # Video has even sizes only.
    return np.pad(picture, ((0, len(picture) % 2), (0, width % 2), (0, 0)))


def dim(screen: np.ndarray) -> np.ndarray:
    """Return a darker picture."""
    return (screen * _DIMMED).astype(np.uint8)


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return pictures, all as high, next to each other, with gaps."""
    gap = np.full((len(pictures[0]), _GAP, 3), _PAPER, np.uint8)
    parts = [part for picture in pictures for part in (gap, picture)]
    return np.concatenate(parts[1:], axis=1)


def add_ghost(
    screen: np.ndarray, other: np.ndarray, to: tuple[int, int], at: tuple[int, int]
) -> None:
    """Draw the player of another screen into one, half transparent.

    Args:
        screen: Is drawn into.
        other: The other player's.
        to: Where the middle of the ghost is to be: x and y. What is off the screen is
            left out.
        at: Where it is on the other screen.
    """
    width, height = GHOST
    rows, columns = np.mgrid[_FEET - height : _FEET, -(width // 2) : width // 2]
    here, there = (
        (rows + y, columns + x, _is_within(picture, columns + x, rows + y))
        for picture, (x, y) in ((screen, to), (other, at))
    )
    is_seen = here[2] & there[2]
    ours = here[0][is_seen], here[1][is_seen]
    theirs = other[there[0][is_seen], there[1][is_seen]]
    blended = (1 - _GHOSTLY) * screen[ours] + _GHOSTLY * theirs
    screen[ours] = blended.astype(np.uint8)


def add_arrow(screen: np.ndarray, y: int, pixels: int) -> None:
    """Draw an arrow at a screen's edge towards who is so many pixels away.

    To the right, or to the left where ``pixels`` is negative.
    """
    height, width, _ = screen.shape
    text = f"{abs(pixels)} px"
    box = len(text) * _LETTER_WIDTH + 16
    image = Image.new("RGB", (box, _LETTER_HEIGHT + 4), _PAPER)
    draw = ImageDraw.Draw(image)
    middle, is_right = image.height // 2, pixels > 0
    tip, base = (box - 3, box - 9) if is_right else (2, 8)
    draw.polygon([(tip, middle), (base, 2), (base, image.height - 3)], _INK)
    draw.text((4 if is_right else 12, 2), text, _INK, _FONT)
    top = min(max(y - middle, 0), height - image.height)
    left = width - box if is_right else 0
    screen[top : top + image.height, left : left + box] = np.asarray(image)


def _is_within(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def _draw(width: int, caption: Caption) -> Image.Image:
    image = Image.new("RGB", (width, CAPTION_HEIGHT), _PAPER)
    draw = ImageDraw.Draw(image)
    room = width - 4 - _draw_controller(draw, width, caption)
    ended = caption.ended or ""
    letters = room // _LETTER_WIDTH - len(ended) - 1
    # The font has no others.
    name = caption.name.encode("ascii", "replace").decode()
    draw.text((4, 5), name[:letters], _INK, _FONT)
    colour = _SUCCESS if caption.is_success else _FAILURE
    draw.text((room - len(ended) * _LETTER_WIDTH, 5), ended, colour, _FONT)
    draw.text((4, 20), f"{caption.seconds:.1f} s", _PALE, _FONT)
    place = caption.place.rjust((room - 4) // _LETTER_WIDTH - 9)
    draw.text((4 + 9 * _LETTER_WIDTH, 20), place, _PALE, _FONT)
    return image


def _draw_controller(draw: ImageDraw.ImageDraw, width: int, caption: Caption) -> int:
    """Draw the keys at the right, those that are held bright; return their width.

    Directions make a cross. Where there are no keys, what is held is written.
    """
    held = caption.held.split("+")
    if not caption.keys:
        taken = len(caption.held) * _LETTER_WIDTH + 8
        draw.text((width - taken + 4, 12), caption.held, _INK, _FONT)
        return max(taken, width // 4)
    others = [key for key in caption.keys if key not in _PLACES]
    sizes = [max(15, len(key) * _LETTER_WIDTH + 9) for key in others]
    has_cross = len(others) < len(caption.keys)
    cross = 3 * _CELL + 4 if has_cross else 0
    taken = cross + sum(sizes) + 3 * len(sizes) + 8
    left, top = width - taken + 4, (CAPTION_HEIGHT - 3 * _CELL) // 2
    if has_cross:
        x, y = left + _CELL, top + _CELL
        draw.rectangle((x, y, x + _CELL - 1, y + _CELL - 1), _LOOSE)
    for key in caption.keys:
        colour = _PRESSED if key in held else _LOOSE
        if key in _PLACES:
            column, row = _PLACES[key]
            x, y = left + column * _CELL, top + row * _CELL
            draw.rectangle((x, y, x + _CELL - 1, y + _CELL - 1), colour)
    x = left + cross
    for key, size in zip(others, sizes, strict=True):
        colour = _PRESSED if key in held else _LOOSE
        draw.rounded_rectangle((x, 11, x + size - 1, 25), 7, colour)
        letters = len(key) * _LETTER_WIDTH
        draw.text((x + (size - letters + 1) // 2, 13), key, _INK, _FONT)
        x += size + 3
    return taken
