"""One NES behind a small seam, so that nothing else knows which emulator it is."""

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from nes_py import NESEnv

from warpzone.envs.mario.state import TRACED, is_ordinary

SCREEN_SHAPE = (240, 256)
"""Height and width of the NES screen in pixels."""

RAM_SIZE = 2_048
"""Bytes."""


class Emulator(Protocol):
    """A running console. All methods act on its current frame."""

    ram: memoryview
    """The console's 2,048 bytes of RAM, live and writable."""

    def power_on(self) -> None:
        """Start the cartridge afresh."""
        ...

    def advance(self, buttons: int) -> None:
        """Emulate one frame while the buttons (a bit mask, see actions.py) are held."""
        ...

    def run(self, buttons: bytes) -> bytes:
        """Emulate a frame for each button mask, one or more, while all is ordinary.

        It ends early after a frame that leaves the game outside of `state.ORDINARY`,
        or after many frames.

        Returns:
            What was at the addresses `state.TRACED` after each frame that was emulated,
            one or more, frame after frame.
        """
        ...

    def read_grey(self, out: np.ndarray) -> None:
        """Write the screen's luma into ``out``, shape ``(240, 256)``, uint8."""
        ...

    def read_rgb(self) -> np.ndarray:
        """Return a copy of the screen, shape ``(240, 256, 3)``, uint8."""
        ...

    def snapshot(self) -> Any:
        """Return the machine's state and its picture, as long as the console is open.

        nes-py's lacks how far the game has got in reading the controllers. Now and then
        a frame ends in the middle of that; restored there, the console reads other
        buttons in the next frame than it read at first. So a console whose play is
        logged must not be restored on the way: try things out on another one.
        """
        ...

    def restore(self, snapshot: Any) -> None:
        """Bring back a state that `snapshot` of any emulator of this kind returned."""
        ...

    def close(self) -> None:
        """Release the console."""
        ...


class NesPyEmulator:
    """nes-py, which releases the GIL while it emulates a frame."""

    def __init__(self) -> None:
        self._env = NESEnv(str(rom_path()))
        self.ram = memoryview(self._env.ram)
        self._advance = self._env._frame_advance

    def power_on(self) -> None:
        self._env.reset()

    def advance(self, buttons: int) -> None:
        self._advance(buttons)

    def run(self, buttons: bytes) -> bytes:
        ram, advance = self.ram, self._advance
        trace = bytearray()
        for held in buttons:
            advance(held)
            for address in TRACED:
                trace.append(ram[address])
            if not is_ordinary(ram):
                break
        return bytes(trace)

    def read_grey(self, out: np.ndarray) -> None:
        self._env.observation("grayscale", out)

    def read_rgb(self) -> np.ndarray:
        return self._env.observation("rgb_array_contiguous")

    def snapshot(self) -> Any:
        # A state points into the console that it comes from: keep that.
        return self._env.dump_state(), self._env

    def restore(self, snapshot: Any) -> None:
        state, _ = snapshot
        self._env.load_state(state)

    def close(self) -> None:
        if self._env._env is not None:
            self._env.close()


def rom_path() -> Path:
    """The Super Mario Bros cartridge image inside gym-super-mario-bros."""
    return Path(str(files("gym_super_mario_bros"))) / "_roms" / "super-mario-bros.nes"


@cache
def rom_sha256() -> str:
    """SHA-256 of the cartridge image, as hexadecimal digits."""
    return hashlib.sha256(rom_path().read_bytes()).hexdigest()
