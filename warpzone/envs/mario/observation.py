"""What an agent sees: the last few screens, grey and small."""

import cv2
import numpy as np

from warpzone.envs.nes.buttons import LEFT, RIGHT, A, B
from warpzone.envs.nes.console import SCREEN_SHAPE, Console

HUD_ROWS = 32
"""Rows of the screen that show score, coins, world and time."""

_OVERLAY = (A, B, LEFT, RIGHT)
_SQUARE = 8
"""Height and width of a square that is lit while its button is held, in pixels."""

# One thread a frame: the environments are what runs in parallel.
cv2.setNumThreads(0)

# Frames that fit before the last ones are moved to the front.
_ROLL = 64


class FrameStack:
    """The last frames of one console.

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
        self._depth = depth
        self._show_buttons = show_buttons
        # The stack is a view, which moves on by one frame a push.
        self._roll = np.empty((_ROLL, height, width), np.uint8)
        self._end = 0
        self._screen = np.empty(SCREEN_SHAPE, np.uint8)
        self._visible = self._screen[HUD_ROWS if crop_hud else 0 :]
        rows, columns = self._visible.shape
        self._halvings: list[np.ndarray] = []
        while rows // 2 >= height and columns // 2 >= width:
            rows, columns = rows // 2, columns // 2
            self._halvings.append(np.empty((rows, columns), np.uint8))

    @property
    def observation(self) -> np.ndarray:
        """Shape ``(frame_stack, height, width)``, uint8, oldest first.

        A view, good until the next call.
        """
        return self._roll[self._end - self._depth : self._end]

    def fill(self, console: Console, held: int) -> None:
        """Start anew: every frame shows the current screen and held buttons."""
        self._make_room(self._depth)
        new = self._roll[self._end : self._end + self._depth]
        self._draw(console, held, new[0])
        new[1:] = new[0]
        self._end += self._depth

    def push(self, console: Console, held: int) -> None:
        """Add the current screen and held buttons; forget the oldest frame."""
        self._make_room(1)
        self._draw(console, held, self._roll[self._end])
        self._end += 1

    def restore(self, observation: np.ndarray) -> None:
        """Go back to what `observation` was."""
        self._make_room(self._depth)
        self._end += self._depth
        self.observation[:] = observation

    def _make_room(self, frames: int) -> None:
        if self._end + frames > _ROLL:
            kept = self._depth - 1
            self._roll[:kept] = self._roll[self._end - kept : self._end]
            self._end = kept

    def _draw(self, console: Console, held: int, frame: np.ndarray) -> None:
        console.read_grey(self._screen)
        image = self._visible
        for half in self._halvings:
            rows, columns = half.shape
            even = image[: 2 * rows, : 2 * columns]
            image = cv2.resize(even, (columns, rows), half, 0, 0, cv2.INTER_AREA)
        height, width = frame.shape
        cv2.resize(image, (width, height), frame, 0, 0, cv2.INTER_LINEAR)
        if self._show_buttons:
            for index, button in enumerate(_OVERLAY):
                left = index * _SQUARE
                frame[:_SQUARE, left : left + _SQUARE] = 255 if held & button else 0
