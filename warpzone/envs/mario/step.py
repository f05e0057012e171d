"""An agent step in one call that needs no GIL: noise, frames, reward, end, picture."""

import numpy as np

from warpzone.envs.compiled import array_at, call_for_float, compiled, copy
from warpzone.envs.mario.level import has_left, play_frames
from warpzone.envs.mario.observation import PICTURE, draw
from warpzone.envs.mario.rewards import LEDGER, TERMS, WEIGHTS, reward
from warpzone.envs.mario.state import (
    GameState,
    is_cleared,
    is_dead,
    is_in_pit,
    read_facts,
    read_time,
)
from warpzone.envs.nes.machine import screen_of, switch_off, switch_on
from warpzone.envs.replayable import hold_noisily

CAUSES = (None, "left_level", "clear", "pit", "clock", "enemy")
"""What may have ended an episode."""

_STATE = len(GameState._fields)
_TERMS = len(TERMS)
FACTS = _STATE + 3
"""Numbers that `look` reports."""

SETUP = np.dtype(
    [
        # Addresses: world and stage as RAM counts them; the count of emulated frames;
        # two `LEDGER`, before the last agent step and after it; the numbers that `look`
        # reports; the rewards' weights, and what each term was worth so far.
        ("level", np.uintp),
        ("frames", np.uintp),
        ("ledgers", np.uintp),
        ("facts", np.uintp),
        ("weights", np.uintp),
        ("totals", np.uintp),
        # Addresses: the luma of each byte of the screen; of a `FrameStack`; the last
        # frames, oldest first, which a new one joins.
        ("greys", np.uintp),
        ("picture", np.uintp),
        ("rows", np.uintp),
        ("columns", np.uintp),
        ("stack", np.uintp),
        # Addresses: NumPy's ``next_double``, and the state that it draws from.
        ("next_double", np.uintp),
        ("generator", np.uintp),
        # The shape of the stack; no depth if nobody sees it.
        ("depth", np.int64),
        ("height", np.int64),
        ("width", np.int64),
        # See `hold_noisily`.
        ("sticky_probability", np.float64),
        ("is_per_decision", np.bool_),
    ]
)
"""What all agent steps of an env have in common."""


@compiled
def look(ram, odometer, level, facts):
    """Report where an episode is.

    Args:
        ram: Of the console.
        odometer: Shape ``(1,)``, `ODOMETER`.
        level: World and stage as RAM counts them.
        facts: Shape ``(FACTS,)``, int64. Written there: `GameState`, the odometer's
            furthest x and pixels travelled, and the index in `CAUSES`.
    """
    read_facts(ram, facts)
    facts[_STATE] = odometer[0].furthest[0]
    facts[_STATE + 1] = odometer[0].travelled
    cause = 0
    if has_left(ram, level):
        cause = 1
    elif is_cleared(ram):
        cause = 2
    elif is_in_pit(ram):
        cause = 3
    elif is_dead(ram):
        cause = 4 if read_time(ram) == 0 else 5
    facts[_STATE + 2] = cause


@compiled
def _move(frames, target):
    """Copy frames to the beginning of other ones."""
    for frame in range(len(frames)):
        for row in range(frames.shape[1]):
            copy(frames[frame, row], target[frame, row])


@compiled
def agent_step(
    core,
    state,
    ram,
    odometer,
    setup,
    held,
    wanted,
    codes,
    is_drawn,
    pixels,
    cells,
    is_first,
):
    """Play one agent step, or look at the first frame of an episode.

    Args:
        core: See machine.py; ``state`` and ``ram`` too.
        state: See there.
        ram: See there.
        odometer: See `play_frames`.
        setup: What all steps of an env have in common, shape ``(1,)``, `SETUP`.
        held: The buttons of the frame before.
        wanted: The buttons that the agent asks for.
        codes: What is held in each frame, uint8.
        is_drawn: Whether noise decides that: then ``codes`` is written.
        pixels: The stack of frames is copied there.
        cells: RAM is copied there; an empty one if nobody sees it.
        is_first: Whether an episode begins: then all frames are the new one.

    Returns:
        How many frames were played, and what the step is worth.
    """
    env = setup[0]
    if is_drawn:
        draws = np.empty(len(codes))
        for frame in range(len(codes)):
            draws[frame] = call_for_float(env.next_double, env.generator)
        noise = env.sticky_probability, env.is_per_decision
        copy(hold_noisily(held, wanted, draws, *noise), codes)
    level = array_at(env.level, 2, np.uint8)
    played = 0
    if len(codes):
        frames = array_at(env.frames, 1, np.int64)
        memory = switch_on(core, state, ram)
        played = play_frames(core, state, memory, odometer, level, frames, codes)
        switch_off(core, state, ram)
    facts = array_at(env.facts, FACTS, np.int64)
    look(ram, odometer, level, facts)
    ledgers = array_at(env.ledgers, 2, LEDGER)
    ledgers[0] = ledgers[1]
    now = ledgers[1]
    now.progress = odometer[0].progress
    now.x, now.y = facts[0], facts[1]
    now.time, now.score, now.coins, now.power = facts[2], facts[3], facts[4], facts[6]
    now.dead, now.cleared = facts[9], facts[10]
    if len(cells):
        copy(ram, cells)
    if env.depth:
        stack = array_at(env.stack, (env.depth, env.height, env.width), np.uint8)
        greys = array_at(env.greys, 256, np.uint8)
        picture = array_at(env.picture, 1, PICTURE)
        rows = array_at(env.rows, (4, env.height), np.int32)
        columns = array_at(env.columns, (4, env.width), np.int32)
        if played:
            held = codes[played - 1]
        newest = stack[-1]
        if not is_first:
            _move(stack[1:], stack)
        draw(screen_of(core, state), greys, picture, rows, columns, held, newest)
        if is_first:
            for frame in range(len(stack) - 1):
                _move(stack[-1:], stack[frame:])
        _move(stack, pixels)
    weights = array_at(env.weights, WEIGHTS, np.float64)
    totals = array_at(env.totals, _TERMS, np.float64)
    return played, reward(ledgers[:1], ledgers[1:], weights, totals)
