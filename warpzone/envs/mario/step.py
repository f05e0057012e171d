"""An agent step in one call that needs no GIL: noise, frames, reward, end, picture."""

import numpy as np

from warpzone.envs.compiled import call_for_float, compiled, copy
from warpzone.envs.mario.level import has_left, play_frames
from warpzone.envs.mario.observation import draw
from warpzone.envs.mario.rewards import reward
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
FACTS = _STATE + 3
"""Numbers that `look` reports."""


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
    held,
    wanted,
    generator,
    codes,
    pixels,
    cells,
    is_first,
    level,
    frames,
    sticky_probability,
    is_per_decision,
    ledgers,
    weights,
    greys,
    picture,
    rows,
    columns,
    stack,
    facts,
):
    """Play one agent step, or look at the first frame of an episode.

    Args:
        core: See machine.py; ``state`` and ``ram`` too.
        state: See there.
        ram: See there.
        odometer: See `play_frames`; ``level`` and ``frames`` too.
        held: The buttons of the frame before.
        wanted: The buttons that the agent asks for.
        generator: The address of NumPy's ``next_double`` and of the state that it
            draws from, or zeros: then ``codes`` is given.
        codes: What is held in each frame, uint8.
        pixels: ``stack`` is copied there.
        cells: RAM is copied there; an empty one if nobody sees it.
        is_first: Whether an episode begins: then all frames are the new one.
        level: See there.
        frames: See there.
        sticky_probability: See `hold_noisily`; ``is_per_decision`` too.
        is_per_decision: See there.
        ledgers: Shape ``(2,)``, `LEDGER`: before the last agent step, and after it.
        weights: See `reward`.
        greys: The luma of each byte of the screen.
        picture: Of a `FrameStack`; ``rows`` and ``columns`` too.
        rows: See there.
        columns: See there.
        stack: The last frames, oldest first, which a new one joins; an empty one if
            nobody sees them.
        facts: See `look`.

    Returns:
        How many frames were played, and what the step is worth.
    """
    if generator[0]:
        draws = np.empty(len(codes))
        for frame in range(len(codes)):
            draws[frame] = call_for_float(generator[0], generator[1])
        noise = sticky_probability, is_per_decision
        copy(hold_noisily(held, wanted, draws, *noise), codes)
    played = 0
    if len(codes):
        memory = switch_on(core, state, ram)
        played = play_frames(core, state, memory, odometer, level, frames, codes)
        switch_off(core, state, ram)
    look(ram, odometer, level, facts)
    ledgers[0] = ledgers[1]
    now = ledgers[1]
    now.progress = odometer[0].progress
    now.time, now.score, now.coins = facts[2], facts[3], facts[4]
    now.dead, now.cleared = facts[9], facts[10]
    if len(cells):
        copy(ram, cells)
    if len(stack):
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
    return played, reward(ledgers[:1], ledgers[1:], weights)
