"""One NES behind a small seam: which emulator it is and which game it plays is outside.

What a console must know of a game is handed in: the cartridge image, and a `Watch`, the
RAM addresses that it reads after every frame.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nes_py import NESEnv

SCREEN_SHAPE = (240, 256)
"""Height and width of the NES screen in pixels."""

RAM_SIZE = 2_048
"""Bytes."""


@dataclass(frozen=True)
class Watch:
    """The RAM addresses that a console reads after every frame.

    Raises:
        ValueError: If an address or a value is out of range, or nothing is traced.
    """

    traced: tuple[int, ...]
    """Addresses in [0, 2048) whose bytes `NesPyConsole.run` returns, one or more."""
    ordinary: tuple[tuple[int, int, int], ...]
    """When `NesPyConsole.run` continues: rows of an address and the lowest and the
    highest byte there. All rows must hold; with no row it always continues."""

    def __post_init__(self) -> None:
        if not self.traced:
            raise ValueError("a watch traces one address or more, got none")
        for address, low, high in (*self.ordinary, *((a, 0, 0) for a in self.traced)):
            if not (0 <= address < RAM_SIZE and 0 <= low <= high <= 255):
                raise ValueError(f"no RAM has {low} to {high} at {address:#x}")

    def is_ordinary(self, ram: memoryview) -> bool:
        """Return whether every row of `ordinary` holds."""
        return all(low <= ram[address] <= high for address, low, high in self.ordinary)


class NesPyConsole:
    """nes-py, which releases the GIL while it emulates a frame.

    Its methods are those of every console. They act on the current frame. ``ram`` is
    2,048 bytes, live and writable.
    """

    def __init__(self, rom: Path, watch: Watch) -> None:
        self._env = NESEnv(str(rom))
        self._watch = watch
        self.ram = memoryview(self._env.ram)
        self._advance = self._env._frame_advance

    def power_on(self) -> None:
        """Start the cartridge afresh."""
        self._env.reset()

    def advance(self, buttons: int) -> None:
        """Emulate one frame while the buttons (a bit mask, see buttons.py) are held."""
        self._advance(buttons)

    def run(self, buttons: bytes) -> bytes:
        """Emulate a frame for each button mask, one or more, while all is ordinary.

        It ends early after a frame that leaves RAM outside of `Watch.ordinary`, or
        after many frames.

        Returns:
            The bytes at the addresses `Watch.traced` after each frame that was
            emulated, one or more, frame after frame.
        """
        ram, watch, advance = self.ram, self._watch, self._advance
        trace = bytearray()
        for held in buttons:
            advance(held)
            for address in watch.traced:
                trace.append(ram[address])
            if not watch.is_ordinary(ram):
                break
        return bytes(trace)

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
