"""The console knows no game: what it runs and watches is handed in."""

import ctypes
import re
from importlib.metadata import PackageNotFoundError
from importlib.resources import files
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest

from warpzone.core.errors import InputError
from warpzone.envs.mario.cartridge import WATCH, rom_path
from warpzone.envs.mario.state import Address
from warpzone.envs.nes import consoles
from warpzone.envs.nes.buttons import NO_BUTTONS, START
from warpzone.envs.nes.console import Watch
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
def test_a_run_goes_on_while_every_row_holds(name: str) -> None:
    # The game counts its frames at 0x9; the counter is 0 at first.
    counter = 0x9
    free = make_console(name, rom_path(), Watch((counter,), ()))
    bound = make_console(name, rom_path(), Watch((counter, 0), ((counter, 0, 20),)))
    free.power_on()
    bound.power_on()
    assert len(trace := free.run(bytes(40))) == 40
    assert max(trace) > 20
    stopped = bound.run(bytes(40))
    # The run ends after the first frame in which the counter is above 20.
    assert stopped[::2] == trace[: len(stopped) // 2]
    assert stopped[-2] > 20 >= max(stopped[:-2:2])


@pytest.mark.parametrize("cartridge", ["super-mario-bros-3", "super-mario-bros-2"])
def test_another_cartridge_plays_the_same_on_both(cartridge: str) -> None:
    rom = Path(str(files("gym_super_mario_bros"))) / "_roms" / f"{cartridge}.nes"
    both = [make_console(name, rom, Watch((0,), ())) for name in EMULATORS]
    mario = make_console("fceumm", rom_path(), WATCH)
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


def test_a_watch_holds_where_every_byte_is_in_its_range() -> None:
    ram = memoryview(bytearray(2048))
    watch = Watch((0,), ((0x10, 2, 4), (0x7FF, 0, 0)))
    for value in range(256):
        ram[0x10] = value
        assert watch.is_ordinary(ram) == (2 <= value <= 4)
    ram[0x10], ram[0x7FF] = 3, 1
    assert not watch.is_ordinary(ram)
    assert Watch((0,), ()).is_ordinary(ram)


@pytest.mark.parametrize(
    ("traced", "ordinary", "message"),
    [
        ((), (), "one address or more"),
        ((2048,), (), "no RAM has 0 to 0 at 0x800"),
        ((0,), ((-1, 0, 1),), "no RAM has 0 to 1 at -0x1"),
        ((0,), ((0, 5, 4),), "no RAM has 5 to 4 at 0x0"),
        ((0,), ((0, 0, 256),), "no RAM has 0 to 256 at 0x0"),
    ],
)
def test_a_watch_that_no_ram_has_is_refused(
    traced: tuple[int, ...], ordinary: tuple[tuple[int, int, int], ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Watch(traced, ordinary)


def test_versions_name_the_emulator() -> None:
    assert emulator_version("nes-py") == "nes-py 9.0.1"
    assert emulator_version("fceumm") == "fceumm, stable-retro 1.0.1"
    assert installed_emulators() == {
        "nes-py 9.0.1": "nes-py",
        "fceumm, stable-retro 1.0.1": "fceumm",
    }


def test_an_emulator_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="no emulator 'mesen': there are nes-py and f"):
        make_console("mesen", rom_path(), WATCH)


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
        make_console("fceumm", rom_path(), WATCH)
    assert installed_emulators() == {"nes-py 9.0.1": "nes-py"}


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
    console = make_console("fceumm", rom_path(), Watch((0x10,), ()))
    console.advance(NO_BUTTONS)
    # The copy is gone as soon as it is loaded.
    assert not list((tmp_path / "warpzone").iterdir())


def test_no_folder_to_load_a_core_from_ends_in_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    allow_libraries_in(set(), monkeypatch)
    with pytest.raises(InputError) as caught:
        make_console("fceumm", rom_path(), Watch((0x11,), ()))
    message = str(caught.value)
    assert f"{gettempdir()} or {tmp_path / 'warpzone'} (" in message
    assert "failed to map segment" in message
    assert message.endswith("set TMPDIR to a folder that is not mounted noexec")
    assert "\n" not in message
