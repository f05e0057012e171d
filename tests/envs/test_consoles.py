"""The console knows no game: what it runs and watches is handed in."""

import ctypes
import re
import shutil
from importlib.metadata import PackageNotFoundError
from importlib.resources import files
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest

from warpzone.core.errors import InputError
from warpzone.envs.mario.cartridge import rom_path
from warpzone.envs.mario.state import Address
from warpzone.envs.nes import consoles
from warpzone.envs.nes.buttons import NO_BUTTONS, START
from warpzone.envs.nes.consoles import (
    EMULATORS,
    emulator_version,
    installed_emulators,
    make_console,
)

ROOT = Path(__file__).parents[2]
FILES = (ROOT / "warpzone" / "envs" / "nes").iterdir()
NES = sorted(path for path in FILES if path.is_file())


@pytest.mark.parametrize("path", NES, ids=lambda path: path.name)
def test_the_console_names_no_game(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "mario" not in text.lower()
    # Lower addresses are numbers like any others.
    addresses = {address.value for address in Address if address > 0xFF}
    for number in re.findall(r"\b(?:0x[0-9A-Fa-f]+|\d+)\b", text):
        assert int(number, 16 if number.startswith("0x") else 10) not in addresses


@pytest.mark.parametrize("name", EMULATORS)
def test_a_run_is_its_frames_one_by_one(name: str) -> None:
    # The game counts its frames at 0x9; the counter is 0 at first.
    consoles = [make_console(name, rom_path()) for _ in range(2)]
    buttons = bytes([*[NO_BUTTONS] * 39, START])
    for console in consoles:
        console.power_on()
    consoles[0].run(buttons)
    for held in buttons:
        consoles[1].advance(held)
    assert consoles[0].ram.tobytes() == consoles[1].ram.tobytes()
    assert consoles[0].ram[0x9] > 20
    assert (consoles[0].read_rgb() == consoles[1].read_rgb()).all()


@pytest.mark.parametrize("cartridge", ["super-mario-bros-3", "super-mario-bros-2"])
def test_another_cartridge_plays_the_same_on_both(cartridge: str) -> None:
    rom = Path(str(files("gym_super_mario_bros"))) / "_roms" / f"{cartridge}.nes"
    both = [make_console(name, rom) for name in EMULATORS]
    mario = make_console("fceumm", rom_path())
    screens = np.empty((3, 240, 256), np.uint8)
    for console in (*both, mario):
        console.power_on()
    for frame in range(300):
        held = START if frame % 100 == 99 else NO_BUTTONS
        for console in (*both, mario):
            console.advance(held)
    for console, screen in zip((*both, mario), screens, strict=True):
        console.read_grey(screen)
    assert len(np.unique(screens[0])) > 2
    assert (screens[0] != screens[1]).mean() < 0.02
    assert (screens[1] != screens[2]).mean() > 0.2


def test_versions_name_the_emulator() -> None:
    assert emulator_version("nes-py") == "nes-py 9.0.1"
    assert emulator_version("fceumm") == "fceumm, stable-retro 1.0.1"
    assert installed_emulators() == {
        "nes-py 9.0.1": "nes-py",
        "fceumm, stable-retro 1.0.1": "fceumm",
    }


def test_an_emulator_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="no emulator 'mesen': there are nes-py and f"):
        make_console("mesen", rom_path())


def test_an_emulator_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def version_here(package: str) -> str:
        if package == "stable-retro":
            raise PackageNotFoundError(package)
        return "9.0.1"

    monkeypatch.setattr(consoles, "version", version_here)
    with pytest.raises(
        InputError,
        match=r"'fceumm' needs stable-retro.*'nes-py'.*--no-deps stable-retro",
    ):
        make_console("fceumm", rom_path())
    assert installed_emulators() == {"nes-py 9.0.1": "nes-py"}


def copied_rom(folder: Path) -> Path:
    """A cartridge that has no core yet."""
    return Path(shutil.copy(rom_path(), folder))


def allow_libraries_in(folders: set[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every other folder one that is mounted noexec."""
    load = ctypes.CDLL

    def load_here(path: str) -> ctypes.CDLL:
        if Path(path).parent not in folders:
            raise OSError(f"{path}: failed to map segment from shared object")
        return load(path)

    monkeypatch.setattr(ctypes, "CDLL", load_here)


def test_a_core_is_loaded_from_the_cache_where_temporary_files_are_noexec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    allow_libraries_in({tmp_path / "warpzone"}, monkeypatch)
    console = make_console("fceumm", copied_rom(tmp_path))
    console.advance(NO_BUTTONS)
    # The copy is gone as soon as it is loaded.
    assert not list((tmp_path / "warpzone").iterdir())


def test_no_folder_to_load_a_core_from_ends_in_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    allow_libraries_in(set(), monkeypatch)
    with pytest.raises(InputError) as caught:
        make_console("fceumm", copied_rom(tmp_path))
    message = str(caught.value)
    assert f"{gettempdir()} or {tmp_path / 'warpzone'} (" in message
    assert "failed to map segment" in message
    assert message.endswith("set TMPDIR to a folder that is not mounted noexec")
    assert "\n" not in message
