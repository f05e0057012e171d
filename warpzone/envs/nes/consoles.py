"""The emulators that there are, by the names that params.yaml gives them."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from warpzone.core.errors import InputError
from warpzone.envs.nes.console import NesPyConsole
from warpzone.envs.nes.fceumm import FceummConsole

type Console = NesPyConsole | FceummConsole

REFERENCE_EMULATOR = "nes-py"
"""The emulator that the others are compared with."""

EMULATORS: dict[str, tuple[type[NesPyConsole] | type[FceummConsole], str]] = {
    "nes-py": (NesPyConsole, "nes-py"),
    "fceumm": (FceummConsole, "stable-retro"),
}
"""The class and the package of each."""


def make_console(name: str, rom: Path) -> Console:
    """Return a new console of an emulator, with a cartridge image (iNES) in it.

    Raises:
        InputError: If there is no such emulator, or it is not installed.
    """
    emulator_version(name)
    console, _ = EMULATORS[name]
    return console(rom)


def emulator_version(name: str) -> str:
    """Return the emulator's name and version, as in ``fceumm, stable-retro 1.0.1``.

    Raises:
        InputError: If there is no such emulator, or it is not installed.
    """
    if name not in EMULATORS:
        raise InputError(f"no emulator {name!r}: there are {' and '.join(EMULATORS)}")
    _, package = EMULATORS[name]
    try:
        build = f"{package} {version(package)}"
    except PackageNotFoundError as error:
        raise InputError(
            f"the emulator {name!r} needs {package}, which is not installed: use "
            f"emulator = {REFERENCE_EMULATOR!r}, or install it with `pip install "
            f"--no-deps {package}` (it has no wheel for every platform)"
        ) from error
    return build if name == package else f"{name}, {build}"


def installed_emulators() -> dict[str, str]:
    """Return the names of the installed emulators by `emulator_version`."""
    versions: dict[str, str] = {}
    for name in EMULATORS:
        with suppress(InputError):
            versions[emulator_version(name)] = name
    return versions
