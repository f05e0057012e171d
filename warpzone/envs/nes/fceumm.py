"""FCEUmm, the libretro core that stable-retro installs, as one of our consoles.

Four times as fast as nes-py, and the same console frame by frame
(tests/envs/test_emulators.py). The core is spoken to through the C interface that every
libretro core has, https://docs.libretro.com/development/libretro-overview/. What it
calls back is fceumm.ll, compiled when a core is made; compiled code runs its frames,
see machine.py, so that none waits for Python.

A core keeps its state in global variables, so it is one console. Here it is a worker:
a console is what the core saves and loads, which takes a few microseconds, and runs on
whichever core is free. There are as many cores as consoles have ever run at once, so
that a processor's caches hold one core and not one for each console.

FCEUmm is licensed under the GPL, version 2: nothing of it is in this repository.
"""

import ctypes
import os
from collections.abc import Callable
from functools import cache
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from tempfile import NamedTemporaryFile, gettempdir
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from warpzone.core.errors import InputError
from warpzone.envs.nes.buttons import NO_BUTTONS
from warpzone.envs.nes.machine import (
    PIXELS,
    RAM_SIZE,
    SCREEN_SHAPE,
    core_of,
    run_frames,
)

# What the core calls back, and other names and numbers of libretro.
_CALLBACKS = "video_refresh audio_sample audio_sample_batch input_poll input_state"
_GET_VARIABLE, _SET_PIXEL_FORMAT, _SYSTEM_RAM = 15, 10, 2
_OPTIONS = {
    # The number of the colour instead of a colour.
    b"fceumm_palette": b"raw",
    # The whole screen.
    b"fceumm_overscan": b"disabled",
}

# Frames that the cartridge is ahead of nes-py's, see `_Core`.
_HEAD_START = 1

# Red, green and blue that nes-py shows for each of the NES's 64 colours.
_PALETTE = bytes.fromhex(
    "7c7c7c0000fc0000bc4428bc940084a80020a8100088140050300000780000680000580000405800"
    "0000000000000000bcbcbc0078f80058f86844fcd800cce40058f83800e45c10ac7c0000b80000a8"
    "0000a844008888000000000000000000f8f8f83cbcfc6888fc9878f8f878f8f85898f87858fca044"
    "f8b800b8f81858d85458f89800e8d8787878000000000000fcfcfca4e4fcb8b8f8d8b8f8f8b8f8f8"
    "a4c0f0d0b0fce0a8f8d878d8f878b8f8b8b8f8d800fcfcf8d8f8000000000000"
)

# A raw pixel has the colour's number in its upper half: four bits of hue, one that says
# nothing, two of brightness.
_UPPER = np.arange(256)
_COLOURS = np.frombuffer(_PALETTE, np.uint8).reshape(64, 3)[
    (_UPPER >> 1 & 3) << 4 | _UPPER >> 4
]
"""Red, green and blue for each upper half of a raw pixel, shape ``(256, 3)``."""


_POINTER, _SIZE, _TEXT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p


class _Game(ctypes.Structure):
    """libretro's ``retro_game_info``."""

    _fields_ = (("path", _TEXT), ("data", _TEXT), ("size", _SIZE), ("meta", _TEXT))


_Variable = _TEXT * 2
"""libretro's ``retro_variable``: a key and a value."""
_Environment = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_uint, _POINTER)

type FceummSnapshot = tuple[np.ndarray, np.ndarray]
"""A console's bytes, see machine.py, and its RAM.

It is exact, and good for any console of the same cartridge.
"""


class FceummConsole:
    """A console that runs without the GIL. Its methods are those of `NesPyConsole`."""

    # As nes-py rounds it.
    greys = (_COLOURS @ np.array([77, 150, 29]) >> 8).astype(np.uint8)

    def __init__(self, rom: Path) -> None:
        self._blank, self._idle, self.kept = _cores(rom)
        self._rom = rom
        self._state = np.empty_like(self._blank[0])
        self.ram = np.empty(RAM_SIZE, np.uint8)
        self.restore(self._blank)

    def power_on(self) -> None:
        self.restore(self._blank)
        for _ in range(_HEAD_START):
            self.advance(NO_BUTTONS)

    def advance(self, buttons: int) -> None:
        self.run(bytes([buttons]))

    def run(self, buttons: bytes) -> None:
        self.call(run_frames, np.frombuffer(bytearray(buttons), np.uint8))

    def call[R](self, function: Callable[..., R], *arguments: Any) -> R:
        # Taking one from the end of a list is safe from any thread, as is adding one.
        try:
            core = self._idle.pop()
        except IndexError:
            core = _Core(self._rom)
        result = function(core.pointers, self._state, self.ram, *arguments)
        self._idle.append(core)
        return result

    def read_grey(self, out: np.ndarray) -> None:
        out[:] = self.greys[self._screen]

    def read_rgb(self) -> np.ndarray:
        return _COLOURS[self._screen]

    def snapshot(self) -> FceummSnapshot:
        return self._state.copy(), self.ram.copy()

    def restore(self, snapshot: FceummSnapshot) -> None:
        self._state[:], self.ram[:] = snapshot

    def close(self) -> None:
        pass

    @property
    def _screen(self) -> np.ndarray:
        return self._state[-PIXELS - 1 : -1].reshape(SCREEN_SHAPE)


