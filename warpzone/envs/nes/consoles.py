"""The emulators that there are, by the names that params.yaml gives them."""

from importlib.metadata import PackageNotFoundError, version

from warpzone.core.errors import InputError
from warpzone.core.params import EmulatorName
from warpzone.envs.nes.console import Emulator, NesPyEmulator
from warpzone.envs.nes.fceumm import FceummEmulator

JUDGE: EmulatorName = "nes-py"
"""What agents are evaluated on: the official game."""

_EMULATORS: dict[EmulatorName, tuple[type[Emulator], str]] = {
    "nes-py": (NesPyEmulator, "nes-py"),
    "fceumm": (FceummEmulator, "stable-retro"),
}


def make_emulator(name: EmulatorName) -> Emulator:
    """Return a new console.

    Raises:
        InputError: If the emulator's package is not installed.
    """
    emulator_version(name)
    emulator, _ = _EMULATORS[name]
    return emulator()


def emulator_version(name: EmulatorName) -> str:
    """Name and version of what runs, for example ``fceumm, stable-retro 1.0.1``.

    Raises:
        InputError: If the emulator's package is not installed.
    """
    _, package = _EMULATORS[name]
    try:
        build = f"{package} {version(package)}"
    except PackageNotFoundError as error:
        raise InputError(
            f"the emulator {name!r} needs {package}, which is not installed (it has no "
            f"wheel for every platform): use game.emulator = {JUDGE!r}"
        ) from error
    return build if name == package else f"{name}, {build}"


def installed_emulators() -> dict[str, EmulatorName]:
    """Names by version, see `emulator_version`."""
    versions: dict[str, EmulatorName] = {}
    for name in _EMULATORS:
        try:
            versions[emulator_version(name)] = name
        except InputError:
            continue
    return versions
