"""CartPole, the classic, as a world: it has a state and no pixels."""

import hashlib
from collections.abc import Mapping
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv as Game

from warpzone.envs.replayable import ObsType, ReplayableEnv

# Half of the track, in metres.
_TRACK = 2.4
# Idle frames that the pole stands.
_MAX_NO_OPS = 32


class CartPoleEnv(ReplayableEnv):
    """A pole on a cart, to be balanced by pushing the cart to and fro.

    Gymnasium's ``CartPole-v1``, Barto, Sutton and Anderson 1983,
    https://doi.org/10.1109/TSMC.1983.6313077, but for its start: the pole stands
    upright, and the idle frames, in which the cart is pushed to the left and to the
    right by turns, make every episode another one.

    ## Action Space

    `Discrete(2)`: 0 pushes to the left, 1 to the right.

    ## Observation Space

    `state`: `Box(-inf, inf, (4,), float32)`: position of the cart (m), its speed (m/s),
    angle of the pole (rad), its angular speed (rad/s).

    ## Rewards

    1 for each agent step.

    ## Episode End

    | cause | how | what it is |
    |---|---|---|
    | `balanced` | `time_limit` agent steps; `info["is_success"]` | terminated |
    | `fell` | the pole leans by more than 12 degrees | terminated |
    | `left` | the cart leaves the track | terminated |

    Args:
        level: `default`.
        time_limit: In agent steps (0.02 s).
        no_op_max: An episode begins with 0 to this many idle frames, 32 at most: after
            more of them the pole has fallen.
        sticky_probability: Per frame, the probability that the last push is repeated.
        sticky_unit: `frame` or `decision`, which are the same here.
        obs_type: `state`.
        render_mode: `rgb_array` or nothing.
    """

    WORLD = "cartpole"
    LEVELS = ("default",)
    FRAMES_PER_SECOND = 50
    PROGRESS = "time balanced (agent steps)"
    OBS_TYPES = ("state",)
    SUCCESSES = ("balanced",)
    FAILURES = ("fell", "left")
    CODES = range(2)
    KEYS = ("left", "right")

    codes = (0, 1)
    version = f"gymnasium {gym.__version__}"

    def __init__(
        self,
        level: str = "default",
        *,
        time_limit: int = 500,
        no_op_max: int = 30,
        sticky_probability: float = 0.25,
        sticky_unit: str = "frame",
        obs_type: ObsType = "state",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            level,
            frame_skip=1,
            time_limit=time_limit,
            stuck_limit=0,
            no_op_max=no_op_max,
            sticky_probability=sticky_probability,
            sticky_unit=sticky_unit,
            obs_type=obs_type,
            render_mode=render_mode,
        )
        if level not in self.LEVELS:
            raise ValueError(f"no level {level!r}: there is default")
        if no_op_max > _MAX_NO_OPS:
            raise ValueError(
                f"no_op_max must be at most {_MAX_NO_OPS}, got {no_op_max}: the pole "
                "falls in more idle frames"
            )
        self._game = Game()
        self._frames = 0
        self._restart()
        self.action_space = gym.spaces.Discrete(len(self.codes))
        box = gym.spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.observation_space = self._space({"state": box})

    @staticmethod
    def describe_state(states: np.ndarray, /) -> np.ndarray:
        """Return states in units that make them about one."""
        return (states / np.array([_TRACK, 2.0, 0.2095, 2.0])).astype(np.float32)

    @staticmethod
    def script(states: np.ndarray, /) -> np.ndarray:
        """Push to the side to which the pole leans."""
        return (states[:, 2] > 0).astype(np.uint8)

    @property
    def progress(self) -> int:
        # One frame is one agent step; a replay counts no agent steps.
        return len(self.frame_actions) - self.no_ops

    @property
    def emulated_frames(self) -> int:
        return self._frames

    @staticmethod
    def code_name(code: int, /) -> str:
        return ("left", "right")[code]

    @staticmethod
    def kwargs_for(version: str) -> Mapping[str, Any] | None:
        return {} if version.rpartition(" ")[0] == "gymnasium" else None

    @property
    def state(self) -> np.ndarray:
        """Position, speed, angle, angular speed: shape ``(4,)``, float64."""
        return np.asarray(self._game.state, np.float64)

    def state_sha256(self) -> str:
        return hashlib.sha256(self.state.tobytes()).hexdigest()

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Draw the cart and the pole, shape ``(400, 600, 3)``, uint8."""
        if self.render_mode is None:
            return None
        frame = np.full((400, 600, 3), 255, np.uint8)
        x, _, angle, _ = self.state
        left, top = int(600 * (x / _TRACK + 1) / 2), 300
        tip = (int(left + 200 * np.sin(angle)), int(top - 200 * np.cos(angle)))
        cv2.line(frame, (0, top), (600, top), (0, 0, 0), 1)
        corners = (left - 30, top - 15), (left + 30, top + 15)
        cv2.rectangle(frame, *corners, (0, 0, 0), -1)
        cv2.line(frame, (left, top), tip, (202, 152, 101), 12)
        return frame

    def _restart(self) -> None:
        self._game.state = np.zeros(4)
        self._game.steps_beyond_terminated = None
        self._over = False

    def _idle_codes(self, frames: int) -> bytes:
        return bytes(frame % 2 for frame in range(frames))

    def _run(self, codes: bytes) -> int:
        for played, code in enumerate(codes, start=1):
            _, _, self._over, _, _ = self._game.step(code)
            self._frames += 1
            if self._over:
                return played
        return len(codes)

    def _cause(self) -> str | None:
        if self._over:
            return "left" if abs(self.state[0]) > _TRACK else "fell"
        return "balanced" if self.progress >= self.time_limit else None

    def _reward(self) -> float:
        return 1.0

    def _observe(self) -> dict[str, np.ndarray]:
        return {"state": self.state.astype(np.float32)}

    def _details(self) -> dict[str, Any]:
        return {"place": None}

    def _save(self) -> Any:
        return self._game.state, self._over

    def _load(self, saved: Any) -> None:
        self._game.state, self._over = saved
        self._game.steps_beyond_terminated = None


class Demonstrator:
    """Pushes the cart to where the pole falls, and a little towards the middle."""

    def __init__(self, env: CartPoleEnv) -> None:
        self._env = env

    @property
    def emulated_frames(self) -> int:
        return self._env.emulated_frames

    def reset(self) -> None:
        pass

    def decide(self) -> int:
        x, speed, angle, turn = self._env.state
        return int(angle + 0.5 * turn + 0.02 * x + 0.05 * speed > 0)
