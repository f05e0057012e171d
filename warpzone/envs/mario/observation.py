"""What an agent sees: the last few screens, grey and small."""

import cv2
import numpy as np

from warpzone.envs.nes.buttons import LEFT, RIGHT, A, B
from warpzone.envs.nes.console import SCREEN_SHAPE
from warpzone.envs.nes.consoles import Console

HUD_ROWS = 32
"""Rows of the screen that show score, coins, world and time."""

# Height and width of a square that is lit while its button is held, in pixels.
_SQUARE = 8

# One thread a frame: the environments are what runs in parallel.
cv2.setNumThreads(0)


class FrameStack:
    """Draws the last frames of a console.

    A screen is halved by averaging as long as that leaves it larger than a frame, and
    then resized bilinearly: the averaging keeps thin things from vanishing, at a tenth
    of the cost of averaging over fractions of pixels.

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
        self._show_buttons = show_buttons
        self._screen = np.empty(SCREEN_SHAPE, np.uint8)
        self._visible = self._screen[HUD_ROWS if crop_hud else 0 :]
        rows, columns = self._visible.shape
        self._halvings: list[np.ndarray] = []
        while rows // 2 >= height and columns // 2 >= width:
            rows, columns = rows // 2, columns // 2
            self._halvings.append(np.empty((rows, columns), np.uint8))

    def draw(
        self, before: np.ndarray | None, console: Console, held: int
    ) -> np.ndarray:
        """Return a new stack, shape ``(depth, height, width)``, uint8, oldest first.

        Args:
            before: The last stack, whose oldest frame is left out. Without one, every
                frame shows the screen.
            console: Whose screen is the newest frame.
            held: The buttons that are held.
        """
        _, height, width = self.shape
        stack = np.empty(self.shape, np.uint8)
        frame = stack[-1]
        console.read_grey(self._screen)
        image = self._visible
        for half in self._halvings:
            rows, columns = half.shape
            even = image[: 2 * rows, : 2 * columns]
            image = cv2.resize(even, (columns, rows), half, 0, 0, cv2.INTER_AREA)
        cv2.resize(image, (width, height), frame, 0, 0, cv2.INTER_LINEAR)
        if self._show_buttons:
            for index, button in enumerate((A, B, LEFT, RIGHT)):
                left = index * _SQUARE
                frame[:_SQUARE, left : left + _SQUARE] = 255 if held & button else 0
        stack[:-1] = frame if before is None else before[1:]
        return stack
