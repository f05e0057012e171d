"""Consoles in compiled code: what a console points to, and how it runs.

A console is spoken to through C pointers, so that an agent step needs the GIL neither
for its frames nor for what is around them. Compiled functions that run one begin with
the same three arguments, which `Console.call` gives them:

- ``core``: shape ``(1,)``, `CORE`.
- ``state``: the console's bytes: what the core saves, then the screen, a byte a pixel,
  then the buttons that were held last.
- ``ram``: 2,048 bytes, as the console's user sees and writes them.
"""

import numpy as np

from warpzone.envs.compiled import array_at, call, compiled, copy

SCREEN_SHAPE = (240, 256)
"""Height and width of the NES screen in pixels."""

RAM_SIZE = 2_048
"""Bytes."""

PIXELS = SCREEN_SHAPE[0] * SCREEN_SHAPE[1]

CORE = np.dtype(
    [
        # Functions: emulate a frame; save and load a state at an address, of a size;
        # write the screen into the state. Those of 0 are not needed.
        ("advance", np.uintp),
        ("save", np.uintp),
        ("load", np.uintp),
        ("show", np.uintp),
        # Addresses: the RAM that the core works on, the byte of the buttons that are
        # held, and where the address of the raw pixels is, 16 bits each.
        ("memory", np.uintp),
        ("held", np.uintp),
        ("screen", np.uintp),
        # Bytes that are saved.
        ("size", np.uintp),
        # Whether a frame takes the buttons of the frame before.
        ("is_late", np.bool_),
    ]
)
"""What plays the frames of a console."""


def core_of(**fields: int | None) -> np.ndarray:
    """Return a core, shape ``(1,)``, `CORE`, from its fields; the others are 0."""
    core = np.zeros(1, CORE)
    for name, value in fields.items():
        core[name] = value
    return core


@compiled
def switch_on(core, state, ram):
    """Let the core be the console; return its live RAM."""
    memory = array_at(core[0].memory, RAM_SIZE, np.uint8)
    if core[0].load:
        call(core[0].load, (state.ctypes.data, core[0].size))
        copy(ram, memory)
    return memory


@compiled
def advance(core, state, buttons):
    """Emulate one frame while the buttons (a bit mask, see buttons.py) are held."""
    held = array_at(core[0].held, 1, np.uint8)
    held[0] = state[-1] if core[0].is_late else buttons
    state[-1] = buttons
    call(core[0].advance, ())


@compiled
def switch_off(core, state, ram):
    """Let the console be what the core is after one frame or more."""
    if core[0].save:
        copy(array_at(core[0].memory, RAM_SIZE, np.uint8), ram)
        call(core[0].save, (state.ctypes.data, core[0].size))
        raw = array_at(array_at(core[0].screen, 1, np.uintp)[0], PIXELS, np.uint16)
        screen = state[-PIXELS - 1 : -1]
        for place in range(PIXELS):
            # The upper half is the colour, see fceumm.py.
            screen[place] = raw[place] >> 8


@compiled
def screen_of(core, state):
    """Return the screen as of now, shape ``(240, 256)``, uint8."""
    if core[0].show:
        call(core[0].show, ())
    return array_at(state[-PIXELS - 1 :].ctypes.data, SCREEN_SHAPE, np.uint8)


@compiled
def run_frames(core, state, ram, buttons):
    """Emulate a frame for each button mask."""
    if len(buttons):
        switch_on(core, state, ram)
        for held in buttons:
            advance(core, state, held)
        switch_off(core, state, ram)
