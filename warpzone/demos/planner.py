"""A demonstrator that looks ahead on snapshots of the console.

It runs right for as long as running is safe. Ahead of danger (death, or a wall that
stops Mario) it tries jumps from every step before it, takes the longest hold with a
wide range of take-offs that survive, and takes off a fixed margin before the last of
them. So equal places get equal buttons, which is what makes the play easy to imitate,
and a sticky button does not spoil it. What the noise changes is planned again from
where Mario really is. It knows the rules of the game only through the console.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from warpzone.demos.recording import Recording
from warpzone.game.actions import LEFT, NO_BUTTONS, RIGHT, A, B
from warpzone.game.consoles import make_emulator
from warpzone.game.env import MarioEnv
from warpzone.game.level import LevelPlay, PlaySnapshot
from warpzone.game.state import is_cleared, is_on_ground

RUN = RIGHT | B
JUMP = RIGHT | A | B

# All lengths are agent steps.
HORIZON = 16
"""How far running is looked ahead."""
FRESH = 8
"""A plan shorter than this is looked at again."""
HOLDS = (8, 5, 3, 1)
"""How long A is held in a jump, in order of preference."""
WIDE = 3
"""Take-offs in a row that survive and are enough to choose a hold."""
MARGIN = 2
"""Between the chosen take-off and the last one that survives."""
SETTLE = 6
"""How long Mario must run on after a landing, and stand again, to call it one."""
MAX_FLIGHT = 24
STUCK = 3
"""Running that covers less than `STUCK_PIXELS` in this time is stopped by a wall."""
STUCK_PIXELS = 6
DETOURS = (1, 2, 4, 6, 8, 12)
"""How long something else than running is tried when no jump helps."""


@dataclass(frozen=True, slots=True)
class _Moment:
    """The state of the console after an agent step."""

    snapshot: PlaySnapshot
    ram: bytes
    progress: int
    is_over: bool
    is_cleared: bool
    is_on_ground: bool

    @property
    def is_lost(self) -> bool:
        return self.is_over and not self.is_cleared


class Planner:
    """Plays in an environment, and tries things out on a console of its own.

    Args:
        env: Its action set must have the buttons of ``right_only``.
    """

    def __init__(self, env: MarioEnv) -> None:
        self._env = env
        # Restoring is not exact to the last frame, see `Emulator.snapshot`: the
        # environment's own console is never restored, so that its log replays.
        self._play = LevelPlay(make_emulator(env.game.emulator), env.game.level)
        masks = (NO_BUTTONS, LEFT, RIGHT, A | LEFT, A)
        self._detours = [mask for mask in masks if mask in env.buttons]
        self._forget()

    @property
    def emulator_frames(self) -> int:
        """Frames emulated so far, to plan and to play."""
        return self._play.emulator_frames + self._env.play.emulator_frames

    def demonstrate(self, seed: int) -> Recording:
        """Play an episode under the environment's noise."""
        self._env.reset(seed=seed)
        self._forget()
        ended = False
        while not ended:
            _, _, terminated, truncated, _ = self._env.step(self.decide())
            ended = terminated or truncated
        return Recording.of_episode(self._env, seed)

    def decide(self) -> int:
        """Return the action, an index into the environment's action set."""
        ram = bytes(self._env.play.ram)
        as_expected = bool(self._expected) and self._expected[0] == ram
        if not as_expected or len(self._plan) < FRESH:
            self._play.restore(self._env.play.snapshot())
            here = self._moment()
            self._plan, after = self._search(here)
            self._expected = [ram, *(moment.ram for moment in after)]
        self._expected.pop(0)
        return self._env.buttons.index(self._plan.pop(0))

    def _forget(self) -> None:
        self._plan: list[int] = []
        self._expected: list[bytes] = []

    def _search(self, here: _Moment) -> tuple[list[int], list[_Moment]]:
        """Return a plan of at least one step, safe if one is found, and its moments."""
        kept = self._plan + [RUN] * (HORIZON - len(self._plan))
        for plan in (kept, [RUN] * HORIZON):
            after = self._roll(here, plan)
            danger = _danger(here, after)
            if danger is None:
                return plan[: len(after)], after
        jump = self._jump_before(here, after[: danger + 1], follow_ups=1)
        plan = jump or self._detour(here) or self._plan or [JUMP]
        return plan, self._roll(here, plan)

    def _jump_before(
        self, here: _Moment, running: list[_Moment], follow_ups: int
    ) -> list[int] | None:
        """Plan a jump that passes the danger at the end of ``running``.

        Args:
            here: Where the run begins.
            running: The moments after each of its steps; the last one is lost or stuck.
            follow_ups: Further jumps allowed where landing leads to death.

        Returns:
            The steps up to the take-off and the whole jump; none if there is no such
            jump.
        """
        moments = [here, *running]
        wall = running[-1].progress
        # A take-off from the run is better than one from a standstill at the wall.
        contact = len(moments)
        while contact > 1 and moments[contact - 1].progress >= wall:
            contact -= 1
        for take_offs in (range(contact), range(contact, len(moments))):
            widest: list[list[int]] = []
            for hold in HOLDS:
                for span in self._spans(moments, take_offs, hold, follow_ups):
                    if len(span) > len(widest):
                        widest = span
                if len(widest) >= WIDE:
                    break
            if widest:
                return widest[min(MARGIN, len(widest) - 1)]
        return None

    def _spans(
        self, moments: list[_Moment], take_offs: range, hold: int, follow_ups: int
    ) -> Iterator[list[list[int]]]:
        """Yield runs of neighbouring take-offs whose jumps succeed, latest first.

        Each run lists its plans, latest take-off first, and ends at `WIDE` of them.
        """
        span: list[list[int]] = []
        for index in reversed(take_offs):
            plan = self._jump(moments[index], hold, moments[-1].progress, follow_ups)
            if plan is not None:
                span.append([RUN] * index + plan)
            if span and (plan is None or len(span) >= WIDE):
                yield span
                span = []
        if span:
            yield span

    def _jump(
        self, start: _Moment, hold: int, wall: int, follow_ups: int
    ) -> list[int] | None:
        """Return the steps of a jump that lands beyond the wall and survives."""
        if not start.is_on_ground or start.is_over:
            return None
        plan: list[int] = []
        self._play.restore(start.snapshot)
        while True:
            plan.append(JUMP if len(plan) < hold else RUN)
            landing = self._advance(plan[-1])
            if landing.is_cleared:
                return plan
            if landing.is_over or len(plan) > MAX_FLIGHT:
                return None
            if landing.is_on_ground and len(plan) > 1:
                break
        if landing.progress <= wall:
            return None
        after = self._roll(landing, [RUN] * SETTLE)
        # Touching a ledge is not landing: the fall goes on.
        while not (after[-1].is_on_ground or after[-1].is_over):
            after.append(self._advance(RUN))
            if len(after) > MAX_FLIGHT:
                return None
        if not after[-1].is_lost:
            return plan + [RUN] * len(after)
        if follow_ups:
            further = self._jump_before(landing, after, follow_ups - 1)
            if further:
                return plan + further
        return None

    def _detour(self, here: _Moment) -> list[int] | None:
        """Plan something else for a while: hold a jump, wait, walk, go back."""
        for mask in (JUMP, *self._detours):
            for steps in DETOURS:
                after = self._roll(here, [mask] * steps)
                if after[-1].is_lost:
                    break
                running = self._roll(after[-1], [RUN] * HORIZON)
                danger = _danger(after[-1], running)
                if danger is None:
                    return [mask] * steps + [RUN] * len(running)
                jump = self._jump_before(after[-1], running[: danger + 1], follow_ups=0)
                if jump:
                    return [mask] * steps + jump
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

    def _advance(self, mask: int) -> _Moment:
        self._play.run(bytes([mask]) * self._env.game.frame_skip)
        return self._moment()

    def _moment(self) -> _Moment:
        play = self._play
        return _Moment(
            snapshot=play.snapshot(),
            ram=bytes(play.ram),
            progress=play.odometer.progress,
            is_over=play.is_over,
            is_cleared=is_cleared(play.ram),
            is_on_ground=is_on_ground(play.ram),
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