class _Core:
    """FCEUmm with the cartridge in it, and the pointers by which it is spoken to."""

    def __init__(self, rom: Path) -> None:
        # The names that nothing reads keep alive what the pointers point to.
        self._library = library = _load_library()
        self._engine = engine = _compile()
        # Questions while the cartridge is loaded; later ones are declined natively.
        answer = _Environment(_answer)
        library.retro_set_environment(answer)
        for name in _CALLBACKS.split():
            address = engine.get_function_address(name)
            getattr(library, f"retro_set_{name}")(_POINTER(address))
        library.retro_load_game.restype = ctypes.c_bool
        library.retro_get_memory_data.restype = _POINTER
        library.retro_serialize_size.restype = _SIZE
        library.retro_init()
        image = rom.read_bytes()
        game = _Game(str(rom).encode(), image, len(image), None)
        if not library.retro_load_game(ctypes.byref(game)):
            raise RuntimeError(f"FCEUmm does not take the cartridge {rom}")
        decline = engine.get_function_address("environment")
        library.retro_set_environment(_POINTER(decline))
        self.size = library.retro_serialize_size()
        self.pointers = core_of(
            advance=ctypes.cast(library.retro_run, _POINTER).value,
            save=ctypes.cast(library.retro_serialize, _POINTER).value,
            load=ctypes.cast(library.retro_unserialize, _POINTER).value,
            memory=library.retro_get_memory_data(_SYSTEM_RAM),
            held=engine.get_global_value_address("held"),
            screen=engine.get_global_value_address("screen"),
            size=self.size,
            # nes-py ends a frame later, where the game has just read the controllers.
            # So the cartridge is a frame ahead there, and what is held in a frame
            # counts from the next one on.
            is_late=True,
        )
        self.save = library.retro_serialize


@cache
def _cores(rom: Path) -> tuple[FceummSnapshot, list[_Core], dict[str, Any]]:
    """Return what all consoles of a cartridge share.

    A console that has been switched off and on, the idle cores, and what is kept.
    """
    core = _Core(rom)
    state = np.zeros(core.size + PIXELS + 1, np.uint8)
    core.save(_POINTER(state.ctypes.data), _SIZE(core.size))
    # nes-py begins with empty RAM, FCEUmm with a pattern in it.
    return (state, np.zeros(RAM_SIZE, np.uint8)), [core], {}


def _load_library() -> ctypes.CDLL:
    """Load FCEUmm once more: a library of its own, with variables of its own.

    Raises:
        InputError: If no folder for temporary files lets libraries be loaded.
    """
    cores = Path(str(distribution("stable-retro").locate_file("stable_retro/cores")))
    (core,) = cores.glob("fceumm_libretro.*")
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    # The loader knows a library by its path and its file: a copy is another library.
    failures: dict[Path, OSError] = {}
    for folder in (Path(gettempdir()), cache_home / "warpzone"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(suffix=core.suffix, dir=folder) as copy:
                copy.write(core.read_bytes())
                copy.flush()
                return ctypes.CDLL(copy.name)
        except OSError as error:
            # The file system may be mounted noexec, read-only or full.
            failures[folder] = error
    *_, last = failures.values()
    raise InputError(
        f"FCEUmm cannot be loaded from a copy in {' or '.join(map(str, failures))} "
        f"({last}): set TMPDIR to a folder that is not mounted noexec"
    )


def _compile() -> llvm.ExecutionEngine:
    """Compile the code of one core, with its own variables."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine(opt=3)
    code = files(__package__).joinpath("fceumm.ll").read_text(encoding="utf-8")
    module = llvm.parse_assembly(code)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    passes = llvm.create_pass_builder(target, options)
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    return engine


def _answer(command: int, data: int | None) -> bool:
    """Answer the core's questions about its host; false is no."""
    if command == _SET_PIXEL_FORMAT:
        return True
    if command == _GET_VARIABLE:
        assert data is not None
        variable = _Variable.from_address(data)
        key, _ = variable
        variable[1] = _OPTIONS.get(key)
        return key in _OPTIONS
    return False
