"""What an agent sees: the last few screens, grey and small."""

import numpy as np

from warpzone.envs.compiled import compiled, copy
from warpzone.envs.nes.buttons import LEFT, RIGHT, A, B
from warpzone.envs.nes.machine import SCREEN_SHAPE

HUD_ROWS = 32
"""Rows of the screen that show score, coins, world and time."""

# Height and width of a square that is lit while its button is held, in pixels.
_SQUARE = 8
_SHOWN = np.array([A, B, LEFT, RIGHT], np.uint8)

# Weights of pixels in bilinear resizing are fractions of this.
_ONE = 2048

PICTURE = np.dtype(
    [
        ("top", np.int64),  # the first row of the screen that is seen
        ("halvings", np.int64),
        ("shows_buttons", np.bool_),
    ]
)


class FrameStack:
    """How the last frames of a console are drawn, by `draw`.

    A screen is halved by averaging as long as that leaves it larger than a frame, and
    then resized bilinearly: the averaging keeps thin things from vanishing, at a tenth
    of the cost of averaging over fractions of pixels. Both are OpenCV's to the bit,
    INTER_AREA and INTER_LINEAR.

    Args:
        height: Of a frame, in pixels, 36 to 240.
        width: Of a frame, in pixels, 36 to 256.
        depth: Frames in the stack, 1 to 16.
        crop_hud: Leave out the top `HUD_ROWS` of the screen.
        show_buttons: Light squares in the upper left corner while A, B, left and right
            are held: what the screen does not show, and what decides whether pressing A
            makes Mario jump.

    Raises:
        ValueError: If a number is out of its range.

    Attributes:
        shape: Of the stack, ``(depth, height, width)``.
        picture: Shape ``(1,)``, `PICTURE`.
        rows: Which rows of the halved screen a frame's rows are made of, and how much
            of each, shape ``(4, height)``, int32. ``columns`` likewise.
    """

    def __init__(
        self, height: int, width: int, depth: int, crop_hud: bool, show_buttons: bool
    ) -> None:
        for name, value, least, most in (
            ("height", height, 36, 240),
            ("width", width, 36, 256),
            ("frame_stack", depth, 1, 16),
        ):
            if type(value) is not int or not least <= value <= most:
                raise ValueError(
                    f"{name} must be a whole number, {least} to {most}, got {value!r}"
                )
        for name, value in (("crop_hud", crop_hud), ("show_buttons", show_buttons)):
            if type(value) is not bool:
                raise ValueError(f"{name} must be true or false, got {value!r}")
        self.shape = (depth, height, width)
        top = HUD_ROWS if crop_hud else 0
        rows, columns = SCREEN_SHAPE[0] - top, SCREEN_SHAPE[1]
        halvings = 0
        while rows // 2 >= height and columns // 2 >= width:
            rows, columns, halvings = rows // 2, columns // 2, halvings + 1
        self.picture = np.array([(top, halvings, show_buttons)], PICTURE)
        self.rows = _taps(rows, height, clips_weights=False)
        self.columns = _taps(columns, width, clips_weights=True)


def _taps(size: int, wanted: int, clips_weights: bool) -> np.ndarray:
    """Return which two pixels of a line make each of another, and their weights.

    As OpenCV does it, which treats rows and columns differently at the edges.

    Args:
        size: Pixels of the line that there is.
        wanted: Pixels of the line that is made.
        clips_weights: Whether a pixel beyond an edge weighs nothing.
    """
    place = ((np.arange(wanted) + 0.5) * (size / wanted) - 0.5).astype(np.float32)
    left = np.floor(place).astype(np.int64)
    share = place - left.astype(np.float32)
    if clips_weights:
        share = np.where((left < 0) | (left >= size - 1), np.float32(0), share)
    weights = np.stack([np.float32(1) - share, share]) * np.float32(_ONE)
    pixels = np.stack([left, left + 1]).clip(0, size - 1)
    return np.concatenate([pixels, np.rint(weights)]).astype(np.int32)


@compiled
def draw(screen, greys, picture, rows, columns, held, frame):
    """Draw a screen as a frame.

    Args:
        screen: Shape ``(240, 256)``, uint8.
        greys: The luma of each byte of it.
        picture: Of a `FrameStack`; ``rows`` and ``columns`` too.
        rows: See there.
        columns: See there.
        held: The buttons that are held.
        frame: Shape ``(height, width)``, uint8; what is drawn is written there.
    """
    seen = screen[picture[0].top :]
    height, width = seen.shape
    if picture[0].halvings == 0:
        image = np.empty((height, width), np.uint8)
        for y in range(height):
            for x in range(width):
                image[y, x] = greys[seen[y, x]]
    else:
        image = np.empty((height // 2, width // 2), np.uint8)
        for y in range(height // 2):
            upper, lower = seen[2 * y], seen[2 * y + 1]
            for x in range(width // 2):
                total = np.uint32(greys[upper[2 * x]]) + greys[upper[2 * x + 1]]
                total += np.uint32(greys[lower[2 * x]]) + greys[lower[2 * x + 1]]
                image[y, x] = (total + 2) >> 2
    for _ in range(1, picture[0].halvings):
        image = _halve(image)
    if image.shape == frame.shape:
        for y in range(len(image)):
            copy(image[y], frame[y])
    else:
        _resize(image, rows, columns, frame)
    if picture[0].shows_buttons:
        for index in range(len(_SHOWN)):
            left = index * _SQUARE
            light = 255 if held & _SHOWN[index] else 0
            for y in range(_SQUARE):
                for x in range(left, left + _SQUARE):
                    frame[y, x] = light


@compiled
def _halve(image):
    half = np.empty((image.shape[0] // 2, image.shape[1] // 2), np.uint8)
    for y in range(half.shape[0]):
        upper, lower = image[2 * y], image[2 * y + 1]
        for x in range(half.shape[1]):
            total = np.uint32(upper[2 * x]) + upper[2 * x + 1]
            total += np.uint32(lower[2 * x]) + lower[2 * x + 1]
            half[y, x] = (total + 2) >> 2
    return half


@compiled
def _resize(image, rows, columns, frame):
    across = np.empty((image.shape[0], frame.shape[1]), np.int32)
    for y in range(image.shape[0]):
        for x in range(frame.shape[1]):
            left, right = image[y, columns[0, x]], image[y, columns[1, x]]
            across[y, x] = (left * columns[2, x] + right * columns[3, x]) >> 4
    for y in range(frame.shape[0]):
        above, below = across[rows[0, y]], across[rows[1, y]]
        near, far = rows[2, y], rows[3, y]
        for x in range(frame.shape[1]):
            upper = np.int32(near * above[x]) >> 16
            lower = np.int32(far * below[x]) >> 16
            frame[y, x] = (upper + lower + 2) >> 2
