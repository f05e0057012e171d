"""Super Mario Bros as a standard Gymnasium environment."""

import ctypes
import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np

from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import make_console, rom_sha256
from warpzone.envs.mario.level import LEVELS, LevelPlay
from warpzone.envs.mario.observation import FrameStack
from warpzone.envs.mario.rewards import LEDGER, TERMS, check_weights, weights_of
from warpzone.envs.mario.state import STATUSES, Address, read_area, read_x
from warpzone.envs.mario.step import CAUSES, FACTS, SETUP, agent_step, look
from warpzone.envs.mario.surroundings import read_surroundings
from warpzone.envs.nes.buttons import NO_BUTTONS, RIGHT, A, action_name
from warpzone.envs.nes.consoles import emulator_version, installed_emulators
from warpzone.envs.nes.machine import RAM_SIZE
from warpzone.envs.replayable import ObsType, ReplayableEnv, View

# To compiled code: nobody sees a picture, or RAM, or no frame is played.
_NO_FRAMES = np.empty((0, 0, 0), np.uint8)
_NO_CODES = np.empty(0, np.uint8)


class MarioEnv(ReplayableEnv):
    """One life on one level, seen as a stack of grey frames.

    ## Action Space

    `Discrete(n)`: an index into the action set. Its buttons are held for `frame_skip`
    emulator frames, fewer when Mario dies or clears the level on the way.

    | action_set | n | buttons |
    |---|---|---|
    | `walk` | 5 | nothing; right, also with A; A; left |
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
    | `new_maximum` | an agent step that gets to new ground | 0 |
    | `milestone` | each `milestone_every` (500) pixels of new ground | 0 |
    | `score` | a point | 0 |
    | `coin` | a coin | 0 |
    | `power_up` | growing from small to big, from big to fire | 0 |
    | `clock_tick` | a tick of the game's clock | 0 |
    | `idle` | an agent step that ends where it began | 0 |
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
    `reward_terms` (the parts of that sum, by the terms whose weight is not 0),
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
        sticky_probability: The probability that the buttons of the frame before are
            held on.
        sticky_unit: `frame`: each frame draws anew; `decision`: the first frame's draw
            counts for the whole agent step.
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
    KEYS = ("left", "up", "down", "right", "B", "A")
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
    def script(states: np.ndarray, /) -> np.ndarray:
        """Walk right and jump: A is held for half a second and let go for as long."""
        jumps = states[:, Address.FRAME] & 32
        return np.where(jumps, RIGHT | A, RIGHT).astype(np.uint8)

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
        sticky_unit: str = "frame",
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
            sticky_unit=sticky_unit,
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
        # What compiled code writes.
        self._held = bytearray(frame_skip)
        self._codes = np.frombuffer(self._held, np.uint8)
        depth = frame_stack if "pixels" in self.obs_keys else 0
        self._stack = np.zeros((depth, height, width), np.uint8)
        self._numbers = np.empty(FACTS, np.int64)
        self._ledgers = np.zeros(2, LEDGER)
        self._totals = np.zeros(len(TERMS))
        self._paid = {
            name: place
            for place, name in enumerate(TERMS)
            if self.reward_weights[name] != 0
        }
        # Compiled code knows their addresses, so they have to live on.
        self._arrays = {
            "level": self.play.level,
            "frames": self.play.frames,
            "ledgers": self._ledgers,
            "facts": self._numbers,
            "weights": weights_of(self.reward_weights),
            "totals": self._totals,
            "greys": self.play.console.greys,
            "picture": self._frames.picture,
            "rows": self._frames.rows,
            "columns": self._frames.columns,
            "stack": self._stack,
        }
        self._setup = np.zeros(1, SETUP)
        for name, array in self._arrays.items():
            self._setup[name] = array.ctypes.data
        for name, value in (
            ("depth", depth),
            ("height", height),
            ("width", width),
            ("sticky_probability", sticky_probability),
            ("is_per_decision", sticky_unit == "decision"),
        ):
            self._setup[name] = value
        self._find_generator()

    @property
    def progress(self) -> int:
        """The furthest x in the level's first area, in pixels."""
        return self._facts[-3]

    @property
    def ground(self) -> int:
        """Pixels that Mario has got on, see `level.Odometer`."""
        return self._facts[-2]

    @property
    def view(self) -> View:
        ram = self.play.ram
        x, y = int(ram[Address.SCREEN_X]), int(ram[Address.Y_PIXEL])
        # Those of a box of 16 by 32 pixels, in whose lower half a small Mario is.
        return View(read_area(ram), read_x(ram) - x, x + 8, y + 24)

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

    def _enter(self) -> None:
        self.play.enter(self.level)

    def _restart(self) -> None:
        self.play.restart()
        self._look()

    def _run(self, codes: bytes) -> int:
        played = self.play.run(codes)
        self._look()
        return played

    def _advance(self, wanted: int, held: bytes | None) -> float:
        before = self.frame_actions[-1] if self.frame_actions else wanted
        if held is None:
            # gym's property costs more.
            if self._np_random is not self._drawn_from:
                self._find_generator()
            frames, codes = self._held, self._codes
        else:
            frames = bytearray(held)
            codes = np.frombuffer(frames, np.uint8)
        played, reward = self._step(before, wanted, codes, is_drawn=held is None)
        self.frame_actions += frames[:played]
        return reward

    def _cause(self) -> str | None:
        return CAUSES[self._facts[-1]]

    def _reward(self) -> float:
        # An episode begins.
        self._step(self.held, NO_BUTTONS, _NO_CODES, is_first=True)
        self._totals[:] = 0
        return 0.0

    def _observe(self) -> dict[str, np.ndarray]:
        return self._seen

    def _observe_again(self) -> dict[str, np.ndarray]:
        seen = {"pixels": self._stack, "state": self.play.ram}
        return {key: seen[key].copy() for key in self.obs_keys}

    def _step(
        self,
        held: int,
        wanted: int,
        codes: np.ndarray,
        is_drawn: bool = False,
        is_first: bool = False,
    ) -> tuple[int, float]:
        """Call `agent_step`; return what it does."""
        play = self.play
        seen, self.out = self.out, None
        if seen is None:
            shapes = {"pixels": self._frames.shape, "state": (RAM_SIZE,)}
            seen = {key: np.empty(shapes[key], np.uint8) for key in self.obs_keys}
        self._seen = seen
        result = play.console.call(
            agent_step,
            play.odometer.record,
            self._setup,
            held,
            wanted,
            codes,
            is_drawn,
            seen.get("pixels", _NO_FRAMES),
            seen.get("state", _NO_CODES),
            is_first,
        )
        self._facts = self._numbers.tolist()
        return result

    def _find_generator(self) -> None:
        """Tell compiled code where the environment's generator is."""
        self._drawn_from = self.np_random
        bits = self.np_random.bit_generator.ctypes
        function = ctypes.cast(bits.next_double, ctypes.c_void_p).value
        self._setup["next_double"] = function
        self._setup["generator"] = bits.state_address

    def _look(self) -> None:
        play = self.play
        look(play.ram, play.odometer.record, play.level, self._numbers)
        self._facts = self._numbers.tolist()

    def _details(self) -> dict[str, Any]:
        x, y, time, score, coins, life, power, world, stage, dead, clear, x_max, *_ = (
            self._facts
        )
        totals = self._totals.tolist()
        return {
            "x_pos": x,
            "y_pos": y,
            "time": time,
            "score": score,
            "coins": coins,
            "life": life,
            "status": STATUSES[power],
            "world": world,
            "stage": stage,
            "dead": dead == 1,
            "flag_get": clear == 1,
            "x_pos_max": x_max,
            "place": x if self.cause in self.FAILURES else None,
            "reward_terms": {name: totals[place] for name, place in self._paid.items()},
        }

    def _save(self) -> Any:
        arrays = self._ledgers, self._totals, self._stack
        return self.play.snapshot(), *(array.copy() for array in arrays)

    def _load(self, saved: Any) -> None:
        play, self._ledgers[:], self._totals[:], self._stack[:] = saved
        self.play.restore(play)
        self._look()
