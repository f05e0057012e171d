"""A wrapper that logs what leads to the present state, in any process."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import gymnasium as gym

from warpzone.envs.replayable import ReplayableEnv, Snapshot


@dataclass(frozen=True, slots=True)
class EpisodeLog:
    """What leads to the present state of an episode again. JSON can say it."""

    generator: Mapping[str, Any]
    """State of the env's generator when the episode began."""
    start: int | None = None
    """Which of the starts it began at; None for the level's own."""
    actions: bytes = b""
    """What each agent step since then asked for."""
    restores: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Number of actions at which the episode was taken up again, and the state of the
    generator then."""
    marks: int = 0
    """Snapshots that a wrapper above held, see `warpzone.envs.curriculum`."""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can say and `from_json` reads."""
        return asdict(self) | {
            "actions": list(self.actions),
            "restores": list(self.restores.items()),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return what `to_json` was made of."""
        restores = dict(stored["restores"])
        return cls(
            **stored | {"actions": bytes(stored["actions"]), "restores": restores}
        )


class ReplayLog(gym.Wrapper):
    """Keeps the `EpisodeLog` of a `ReplayableEnv`, which it wraps at once.

    Snapshots are good in one process only, and some consoles' are not exact; the
    generator's state and the actions since are all that a replay needs.

    Args:
        env: The env.
        starts: States that episodes may begin at. They are known by their number, so
            every process has to make the same ones.
    """

    def __init__(self, env: ReplayableEnv, starts: Sequence[Snapshot] = ()) -> None:
        super().__init__(env)
        self.world = env
        self.starts = starts
        self._log = EpisodeLog({})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode at the level's start."""
        if seed is not None:
            # Seeds the generator and does nothing else.
            gym.Env.reset(self.world, seed=seed)
        self._log = EpisodeLog(self._generator())
        return self.env.reset(options=options)

    def begin_at(self, start: int) -> tuple[Any, dict[str, Any]]:
        """Begin an episode at one of the starts; return what `reset` returns."""
        self._log = EpisodeLog(self._generator(), start)
        return self.world.restore(self.starts[start])

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        log = self._log
        self._log = EpisodeLog(
            log.generator, log.start, log.actions + bytes([action]), log.restores
        )
        return self.env.step(action)

    def mark(self) -> tuple[Snapshot, EpisodeLog]:
        """Return where the episode is, and what led there."""
        return self.world.snapshot(), self._log

    def take_up(self, mark: tuple[Snapshot, EpisodeLog]) -> tuple[Any, dict[str, Any]]:
        """Resume where an episode was; return what `reset` returns there."""
        snapshot, log = mark
        at = len(log.actions)
        earlier = {k: state for k, state in log.restores.items() if k < at}
        self._log = EpisodeLog(
            log.generator,
            log.start,
            log.actions,
            earlier | {at: self._generator()},
        )
        return self.world.restore(snapshot)

    def log(self) -> EpisodeLog:
        """Return what leads here again. There must have been an episode."""
        return self._log

    def replay(self, log: EpisodeLog) -> Iterator[Any]:
        """Play an episode up to where it was logged; the generator is as it was, too.

        Yields:
            The observation before each agent step, and at the end.
        """
        self.world.np_random.bit_generator.state = dict(log.generator)
        observation, _ = self.reset() if log.start is None else self.begin_at(log.start)
        for at in range(len(log.actions) + 1):
            if (generator := log.restores.get(at)) is not None:
                self.world.np_random.bit_generator.state = dict(generator)
                observation, _ = self.take_up(self.mark())
            yield observation
            if at < len(log.actions):
                observation, *_ = self.step(log.actions[at])

    def _generator(self) -> Mapping[str, Any]:
        # Makes the generator if there is none yet.
        return self.world.np_random.bit_generator.state
