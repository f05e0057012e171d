"""Super Mario Bros as a standard Gymnasium environment."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Self

import gymnasium as gym
import numpy as np

from warpzone.core.params import GameParams, NoiseParams
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.level import LevelPlay, PlaySnapshot
from warpzone.envs.mario.observation import ObsType, make_view
from warpzone.envs.mario.rewards import Ledger, reward
from warpzone.envs.mario.state import GameState, read_state
from warpzone.envs.nes.buttons import NO_BUTTONS


@dataclass(frozen=True, slots=True)
class EpisodeLog:
    """What leads to the present state of a `MarioEnv` again, in any process."""

    noise: Mapping[str, Any]
    """The state of its source of noise before the episode began."""
    decisions: bytes
    """What each agent step asked for."""
    start: int | None = None
    """Which of its `starts` a `warpzone.envs.curriculum.PracticeEnv` began at."""
    retries: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Agent steps from which it tried again, and the state of its source then."""
    marks: int = 0
    """How many states it could try again from."""

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can say and `from_json` reads."""
        return asdict(self) | {
            "decisions": list(self.decisions),
            "retries": list(self.retries.items()),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Return what `to_json` was made of."""
        decisions, retries = bytes(stored["decisions"]), dict(stored["retries"])
        return cls(**stored | {"decisions": decisions, "retries": retries})


class Mark(NamedTuple):
    """A state of an episode, all but its source of noise.

    It is good for any `MarioEnv` of the same game and the same type of observations in
    this process, until the one that it comes from is closed.
    """

    play: PlaySnapshot
    observation: np.ndarray
    no_ops: int
    frame_buttons: bytes
    decisions: bytes
    episode_reward: float
    idle_steps: int
    ledger: Ledger


