"""One NES behind a small seam: which emulator it is and which game it plays is outside.

What a console must know of a game is handed in: the cartridge image.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from nes_py import NESEnv

from warpzone.envs.nes.machine import PIXELS, SCREEN_SHAPE, core_of, run_frames

_Callback = ctypes.CFUNCTYPE(None)


class NesPyConsole:
    """nes-py, which releases the GIL while it emulates a frame.

    Its methods are those of every console. They act on the current frame.

    Attributes:
        ram: Shape ``(2048,)``, uint8, live and writable.
        kept: What may be kept of snapshots, by any name. Consoles share it if they can
            restore each other's for as long as the process lives.
    """

    greys = np.arange(256, dtype=np.uint8)
    """Luma of each byte of the screen that compiled code sees, shape ``(256,)``."""

    def __init__(self, rom: Path) -> None:
        self._env = env = NESEnv(str(rom))
        self.ram = env.ram
        self.kept: dict[str, Any] = {}
        self._blank = env.dump_state()
        self._state = np.zeros(PIXELS + 1, np.uint8)
        screen = self._state[:-1].reshape(SCREEN_SHAPE)
        self._held = held = ctypes.c_uint8()
        # It has no C functions: what compiled code calls comes back to Python.
        self._advance = _Callback(lambda: env._frame_advance(held.value))
        self._show = _Callback(lambda: env.observation("grayscale", screen))
        self._core = core_of(
            advance=ctypes.cast(self._advance, ctypes.c_void_p).value,
            show=ctypes.cast(self._show, ctypes.c_void_p).value,
            memory=self.ram.ctypes.data,
            held=ctypes.addressof(held),
        )

    def power_on(self) -> None:
        """Start the cartridge afresh."""
        # The reset button leaves RAM as it is.
        self._env.load_state(self._blank)
        self._env.reset()

    def advance(self, buttons: int) -> None:
        """Emulate one frame while the buttons (a bit mask, see buttons.py) are held."""
        self.run(bytes([buttons]))

    def run(self, buttons: bytes) -> None:
        """Emulate a frame for each button mask."""
        self.call(run_frames, np.frombuffer(bytearray(buttons), np.uint8))

    def call[R](self, function: Callable[..., R], *arguments: Any) -> R:
        """Call a compiled function that runs the console, see machine.py."""
        return function(self._core, self._state, self.ram, *arguments)

    def read_grey(self, out: np.ndarray) -> None:
        """Write the screen's luma into ``out``, shape ``(240, 256)``, uint8."""
        self._env.observation("grayscale", out)

    def read_rgb(self) -> np.ndarray:
        """Return a copy of the screen, shape ``(240, 256, 3)``, uint8."""
        return self._env.observation("rgb_array_contiguous")

    def snapshot(self) -> Any:
        """Return the console's state and its screen, valid while the console is open.

        nes-py's lacks how far the game has got in reading the controllers. Now and then
        a frame ends in the middle of that; restored there, the console reads other
        buttons in the next frame than it read at first. So a console whose play is
        logged must not be restored on the way: try things out on another one.
        """
        # A state points into the console that it comes from: keep that.
        return self._env.dump_state(), self._env

    def restore(self, snapshot: Any) -> None:
        """Bring back a state that `snapshot` returned.

        It may be another console's of the same emulator and cartridge, still open.
        """
        state, _ = snapshot
        self._env.load_state(state)

    def close(self) -> None:
        """Release the console."""
        if self._env._env is not None:
            self._env.close()
