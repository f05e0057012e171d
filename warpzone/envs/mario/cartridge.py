"""The Super Mario Bros cartridge."""

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

from warpzone.envs.nes import consoles


def rom_path() -> Path:
    """Return the cartridge image inside gym-super-mario-bros."""
    return Path(str(files("gym_super_mario_bros"))) / "_roms" / "super-mario-bros.nes"


@cache
def rom_sha256() -> str:
    """Return the SHA-256 of the cartridge image, as hexadecimal digits."""
    return hashlib.sha256(rom_path().read_bytes()).hexdigest()


def make_console(emulator: str) -> consoles.Console:
    """Return a new console with the cartridge in it, see `consoles.make_console`."""
    return consoles.make_console(emulator, rom_path())
