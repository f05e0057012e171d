"""What an agent sees: the last few screens, grey and small; or the memory."""

from typing import Literal, get_args

import cv2
import numpy as np

from warpzone.core.params import GameParams
from warpzone.envs.nes.buttons import LEFT, RIGHT, A, B
from warpzone.envs.nes.console import RAM_SIZE, SCREEN_SHAPE, Console

ObsType = Literal["pictures", "ram"]
"""What observations are: what players see, or all that the console knows."""

HUD_ROWS = 32
"""Rows of the screen that show score, coins, world and time."""

_LAMPS = (A, B, LEFT, RIGHT)
_LAMP = 8
"""Height and width of a square that is lit while its button is held, in pixels."""

# One thread a picture: the environments are what runs in parallel.
cv2.setNumThreads(0)

# Pictures that fit before the last ones are moved to the front.
_ROLL = 64


# From the oldest picture of a stack to the newest, where the screen scrolls, more than
# an eighth of the pixels change; where it does not, at most a fortieth.
_CHANGE = 16
_MOVING_SHARE = 0.05


def stands_still(observations: np.ndarray) -> np.ndarray:
    """Say where the screen does not scroll. Of a single picture nobody can tell.

    Args:
        observations: Stacks of pictures, shape ``(N, frame_stack, height, width)``,
            uint8.

    Returns:
        Shape ``(N,)``, bool.
    """
    if observations.shape[1] == 1:
        return np.zeros(len(observations), bool)
    oldest, newest = observations[:, 0].astype(np.int16), observations[:, -1]
    changed = np.abs(newest - oldest) > _CHANGE
    return changed.mean(axis=(1, 2)) < _MOVING_SHARE


class PictureStack:
    """The last ``frame_stack`` pictures of one console.

    A screen is halved by averaging as long as that leaves it larger than the picture,
    and then resized bilinearly: the averaging keeps thin things from vanishing, at a
    tenth of the cost of averaging over fractions of pixels.

    With ``game.show_buttons``, squares in the upper left corner are lit while A, B,
    left and right are held: what the screen does not show, and what decides whether
    pressing A makes Mario jump.
    """

    def __init__(self, game: GameParams) -> None:
        self.shape = (game.frame_stack, game.height, game.width)
        self._depth = game.frame_stack
        self._show_buttons = game.show_buttons
        # The stack is a view, which moves on by one picture a push.
        self._roll = np.empty((_ROLL, game.height, game.width), np.uint8)
        self._end = 0
        self._screen = np.empty(SCREEN_SHAPE, np.uint8)
        self._visible = self._screen[HUD_ROWS if game.crop_hud else 0 :]
        rows, columns = self._visible.shape
        self._halvings: list[np.ndarray] = []
        while rows // 2 >= game.height and columns // 2 >= game.width:
            rows, columns = rows // 2, columns // 2
            self._halvings.append(np.empty((rows, columns), np.uint8))

    @property
    def observation(self) -> np.ndarray:
        """Shape ``(frame_stack, height, width)``, uint8, oldest first.

        A view, good until the next call.
        """
        return self._roll[self._end - self._depth : self._end]

    def fill(self, emulator: Console, held: int) -> None:
        """Start anew: every picture shows the current screen and held buttons."""
        self._make_room(self._depth)
        new = self._roll[self._end : self._end + self._depth]
        self._draw(emulator, held, new[0])
        new[1:] = new[0]
        self._end += self._depth

    def push(self, emulator: Console, held: int) -> None:
        """Add the current screen and held buttons; forget the oldest picture."""
        self._make_room(1)
        self._draw(emulator, held, self._roll[self._end])
        self._end += 1

    def restore(self, observation: np.ndarray) -> None:
        """Go back to what `observation` was."""
        self._make_room(self._depth)
        self._end += self._depth
        self.observation[:] = observation

    def _make_room(self, pictures: int) -> None:
        if self._end + pictures > _ROLL:
            kept = self._depth - 1
            self._roll[:kept] = self._roll[self._end - kept : self._end]
            self._end = kept

    def _draw(self, emulator: Console, held: int, picture: np.ndarray) -> None:
        emulator.read_grey(self._screen)
        image = self._visible
        for half in self._halvings:
            rows, columns = half.shape
            even = image[: 2 * rows, : 2 * columns]
            image = cv2.resize(even, (columns, rows), half, 0, 0, cv2.INTER_AREA)
        height, width = picture.shape
        cv2.resize(image, (width, height), picture, 0, 0, cv2.INTER_LINEAR)
        if self._show_buttons:
            for index, button in enumerate(_LAMPS):
                left = index * _LAMP
                picture[:_LAMP, left : left + _LAMP] = 255 if held & button else 0


class Memory:
    """The console's memory as it is, in place of pictures."""

    shape = (RAM_SIZE,)

    def __init__(self) -> None:
        self._ram = np.empty(self.shape, np.uint8)

    @property
    def observation(self) -> np.ndarray:
        """Shape ``(2048,)``, uint8. A view, good until the next call."""
        return self._ram

    def push(self, emulator: Console, held: int) -> None:
        """Take note of what the memory holds now, ``held`` too."""
        self._ram[:] = emulator.ram

    fill = push

    def restore(self, observation: np.ndarray) -> None:
        """Go back to what `observation` was."""
        self._ram[:] = observation


def make_view(game: GameParams, obs_type: ObsType) -> PictureStack | Memory:
    """Return what turns a console's state into observations.

    Raises:
        ValueError: If there is no such type of observations.
    """
    if obs_type not in get_args(ObsType):
        raise ValueError(f"obs_type must be pictures or ram, got {obs_type!r}")
    return PictureStack(game) if obs_type == "pictures" else Memory()
