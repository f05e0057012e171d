"""The emulators that there are, by the names that params.yaml gives them."""

from importlib.metadata import version

from warpzone.game.emulator import Emulator, NesPyEmulator
from warpzone.game.fceumm import FceummEmulator
from warpzone.params import EmulatorName

_EMULATORS: dict[EmulatorName, tuple[type[Emulator], str]] = {
    "nes-py": (NesPyEmulator, "nes-py"),
    "fceumm": (FceummEmulator, "stable-retro"),
}

JUDGE: EmulatorName = "nes-py"
"""What agents are evaluated on: the official game."""


def make_emulator(name: EmulatorName) -> Emulator:
    """Return a new console."""
    emulator, _ = _EMULATORS[name]
    return emulator()


def emulator_version(name: EmulatorName) -> str:
    """Name and version of what runs, for example ``fceumm, stable-retro 1.0.1``."""
    _, package = _EMULATORS[name]
    build = f"{package} {version(package)}"
    return build if name == package else f"{name}, {build}"


def installed_emulators() -> dict[str, EmulatorName]:
    """Names by version, see `emulator_version`."""
    return {emulator_version(name): name for name in _EMULATORS}
