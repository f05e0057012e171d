"""The emulators that there are, by the names that params.yaml gives them."""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

from warpzone.core.errors import InputError
from warpzone.envs.nes.console import Console, NesPyConsole, Watch
from warpzone.envs.nes.fceumm import FceummConsole

EmulatorName = Literal["nes-py", "fceumm"]

REFERENCE_EMULATOR: EmulatorName = "nes-py"
"""The emulator that the others are compared with."""


class _Emulator(NamedTuple):
    console: type[NesPyConsole] | type[FceummConsole]
    package: str


_EMULATORS: dict[EmulatorName, _Emulator] = {
    "nes-py": _Emulator(NesPyConsole, "nes-py"),
    "fceumm": _Emulator(FceummConsole, "stable-retro"),
}


def make_console(name: str, rom: Path, watch: Watch) -> Console:
    """Return a new console with a cartridge in it.

    Args:
        name: The emulator.
        rom: The cartridge image, an iNES file.
        watch: What `Console.run` reads after every frame.

    Raises:
        InputError: If there is no such emulator, or it is not installed.
    """
    emulator_version(name)
    return _emulator(name).console(rom, watch)


def emulator_version(name: str) -> str:
    """Return the emulator's name and version, as in ``fceumm, stable-retro 1.0.1``.

    Raises:
        InputError: If there is no such emulator, or it is not installed.
    """
    package = _emulator(name).package
    try:
        build = f"{package} {version(package)}"
    except PackageNotFoundError as error:
        raise InputError(
            f"the emulator {name!r} needs {package}, which is not installed: use "
            f"emulator = {REFERENCE_EMULATOR!r}, or install it with `pip install "
            f"--no-deps {package}` (it has no wheel for every platform)"
        ) from error
    return build if name == package else f"{name}, {build}"


def installed_emulators() -> dict[str, EmulatorName]:
    """Return the names of the installed emulators by `emulator_version`."""
    versions: dict[str, EmulatorName] = {}
    for name in _EMULATORS:
        try:
            versions[emulator_version(name)] = name
        except InputError:
            continue
    return versions


def _emulator(name: str) -> _Emulator:
    if name not in _EMULATORS:
        raise InputError(f"no emulator {name!r}: there are {' and '.join(_EMULATORS)}")
    return _EMULATORS[name]
