"""What an agent sees: the last few screens, grey and small."""

import cv2
import numpy as np

from warpzone.game.emulator import SCREEN_SHAPE, Emulator
from warpzone.params import GameParams

HUD_ROWS = 32
"""Rows of the screen that show score, coins, world and time."""

# One thread a picture: the environments are what runs in parallel.
cv2.setNumThreads(0)


class PictureStack:
    """The last ``frame_stack`` pictures of one console.

    Attributes:
        pictures: Shape ``(frame_stack, height, width)``, uint8, oldest first. It is
            overwritten by the next call.
    """

    def __init__(self, game: GameParams) -> None:
        self.pictures = np.zeros((game.frame_stack, game.height, game.width), np.uint8)
        self._top = HUD_ROWS if game.crop_hud else 0
        self._screen = np.empty(SCREEN_SHAPE, np.uint8)

    def fill(self, emulator: Emulator) -> None:
        """Start anew: every picture shows the current screen."""
        self.pictures[:] = self._picture(emulator)

    def push(self, emulator: Emulator) -> None:
        """Add the current screen and forget the oldest picture."""
        self.pictures[:-1] = self.pictures[1:]
        self.pictures[-1] = self._picture(emulator)

    def _picture(self, emulator: Emulator) -> np.ndarray:
        emulator.read_grey(self._screen)
        height, width = self.pictures.shape[1:]
        return cv2.resize(
            self._screen[self._top :], (width, height), interpolation=cv2.INTER_AREA
        )