class MarioEnv(gym.Env[np.ndarray, int | np.integer]):
    """One life on one level, seen as a stack of grey pictures.

    An action is an index into the action set and is held for ``frame_skip`` emulator
    frames, fewer when Mario dies or clears the level on the way. Death and the clear
    terminate; the time limit and the stuck limit truncate.

    Observations have the shape ``(frame_stack, height, width)``, uint8, oldest picture
    first; each is the screen after the last frame of an agent step. After a reset all
    of them show the first screen.

    ``info`` holds the thirteen figures that are usually logged for this game, as of the
    last frame: ``reward`` (summed since the episode's start), ``x_pos``, ``x_pos_max``
    (see `warpzone.envs.mario.level.Odometer`), ``y_pos``, ``score``, ``coins``,
    ``time``, ``life``, ``status``, ``flag_get``, ``world``, ``stage`` and ``steps``
    (agent steps).

    Args:
        game: The learning problem.
        noise: What keeps an agent from replaying one fixed sequence of buttons. It is
            drawn from the environment's own generator, which ``reset(seed=...)`` seeds;
            how many numbers are drawn does not depend on the actions.
        render_mode: ``rgb_array`` or nothing.
        obs_type: ``ram`` makes observations of the console's memory instead: shape
            ``(2048,)``, uint8.

    Attributes:
        play: The level and its console.
        no_ops: Idle frames at the start of the episode.
        frame_buttons: What was held in each frame since the level's start.
        decisions: What each agent step asked for.
        idle_steps: Agent steps since there was new ground.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  # Gymnasium declares it so.
        "render_modes": ["rgb_array"],
        "render_fps": 60,
    }

    def __init__(
        self,
        game: GameParams,
        noise: NoiseParams,
        render_mode: str | None = None,
        obs_type: ObsType = "pictures",
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode must be rgb_array, got {render_mode!r}")
        self.game = game
        self.noise = noise
        self.render_mode = render_mode
        self.buttons = ACTION_SETS[game.action_set]
        self._view = make_view(game, obs_type)
        self.action_space = gym.spaces.Discrete(len(self.buttons))
        self.observation_space = gym.spaces.Box(0, 255, self._view.shape, np.uint8)
        self.play = LevelPlay(make_console(game.emulator), game.level)
        self._ended = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode at the level's start, after some idle frames."""
        super().reset(seed=seed)
        return self._begin_with_noise()

    def begin(self, no_ops: int) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode with so many idle frames; what `reset` returns."""
        self.play.restart()
        self.no_ops = no_ops
        self.frame_buttons = bytearray()
        self.decisions = bytearray()
        self._play(bytes([NO_BUTTONS]) * self.no_ops)
        self._episode_reward = 0.0
        self.idle_steps = 0
        self._ended = False
        self._before = self._ledger(state := read_state(self.play.ram))
        self._view.fill(self.play.emulator, self.held)
        return self._view.observation.copy(), self._info(state)

    def step(
        self, action: int | np.integer
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold the action's buttons for one agent step.

        Raises:
            ValueError: If there is no such action.
            RuntimeError: If the episode has ended.
        """
        if self._ended:
            raise RuntimeError("the episode has ended: call reset() before step()")
        if not 0 <= action < len(self.buttons):
            raise ValueError(
                f"no action {action}: the set {self.game.action_set!r} has "
                f"{len(self.buttons)} actions, from 0"
            )
        wanted = self.buttons[action]
        return self.play_step(wanted, self._with_noise(wanted))

    def play_step(
        self, wanted: int, held: bytes
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play an agent step of which it is known what was held.

        Args:
            wanted: The buttons that were asked for.
            held: Those that the console reads, one mask a frame.
        """
        self.decisions.append(wanted)
        self._play(held)
        state = read_state(self.play.ram)
        before, self._before = self._before, self._ledger(state)
        step_reward = reward(before, self._before, self.game.reward)
        self._episode_reward += step_reward
        moved = self._before.progress > before.progress
        self.idle_steps = 0 if moved else self.idle_steps + 1
        terminated = state.dead or state.flag_get
        truncated = not terminated and self._is_out_of_time()
        self._ended = terminated or truncated
        self._view.push(self.play.emulator, self.held)
        observation = self._view.observation.copy()
        return observation, step_reward, terminated, truncated, self._info(state)

    def log(self) -> EpisodeLog:
        """Return what leads here again. There must have been an episode."""
        return EpisodeLog(self._noise_at_start, bytes(self.decisions))

    def replay(self, log: EpisodeLog) -> np.ndarray:
        """Play an episode up to where it was logged and return the observation.

        All is as it was, the source of noise too.
        """
        # Makes the source if there is none yet.
        self.np_random.bit_generator.state = dict(log.noise)
        observation, _ = self._begin_as(log)
        for buttons in log.decisions[len(self.decisions) :]:
            self._before_step_of(log)
            observation, *_ = self.step(self.buttons.index(buttons))
        self._before_step_of(log)
        return observation

    def mark(self) -> Mark:
        """Return where the episode is."""
        return Mark(
            self.play.snapshot(),
            self._view.observation.copy(),
            self.no_ops,
            bytes(self.frame_buttons),
            bytes(self.decisions),
            self._episode_reward,
            self.idle_steps,
            self._before,
        )

    def go_to(self, mark: Mark) -> tuple[np.ndarray, dict[str, Any]]:
        """Go on from where an episode was; what `reset` would return there."""
        self.play.restore(mark.play)
        self._view.restore(mark.observation)
        self.no_ops = mark.no_ops
        self.frame_buttons = bytearray(mark.frame_buttons)
        self.decisions = bytearray(mark.decisions)
        self._episode_reward = mark.episode_reward
        self.idle_steps = mark.idle_steps
        self._before = mark.ledger
        self._ended = False
        return mark.observation.copy(), self._info(read_state(self.play.ram))

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the screen in colour, shape ``(240, 256, 3)``, uint8."""
        return self.play.emulator.read_rgb() if self.render_mode else None

    def close(self) -> None:
        """Release the console. Closing twice is allowed."""
        self._ended = True
        self.play.emulator.close()

    @property
    def held(self) -> int:
        """The buttons of the last frame."""
        return self.frame_buttons[-1] if self.frame_buttons else NO_BUTTONS

    @property
    def is_stuck(self) -> bool:
        """Whether there has been no new ground for so long that the episode ends."""
        return 0 < self.game.stuck_limit <= self.idle_steps

    def _begin_with_noise(self) -> tuple[np.ndarray, dict[str, Any]]:
        self._noise_at_start = self.np_random.bit_generator.state
        return self.begin(int(self.np_random.integers(self.noise.no_op_max + 1)))

    def _begin_as(self, log: EpisodeLog) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin the episode that is to be replayed."""
        return self._begin_with_noise()

    def _before_step_of(self, log: EpisodeLog) -> None:
        """Do what else had happened by then, in the episode that is replayed."""

    def _with_noise(self, wanted: int) -> bytes:
        """What is held in each frame of an agent step that asks for ``wanted``."""
        held = self.frame_buttons[-1] if self.frame_buttons else wanted
        draws = self.np_random.random(self.game.frame_skip)
        return hold_noisily(held, wanted, draws, self.noise)

    def _play(self, buttons: bytes) -> None:
        self.frame_buttons += buttons[: self.play.run(buttons)]

    def _is_out_of_time(self) -> bool:
        return self.is_stuck or len(self.decisions) >= self.game.time_limit

    def _ledger(self, state: GameState) -> Ledger:
        return Ledger(
            progress=self.play.odometer.progress,
            score=state.score,
            coins=state.coins,
            time=state.time,
            dead=state.dead,
            cleared=state.flag_get,
        )

    def _info(self, state: GameState) -> dict[str, Any]:
        return {
            "reward": self._episode_reward,
            "x_pos": state.x_pos,
            "x_pos_max": self.play.odometer.x_pos_max,
            "y_pos": state.y_pos,
            "score": state.score,
            "coins": state.coins,
            "time": state.time,
            "life": state.life,
            "status": state.status,
            "flag_get": state.flag_get,
            "world": state.world,
            "stage": state.stage,
            "steps": len(self.decisions),
        }


def hold_noisily(
    held: int, wanted: int, draws: np.ndarray, noise: NoiseParams
) -> bytes:
    """Return what is held in each frame of an agent step.

    Args:
        held: The buttons of the frame before.
        wanted: Those that the agent asks for.
        draws: A number in [0, 1) for each frame.
        noise: How often the buttons of the frame before are held on.
    """
    buttons = bytearray()
    for draw in draws.tolist():
        held = held if draw < noise.sticky_probability else wanted
        buttons.append(held)
    return bytes(buttons)
