"""The base of the worlds: an env whose episodes replay exactly from their actions."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np

from warpzone.envs.compiled import compiled

type ObsType = str | Sequence[str]
"""Keys of an observation: one gives an array, several a dictionary of arrays."""


class Snapshot(NamedTuple):
    """A state of an episode, all but its source of noise.

    It is good for any env of the same kind in this process, until the one that it comes
    from is closed.
    """

    game: Any
    no_ops: int
    frame_actions: bytes
    decisions: bytes
    episode_return: float
    idle_steps: int


class View(NamedTuple):
    """What the screen shows of a world that is larger, in its pixels.

    A console may draw it one frame later: then `render` shows the view before.
    """

    area: int
    """Which part of the world; parts have nothing in common."""
    left: int
    """Where the screen's left edge is in the area."""
    x: int
    """Where the middle of the player is on the screen, from the left."""
    y: int
    """From the top."""


class ReplayableEnv(gym.Env):
    """A world that is played frame by frame, under noise, and logs what was done.

    An action is an index into `codes`. Its code, a byte, is held for ``frame_skip``
    frames, fewer when the episode ends on the way. Noise is drawn from the env's own
    generator, which ``reset(seed=...)`` seeds; how many numbers are drawn does not
    depend on the actions. What was held in each frame is the whole episode: `begin`
    and `play_step` with the same bytes lead to the same state.

    A subclass defines the class attributes, the methods that are empty here, and its
    spaces; its docstring says what the arguments are.

    Attributes:
        no_ops: Idle frames at the start of the episode.
        frame_actions: What was held in each frame since the level's start.
        decisions: What each agent step asked for.
        idle_steps: Agent steps since there was new ground.
        cause: What ended the episode, or None.
        out: Where the next observation may be written, by key, or None.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 60}  # noqa: RUF012

    WORLD: ClassVar[str]  # its name in params.yaml
    LEVELS: ClassVar[tuple[str, ...]]
    FRAMES_PER_SECOND: ClassVar[int]
    PROGRESS: ClassVar[str]  # what it counts, for labels: ``distance (pixels)``
    OBS_TYPES: ClassVar[tuple[str, ...]]  # keys of observations; ``state`` is one
    # What ends an episode, beside ``stuck`` and ``time_limit``.
    SUCCESSES: ClassVar[tuple[str, ...]]
    FAILURES: ClassVar[tuple[str, ...]]
    # Further columns of an episode table and their types, taken from ``info``.
    COLUMNS: ClassVar[Mapping[str, str]] = {}
    CODES: ClassVar[range] = range(256)  # what a frame can hold
    # What a code's name consists of, with ``+`` between, as a controller has them.
    KEYS: ClassVar[tuple[str, ...]] = ()
    # Arguments that decide what observations and actions mean.
    INTERFACE: ClassVar[tuple[str, ...]] = ("frame_skip",)

    codes: tuple[int, ...]
    version: str  # what plays it, as recordings name it: ``nes-py 9.0.1``

    def __init__(
        self,
        level: str,
        *,
        frame_skip: int,
        time_limit: int,
        stuck_limit: int,
        no_op_max: int,
        sticky_probability: float,
        sticky_unit: str,
        obs_type: ObsType,
        render_mode: str | None,
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be rgb_array, got {render_mode!r}")
        for name, value, least, most in (
            ("frame_skip", frame_skip, 1, 60),
            ("time_limit", time_limit, 1, 10**6),
            ("stuck_limit", stuck_limit, 0, 10**6),
            ("no_op_max", no_op_max, 0, 300),
        ):
            if type(value) is not int or not least <= value <= most:
                raise ValueError(
                    f"{name} must be a whole number, {least} to {most}, got {value!r}"
                )
        if not 0 <= sticky_probability < 1:
            raise ValueError(
                f"sticky_probability must be in [0, 1), got {sticky_probability!r}"
            )
        if sticky_unit not in ("frame", "decision"):
            raise ValueError(
                f"sticky_unit must be frame or decision, got {sticky_unit!r}"
            )
        self._is_dict = not isinstance(obs_type, str)
        self.obs_keys = (obs_type,) if isinstance(obs_type, str) else tuple(obs_type)
        if not self.obs_keys or not set(self.obs_keys) <= set(self.OBS_TYPES):
            raise ValueError(
                f"obs_type must be of {', '.join(self.OBS_TYPES)}, got {obs_type!r}"
            )
        self.level = level
        self.frame_skip = frame_skip
        self.time_limit = time_limit
        self.stuck_limit = stuck_limit
        self.no_op_max = no_op_max
        self.sticky_probability = sticky_probability
        self.sticky_unit = sticky_unit
        self.render_mode = render_mode
        fps = self.FRAMES_PER_SECOND / frame_skip
        self.metadata = self.metadata | {"render_fps": fps}
        self.no_ops = 0
        self.frame_actions = bytearray()
        self.decisions = bytearray()
        self.idle_steps = 0
        self.cause: str | None = "closed"
        self.out: dict[str, np.ndarray] | None = None

    # What a world is.

    @property
    def progress(self) -> float:
        """How far the episode has got, in the world's unit. It never falls."""
        ...

    @property
    def emulated_frames(self) -> int:
        """Frames since the env was made, resets and all."""
        ...

    @property
    def view(self) -> View | None:
        """What the screen shows; None where it always shows all."""
        return None

    @property
    def ground(self) -> float:
        """What has to rise for an episode not to be stuck; progress, as a rule."""
        return self.progress

    def state_sha256(self) -> str:
        """Return the SHA-256 of the world's state, as hexadecimal digits."""
        ...

    @staticmethod
    def describe_state(states: np.ndarray, /) -> np.ndarray:
        """Return states as a network reads them, ``(N, F)``, float32."""
        ...

    @staticmethod
    def script(states: np.ndarray, /) -> np.ndarray:
        """Return the codes that a fixed script holds in states: what one tries first.

        It measures how much the task asks for. Of shape ``(N,)``, uint8.
        """
        ...

    @staticmethod
    def code_name(code: int, /) -> str:
        """Return what people call a code, for example ``right+A``."""
        ...

    @staticmethod
    def rom_sha256() -> str | None:
        """Return the SHA-256 of the cartridge image, where there is one."""
        return None

    @staticmethod
    def kwargs_for(version: str) -> Mapping[str, Any] | None:
        """Return the arguments of an env of a `version`, whatever its number.

        None if there is none here.
        """
        ...

    # Go to the level's first frame, the same one every time.
    def _restart(self) -> None: ...

    def _enter(self) -> None:
        """Go to `level`, which was another one, where a world has several."""

    def _idle_codes(self, frames: int) -> bytes:
        """Return what is held in so many idle frames."""
        return bytes(frames)

    # Play frames and return how many: fewer when the episode ends on the way.
    def _run(self, codes: bytes) -> int: ...

    def _advance(self, wanted: int, held: bytes | None) -> float:
        """Play the frames of an agent step, log them, and return the reward."""
        if held is None:
            before = self.frame_actions[-1] if self.frame_actions else wanted
            draws = self.np_random.random(self.frame_skip)
            noise = self.sticky_probability, self.sticky_unit == "decision"
            codes = hold_noisily(before, wanted, draws, *noise)
            held = codes.tobytes()
        self.play_frames(held)
        return self._reward()

    # Return which of `SUCCESSES` or `FAILURES` has happened, if any.
    def _cause(self) -> str | None: ...

    # Return what happened since the last call, or since `_restart`, is worth.
    def _reward(self) -> float: ...

    # Return what is seen after an agent step or at the start, by key: `out` if it is
    # given and the world can write there, else new arrays.
    def _observe(self) -> dict[str, np.ndarray]: ...

    def _observe_again(self) -> dict[str, np.ndarray]:
        """Return the same once more, in new arrays."""
        return self._observe()

    # Return the world's own entries of ``info``.
    def _details(self) -> dict[str, Any]: ...

    # Return the world's state.
    def _save(self) -> Any: ...

    # Bring back what `_save` returned.
    def _load(self, saved: Any) -> None: ...

    # What every world does.

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.begin(int(self.np_random.integers(self.no_op_max + 1)))

    def begin(self, no_ops: int) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with so many idle frames; return what `reset` returns."""
        self._restart()
        self.no_ops = no_ops
        self.frame_actions = bytearray()
        self.decisions = bytearray()
        self._episode_return = 0.0
        self.idle_steps = 0
        self.play_frames(self._idle_codes(no_ops))
        self._reward()
        self.cause = None
        return self._packed(self._observe()), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Hold an action's code for one agent step.

        Raises:
            ValueError: If there is no such action.
            RuntimeError: If the episode has ended.
        """
        if self.cause is not None:
            raise RuntimeError("the episode has ended: call reset() before step()")
        # NumPy's integers compare slowly.
        index = operator.index(action)
        if not 0 <= index < len(self.codes):
            raise ValueError(
                f"no action {action}: there are {len(self.codes)} actions, from 0"
            )
        return self.play_step(self.codes[index])

    def set_level(self, level: str) -> None:
        """Go to another level, whose episodes `reset` begins.

        Raises:
            ValueError: If there is no such level.
        """
        if level not in self.LEVELS:
            there_are = " to ".join(dict.fromkeys((self.LEVELS[0], self.LEVELS[-1])))
            raise ValueError(f"no level {level!r}: {self.WORLD} has {there_are}")
        self.level = level
        self.cause = "closed"
        self._enter()

    def play_step(
        self, wanted: int, held: bytes | None = None
    ) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play an agent step.

        Args:
            wanted: The code that is asked for.
            held: What is held in each frame. Otherwise noise decides it.
        """
        ground = self.ground
        self.decisions.append(wanted)
        reward = self._advance(wanted, held)
        self._episode_return += reward
        self.idle_steps = 0 if self.ground > ground else self.idle_steps + 1
        cause = self._cause()
        if cause is None and 0 < self.stuck_limit <= self.idle_steps:
            cause = "stuck"
        terminated = cause is not None
        truncated = not terminated and len(self.decisions) >= self.time_limit
        self.cause = "time_limit" if truncated else cause
        seen = self._packed(self._observe())
        return seen, reward, terminated, truncated, self._info()

    def play_frames(self, codes: bytes) -> None:
        """Play frames outside of any agent step, and log them."""
        self.frame_actions += codes[: self._run(codes)]

    @property
    def outcome(self) -> str:
        """Return ``success``, ``failure`` or ``unfinished``."""
        cause = self._cause()
        if cause is None:
            return "unfinished"
        return "success" if cause in self.SUCCESSES else "failure"

    @property
    def interface(self) -> dict[str, Any]:
        """What observations and actions mean: equal for envs that an agent can play."""
        return {name: getattr(self, name) for name in self.INTERFACE}

    def snapshot(self) -> Snapshot:
        """Return where the episode is."""
        return Snapshot(
            self._save(),
            self.no_ops,
            bytes(self.frame_actions),
            bytes(self.decisions),
            self._episode_return,
            self.idle_steps,
        )

    def restore(self, snapshot: Snapshot) -> tuple[Any, dict[str, Any]]:
        """Resume where an episode was; return what `reset` would return there."""
        self._load(snapshot.game)
        self.no_ops = snapshot.no_ops
        self.frame_actions = bytearray(snapshot.frame_actions)
        self.decisions = bytearray(snapshot.decisions)
        self._episode_return = snapshot.episode_return
        self.idle_steps = snapshot.idle_steps
        self.cause = None
        return self._packed(self._observe_again()), self._info()

    def _packed(self, seen: dict[str, np.ndarray]) -> Any:
        return seen if self._is_dict else seen[self.obs_keys[0]]

    def _space(self, spaces: Mapping[str, gym.Space]) -> gym.Space:
        """Return the observation space, given that of each key."""
        if self._is_dict:
            return gym.spaces.Dict({key: spaces[key] for key in self.obs_keys})
        return spaces[self.obs_keys[0]]

    def _info(self) -> dict[str, Any]:
        info = self._details()
        info["reward"] = self._episode_return
        info["steps"] = len(self.decisions)
        info["progress"] = self.progress
        info["cause"] = self.cause
        info["is_success"] = self.cause in self.SUCCESSES
        return info


@compiled
def hold_noisily(
    held: int,
    wanted: int,
    draws: np.ndarray,
    sticky_probability: float,
    is_per_decision: bool,
) -> np.ndarray:
    """Return what is held in each frame of an agent step, uint8.

    It is the code of the frame before, at first ``held``, where the frame's draw, a
    number in [0, 1), is below ``sticky_probability``. Per decision, the first frame's
    draw counts for all of them.
    """
    codes = np.empty(len(draws), np.uint8)
    for frame in range(len(draws)):
        draw = draws[0 if is_per_decision else frame]
        if not draw < sticky_probability:
            held = wanted
        codes[frame] = held
    return codes
