"""A demonstrator that looks ahead on snapshots of the console.

It runs right for as long as running is safe, or walks where no action has B. Ahead of
danger (death, or a wall that stops Mario) it tries jumps from every step before it,
takes the longest hold with a wide range of take-offs that survive, and takes off a
fixed margin before the last of them. In the air it holds the jump for as long as that
is safe. So equal places get equal buttons, which is what makes the play easy to
imitate. Where neither running nor a jump helps it looks for any way to new ground, back
and round if need be. Before it presses A it tries the plan under noise, and takes
another one if Mario dies; what the noise changes is planned again from where Mario
really is. It knows the rules of the game only through the console.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LevelPlay, PlaySnapshot
from warpzone.envs.mario.state import (
    ON_GROUND,
    Address,
    is_cleared,
    read_area,
    read_state,
)
from warpzone.envs.nes.buttons import LEFT, NO_BUTTONS, RIGHT, A, B
from warpzone.envs.replayable import hold_noisily

# All lengths are agent steps.

# How far running is looked ahead.
HORIZON = 16
# A plan shorter than this is looked at again.
FRESH = 8
# How long A is held in a jump, in order of preference.
HOLDS = (8, 5, 3, 1)
# Take-offs in a row that survive and are enough to choose a hold.
WIDE = 3
# Between the chosen take-off and the last one that survives.
MARGIN = 2
# How long Mario must run on after a landing, and stand again, to call it one.
SETTLE = 6
MAX_FLIGHT = 24
# Running that covers fewer pixels than this in this time is stopped by a wall.
STUCK, STUCK_PIXELS = 3, 6
# How long A is held on while Mario rises, in order of preference.
AIR_HOLDS = (8, 6, 4, 3, 2, 1)
# How long something else than running is tried when no jump helps.
DETOURS = (1, 2, 4, 8)
# How long a button is held on the way round an obstacle, the size of a place there, in
# pixels, and the places looked at before no way round is expected.
STRIDE, PLACE, MAX_PLACES = 4, 16, 400
# How often a plan is tried under noise, and how much of it.
TRIALS, TRIAL_STEPS = 4, 28
# Plans tried under noise before the best of them is taken.
MAX_CANDIDATES = 16


class _Moment(NamedTuple):
    """The state of the console after an agent step."""

    snapshot: PlaySnapshot
    ram: bytes
    progress: int
    is_over: bool
    is_cleared: bool
    is_on_ground: bool
    is_rising: bool

    @property
    def is_lost(self) -> bool:
        return self.is_over and not self.is_cleared


class Planner:
    """Plays in an env with actions that run right, and tries out on its own console."""

    def __init__(self, env: MarioEnv) -> None:
        self._env = env
        # Restoring is not exact to the last frame, see `NesPyConsole.snapshot`: the
        # environment's own console is never restored, so that its log replays.
        self._play = LevelPlay(make_console(env.emulator), env.level)
        self._run = next(mask for mask in (RIGHT | B, RIGHT) if mask in env.codes)
        self._leap = self._run | A
        moves = (self._run, self._leap, LEFT, A | LEFT, NO_BUTTONS)
        detours = (NO_BUTTONS, LEFT, RIGHT, self._leap, A | LEFT)
        self._moves = [mask for mask in moves if mask in env.codes]
        self._detours = [mask for mask in detours if mask in env.codes]
        # The same ones every time, so that equal states get equal plans.
        shape = TRIALS, TRIAL_STEPS, env.frame_skip
        self._draws = np.random.default_rng(0).random(shape)
        self.reset()

    @property
    def emulated_frames(self) -> int:
        return self._play.emulator_frames + self._env.emulated_frames

    def decide(self) -> int:
        """Return the action, an index into the environment's action set."""
        ram = self._env.play.ram.tobytes()
        if self._expected[:1] != [ram]:
            self.reset()
        if len(self._plan) < FRESH or self._presses_a(self._plan):
            self._play.restore(self._env.play.snapshot())
            self._plan, after = self._search(self._moment())
            self._expected = [ram, *(moment.ram for moment in after)]
        self._expected.pop(0)
        return self._env.codes.index(self._plan.pop(0))

    def reset(self) -> None:
        """Make a new plan at the next decision."""
        self._plan: list[int] = []
        self._expected: list[bytes] = []

    def _search(self, here: _Moment) -> tuple[list[int], list[_Moment]]:
        """Return the first plan that survives all trials, or most, and its moments."""
        best, most = self._plan or [self._leap], -1
        for plan in islice(self._candidates(here), MAX_CANDIDATES):
            survived = self._survived(here, plan) if self._presses_a(plan) else TRIALS
            if survived > most:
                best, most = plan, survived
            if survived == TRIALS:
                break
        return best, self._roll(here, best)

    def _presses_a(self, plan: list[int]) -> bool:
        """Whether the first step of a plan presses A, which was not held before."""
        return bool(plan[0] & A and not self._env.held & A)

    def _survived(self, here: _Moment, plan: list[int]) -> int:
        """Return how often Mario survives a plan under noise, of `TRIALS`."""
        survived = 0
        noise = self._env.sticky_probability, self._env.sticky_unit == "decision"
        for draws in self._draws:
            self._play.restore(here.snapshot)
            held = self._env.held
            for mask, step_draws in zip(plan, draws, strict=False):
                frames = hold_noisily(held, mask, step_draws, *noise)
                self._play.run(frames.tobytes())
                held = int(frames[-1])
                if self._play.is_over:
                    break
            survived += not self._play.is_over or is_cleared(self._play.ram)
        return survived

    def _candidates(self, here: _Moment) -> Iterator[list[int]]:
        """Yield plans that survive without noise, the most canonical one first."""
        holds = AIR_HOLDS if here.is_rising else ()
        kept = [self._plan] if self._plan else []
        for start in (*kept, *([self._leap] * hold for hold in holds)):
            plan = start + [self._run] * (HORIZON - len(start))
            after = self._roll_out(here, plan)
            if _danger(here, after) is None:
                yield (plan + [self._run] * len(after))[: len(after)]
        yield from self._ways_ahead(here, follow_ups=1)
        # Something else for a while: wait, go back, walk, jump.
        for mask in self._detours:
            for steps in DETOURS:
                after = self._roll(here, [mask] * steps)
                if after[-1].is_lost:
                    break
                ahead = next(self._ways_ahead(after[-1], follow_ups=0), None)
                if ahead:
                    yield [mask] * steps + ahead
                    break
        yield from self._ways_round(here)

    def _ways_ahead(self, here: _Moment, follow_ups: int) -> Iterator[list[int]]:
        """Yield plans that run on, or jump where there is danger."""
        running = self._roll_out(here, [self._run] * HORIZON)
        danger = _danger(here, running)
        if danger is None:
            yield [self._run] * len(running)
        else:
            yield from self._jumps_before(here, running[: danger + 1], follow_ups)

    def _ways_round(self, here: _Moment) -> Iterator[list[int]]:
        """Yield plans that lead to new ground, found by a search in breadth."""
        ways: deque[tuple[_Moment, list[int]]] = deque([(here, [])])
        seen: set[tuple[int, ...]] = set()
        while ways and len(seen) < MAX_PLACES:
            start, plan = ways.popleft()
            for mask in self._moves:
                after = self._roll(start, [mask] * STRIDE)
                end = after[-1]
                ram = np.frombuffer(bytearray(end.ram), np.uint8)
                state = read_state(ram)
                at = state.x_pos // PLACE, state.y_pos // PLACE
                place = (read_area(ram), *at, mask & A)
                if end.is_lost or place in seen:
                    continue
                seen.add(place)
                way = plan + [mask] * len(after)
                is_new = end.progress >= here.progress + PLACE
                if end.is_cleared or (is_new and self._is_safe(end)):
                    yield way
                ways.append((end, way))

    def _is_safe(self, here: _Moment) -> bool:
        """Whether Mario stands, and lives on if he waits, runs or jumps."""
        ways = ([mask] * HORIZON for mask in (NO_BUTTONS, self._run, self._leap))
        lives = (not self._roll_out(here, way)[-1].is_lost for way in ways)
        return here.is_on_ground and any(lives)

    def _jumps_before(
        self, here: _Moment, running: list[_Moment], follow_ups: int
    ) -> Iterator[list[int]]:
        """Yield plans of a jump that passes the danger at the end of ``running``.

        Each holds the steps up to the take-off and the whole jump; wide ranges of
        take-offs come first. Where landing leads to death, ``follow_ups`` further jumps
        are allowed.
        """
        moments = [here, *running]
        wall = running[-1].progress
        # A take-off from the run is better than one from a standstill at the wall.
        contact = len(moments)
        while contact > 1 and moments[contact - 1].progress >= wall:
            contact -= 1
        if running[-1].is_lost:
            # Who falls dies far beyond the edge, and there may be ground between.
            footing = (moment.progress for moment in moments if moment.is_on_ground)
            wall = max(footing, default=wall)
        for take_offs in (range(contact), range(contact, len(moments))):
            narrow: list[list[list[int]]] = []
            for hold in HOLDS:
                # Neighbouring take-offs whose jumps succeed, the latest one first.
                spans: list[list[list[int]]] = [[]]
                for index in reversed(take_offs):
                    plan = self._jump(moments[index], hold, wall, follow_ups)
                    if plan is not None:
                        spans[-1].append([self._run] * index + plan)
                    if plan is None or len(spans[-1]) >= WIDE:
                        spans.append([])
                widest = max(spans, key=len)
                if len(widest) >= WIDE:
                    yield widest[MARGIN]
                elif widest:
                    narrow.append(widest)
            narrow.sort(key=len, reverse=True)
            yield from (span[len(span) // 2] for span in narrow)

    def _jump(
        self, start: _Moment, hold: int, wall: int, follow_ups: int
    ) -> list[int] | None:
        """Return the steps of a jump that lands beyond the wall and survives."""
        if not start.is_on_ground or start.is_over:
            return None
        plan: list[int] = []
        landing = start
        self._play.restore(start.snapshot)
        while len(plan) < 2 or not landing.is_on_ground:
            plan.append(self._leap if len(plan) < hold else self._run)
            landing = self._advance(plan[-1])
            if landing.is_cleared:
                return plan
            if landing.is_over or len(plan) > MAX_FLIGHT:
                return None
        if landing.progress <= wall:
            return None
        after = self._roll(landing, [self._run] * SETTLE)
        # Touching a ledge is not landing: the fall goes on.
        while not (after[-1].is_on_ground or after[-1].is_over):
            after.append(self._advance(self._run))
            if len(after) > MAX_FLIGHT:
                return None
        if not after[-1].is_lost:
            return plan + [self._run] * len(after)
        if follow_ups:
            further = next(self._jumps_before(landing, after, follow_ups - 1), None)
            if further:
                return plan + further
        return None

    def _roll(self, start: _Moment, plan: list[int]) -> list[_Moment]:
        """Return the moments after each step of a plan, up to the episode's end."""
        self._play.restore(start.snapshot)
        moments: list[_Moment] = []
        for mask in plan:
            moments.append(self._advance(mask))
            if moments[-1].is_over:
                break
        return moments

    def _roll_out(self, start: _Moment, plan: list[int]) -> list[_Moment]:
        """Return the moments of a plan and of running on until Mario stands."""
        moments = self._roll(start, plan)
        while not (moments[-1].is_on_ground or moments[-1].is_over):
            moments.append(self._advance(self._run))
            if len(moments) > len(plan) + MAX_FLIGHT:
                break
        return moments

    def _advance(self, mask: int) -> _Moment:
        self._play.run(bytes([mask]) * self._env.frame_skip)
        return self._moment()

    def _moment(self) -> _Moment:
        play = self._play
        is_on_ground = play.ram[Address.FLOAT_STATE] == ON_GROUND
        # A signed byte; up is negative.
        is_rising = not is_on_ground and play.ram[Address.Y_SPEED] >= 128
        return _Moment(
            play.snapshot(),
            play.ram.tobytes(),
            play.odometer.progress,
            play.is_over,
            is_cleared(play.ram),
            is_on_ground,
            is_rising,
        )


def _danger(here: _Moment, after: list[_Moment]) -> int | None:
    """Return the index of the first moment that is lost or stuck, if there is one."""
    progress = [here.progress, *(moment.progress for moment in after)]
    for index, moment in enumerate(after):
        if moment.is_lost:
            return index
        since = index + 1 - STUCK
        if since >= 0 and progress[index + 1] - progress[since] < STUCK_PIXELS:
            return index
    return None
