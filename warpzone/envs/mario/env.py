"""Super Mario Bros as a standard Gymnasium environment."""

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import make_console, rom_sha256
from warpzone.envs.mario.level import LEVELS, LevelPlay
from warpzone.envs.mario.observation import FrameStack
from warpzone.envs.mario.rewards import Ledger, check_weights, reward
from warpzone.envs.mario.state import (
    is_cleared,
    is_dead,
    is_in_pit,
    read_state,
    read_time,
)
from warpzone.envs.mario.surroundings import read_surroundings
from warpzone.envs.nes.buttons import NO_BUTTONS, action_name
from warpzone.envs.nes.console import RAM_SIZE
from warpzone.envs.nes.consoles import emulator_version, installed_emulators
from warpzone.envs.replayable import ObsType, ReplayableEnv


class MarioEnv(ReplayableEnv):
    """One life on one level, seen as a stack of grey frames.

    ## Action Space

    `Discrete(n)`: an index into the action set. Its buttons are held for `frame_skip`
    emulator frames, fewer when Mario dies or clears the level on the way.

    | action_set | n | buttons |
    |---|---|---|
    | `right_only` | 5 | nothing; right, also with A, with B, with both |
    | `simple` | 7 | those, A, and left |
    | `complex` | 12 | those, left with A, B, both; down; up |
    | `all` | 20 | no direction or one of four; with A, B, both or neither |

    ## Observation Space

    | obs_type | space | meaning |
    |---|---|---|
    | `pixels` | `Box(0, 255, (frame_stack, height, width), uint8)` | grey frames, oldest first, each the screen after an agent step; after a reset all show the first screen |
    | `state` | `Box(0, 255, (2048,), uint8)` | the console's RAM |
    | several of them | `Dict` | both, by those names |

    ## Rewards

    The sum of these terms, each with its weight in `reward`.

    | term | paid for | default weight |
    |---|---|---|
    | `progress` | a pixel of new ground, at most `progress_cap` (30) in an agent step | 0.02 |
    | `score` | a point | 0 |
    | `coin` | a coin | 0 |
    | `clock_tick` | a tick of the game's clock | 0 |
    | `death` | dying | -5 |
    | `clear` | the flag, or the axe of a castle | 2 |

    ## Episode End

    | cause | how | what it is |
    |---|---|---|
    | `clear` | flag or axe; `info["is_success"]` | terminated |
    | `pit`, `enemy`, `clock` | death below the screen, by what hurts, or of time | terminated |
    | `left_level` | a pipe of a warp zone, which leads to another level | terminated |
    | `stuck` | `stuck_limit` agent steps without new ground | terminated |
    | `time_limit` | `time_limit` agent steps | truncated |

    New ground is a new furthest x in an area; only that is paid. For `stuck`, ground is
    new again where a pipe, a vine or a maze has put Mario elsewhere: to run through a
    loop of 4-4, 7-4 or 8-4 is not to be stuck.

    `info` holds, as of the last frame: `reward` (summed since the episode's start),
    `x_pos`, `x_pos_max` and `progress` (the furthest x in the level's first area),
    `y_pos`, `score`, `coins`, `time`, `life`, `status`, `dead`, `flag_get`, `world`,
    `stage`, `steps` (agent steps), `cause`, `is_success`, and `place`, where Mario failed.

    Args:
        level: `1-1` to `8-4`.
        emulator: `fceumm`, or `nes-py`, which is four times slower.
        action_set: See above.
        frame_skip: Emulator frames a decision lasts.
        height: Of a frame, in pixels.
        width: Of a frame, in pixels.
        frame_stack: Frames in an observation.
        crop_hud: Leave out the top 32 rows of the screen: score, coins, world, time.
        show_buttons: Draw the buttons that are held into each frame.
        time_limit: In agent steps.
        stuck_limit: In agent steps; 0: never.
        reward: Weights that differ from the defaults above.
        no_op_max: An episode begins with 0 to this many idle frames.
        sticky_probability: Per frame, the probability that the buttons of the frame
            before are held on.
        obs_type: See above.
        render_mode: `rgb_array` or nothing.

    Raises:
        ValueError: If an argument cannot be.
    """  # noqa: E501

    WORLD = "mario"
    LEVELS = LEVELS
    FRAMES_PER_SECOND = 60
    PROGRESS = "distance (pixels)"
    OBS_TYPES = ("pixels", "state")
    SUCCESSES = ("clear",)
    FAILURES = ("pit", "enemy", "clock", "left_level")
    COLUMNS: ClassVar[Mapping[str, str]] = {
        "score": "int64",
        "coins": "int64",
        "time": "int64",
    }
    INTERFACE = (
        "action_set",
        "frame_skip",
        "height",
        "width",
        "frame_stack",
        "crop_hud",
        "show_buttons",
    )

    code_name = staticmethod(action_name)
    describe_state = staticmethod(read_surroundings)
    rom_sha256 = staticmethod(rom_sha256)

    @staticmethod
    def kwargs_for(version: str) -> Mapping[str, Any] | None:
        # Of any release: the numbers at the end do not count.
        wanted = version.rpartition(" ")[0]
        for installed, emulator in installed_emulators().items():
            if installed.rpartition(" ")[0] == wanted:
                return {"emulator": emulator}
        return None

    def __init__(
        self,
        level: str = "1-1",
        *,
        emulator: str = "fceumm",
        action_set: str = "simple",
        frame_skip: int = 4,
        height: int = 52,
        width: int = 64,
        frame_stack: int = 4,
        crop_hud: bool = True,
        show_buttons: bool = True,
        time_limit: int = 1500,
        stuck_limit: int = 100,
        reward: Mapping[str, float] | None = None,
        no_op_max: int = 30,
        sticky_probability: float = 0.25,
        obs_type: ObsType = "pixels",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            level,
            frame_skip=frame_skip,
            time_limit=time_limit,
            stuck_limit=stuck_limit,
            no_op_max=no_op_max,
            sticky_probability=sticky_probability,
            obs_type=obs_type,
            render_mode=render_mode,
        )
        if action_set not in ACTION_SETS:
            raise ValueError(
                f"action_set must be one of {', '.join(ACTION_SETS)}, "
                f"got {action_set!r}"
            )
        self.action_set = action_set
        self.codes = ACTION_SETS[action_set]
        self.emulator = emulator
        self.version = emulator_version(emulator)
        self.height, self.width, self.frame_stack = height, width, frame_stack
        self.crop_hud, self.show_buttons = crop_hud, show_buttons
        self.reward_weights = check_weights(reward)
        self._frames = FrameStack(height, width, frame_stack, crop_hud, show_buttons)
        self.action_space = gym.spaces.Discrete(len(self.codes))
        self.observation_space = self._space(
            {
                "pixels": gym.spaces.Box(0, 255, self._frames.shape, np.uint8),
                "state": gym.spaces.Box(0, 255, (RAM_SIZE,), np.uint8),
            }
        )
        self.play = LevelPlay(make_console(emulator), level)

    @property
    def progress(self) -> int:
        """The furthest x in the level's first area, in pixels."""
        return self.play.odometer.x_pos_max

    @property
    def ground(self) -> int:
        """Pixels that Mario has got on, see `level.Odometer`."""
        return self.play.odometer.travelled

    @property
    def emulated_frames(self) -> int:
        return self.play.emulator_frames

    @property
    def held(self) -> int:
        """The buttons of the last frame."""
        return self.frame_actions[-1] if self.frame_actions else NO_BUTTONS

    def state_sha256(self) -> str:
        return hashlib.sha256(self.play.ram).hexdigest()

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the screen in colour, shape ``(240, 256, 3)``, uint8."""
        return self.play.console.read_rgb() if self.render_mode else None

    def close(self) -> None:
        """Release the console. Closing twice is allowed."""
        self.cause = "closed"
        self.play.console.close()

    def _restart(self) -> None:
        self.play.restart()
        self._ledger = None

    def _run(self, codes: bytes) -> int:
        return self.play.run(codes)

    def _cause(self) -> str | None:
        ram = self.play.ram
        if self.play.has_left:
            return "left_level"
        if is_cleared(ram):
            return "clear"
        if is_in_pit(ram):
            return "pit"
        if is_dead(ram):
            return "clock" if read_time(ram) == 0 else "enemy"
        return None

    def _reward(self) -> float:
        before, state = self._ledger, read_state(self.play.ram)
        counted = (state.score, state.coins, state.time, state.dead, state.flag_get)
        self._state, self._ledger = state, Ledger(self.play.odometer.progress, *counted)
        return reward(before, self._ledger, self.reward_weights) if before else 0.0

    def _observe(self, first: bool) -> Mapping[str, np.ndarray]:
        seen = {}
        if "pixels" in self.obs_keys:
            before = None if first else self._observation["pixels"]
            console = self.play.console
            seen["pixels"] = self._frames.draw(before, console, self.held)
        if "state" in self.obs_keys:
            seen["state"] = np.array(self.play.ram)
        return seen

    def _details(self) -> dict[str, Any]:
        return self._state._asdict() | {
            "x_pos_max": self.progress,
            "place": self._state.x_pos if self.cause in self.FAILURES else None,
        }

    def _save(self) -> Any:
        return self.play.snapshot(), self._ledger

    def _load(self, saved: Any) -> None:
        play, self._ledger = saved
        self.play.restore(play)
        self._state = read_state(self.play.ram)
