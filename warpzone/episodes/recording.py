"""An episode as the log of its buttons, which replays it exactly.

A log is what survives: snapshots live in one process only, and frames are large.
Whoever reads a log replays it, and refuses it when the console ends up elsewhere.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from itertools import batched, groupby
from pathlib import Path
from reprlib import repr as shorten
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from warpzone.core.errors import InputError
from warpzone.core.params import GameParams, Level, NoiseParams
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import make_console, rom_sha256
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LevelPlay
from warpzone.envs.mario.observation import ObsType
from warpzone.envs.mario.state import is_cleared, is_dead
from warpzone.envs.nes.buttons import action_name
from warpzone.envs.nes.consoles import (
    emulator_version,
    installed_emulators,
)

Outcome = Literal["clear", "death", "unfinished"]

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Mask = Annotated[int, Field(ge=0, le=255)]
_Runs = list[tuple[_Mask, Annotated[int, Field(ge=1, le=100_000)]]]

# Longer than any level's clock allows.
_MAX_FRAMES = 30_000


class Recording(BaseModel):
    """One episode on one level.

    Attributes:
        level: ``1-1`` to ``8-4``.
        frame_skip: Emulator frames a decision lasted.
        no_ops: Idle frames before the first decision.
        buttons: Runs ``(mask, frames)`` of what the console read in every frame since
            the level's start, idle frames and sticky buttons included.
        decisions: Runs ``(mask, agent_steps)`` of what the player asked for. A person's
            recording may leave them out: see `decided`.
        seed: Seed of the episode's noise; none for a person.
        rom_sha256: The cartridge it was played on.
        emulator: Name and version of the emulator, for example ``nes-py 9.0.1``.
        outcome: How it ended.
        ram_sha256: SHA-256 of the console's RAM after the last frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Level
    frame_skip: Annotated[int, Field(ge=1, le=16)]
    no_ops: Annotated[int, Field(ge=0, le=300)]
    buttons: _Runs
    decisions: _Runs | None
    seed: int | None
    rom_sha256: _Sha256
    emulator: str
    outcome: Outcome
    ram_sha256: _Sha256

    @classmethod
    def of_episode(cls, env: MarioEnv, seed: int | None) -> Self:
        """Record the episode that an environment has just played."""
        return cls(
            level=env.game.level,
            frame_skip=env.game.frame_skip,
            no_ops=env.no_ops,
            buttons=_encode(env.frame_buttons),
            decisions=_encode(env.decisions),
            seed=seed,
            rom_sha256=rom_sha256(),
            emulator=emulator_version(env.game.emulator),
            outcome=_outcome(env.play),
            ram_sha256=_ram_sha256(env.play),
        )

    @classmethod
    def parse(cls, line: str, source: str) -> Self:
        """Read one JSON object and check all but the replay.

        Args:
            line: The JSON text.
            source: Where it comes from, for the message.

        Raises:
            InputError: If it is not a recording of this cartridge and emulator.
        """
        try:
            recording = cls.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            where = where.encode("unicode_escape").decode() or "the line"
            if first["loc"] and first["type"] != "missing":
                where += f" = {shorten(first['input'])}"
            raise InputError(
                f"{source}: not a recording: {where}: {first['msg']}"
            ) from error
        for name, found, here in (
            ("ROM", recording.rom_sha256, [rom_sha256()]),
            ("emulator", recording.emulator, list(installed_emulators())),
        ):
            if found not in here:
                raise InputError(
                    f"{source}: was recorded with another {name}: it has {found}, "
                    f"this installation has {' and '.join(here)}"
                )
        return recording

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        frames = sum(count for _, count in self.buttons)
        if frames > _MAX_FRAMES:
            raise ValueError(f"{frames} frames, a level allows {_MAX_FRAMES}")
        if frames <= self.no_ops:
            raise ValueError(f"{frames} frames are not more than {self.no_ops} no-ops")
        if self.decisions is not None:
            steps = sum(count for _, count in self.decisions)
            needed = -(-(frames - self.no_ops) // self.frame_skip)
            if steps != needed:
                raise ValueError(
                    f"{frames} frames with {self.no_ops} no-ops and frame skip "
                    f"{self.frame_skip} need {needed} decisions, got {steps}"
                )
        return self

    @model_validator(mode="after")
    def _held_as_decided(self) -> Self:
        """The replay tests the buttons; this tests the decisions by the buttons."""
        if self.decisions is None:
            return self
        held, decided = self.frame_buttons, self.decided
        for frame in range(self.no_ops, len(held)):
            wanted = decided[(frame - self.no_ops) // self.frame_skip]
            before = held[frame - 1] if frame else wanted
            if held[frame] not in (wanted, before):
                raise ValueError(
                    f"frame {frame} holds {action_name(held[frame])}, but "
                    f"{action_name(wanted)} was decided and {action_name(before)} held"
                )
        return self

    def to_json(self) -> str:
        """One line of JSON, the same for equal recordings."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))

    def new_play(self) -> LevelPlay:
        """Return the recording's level on a new console of the recording's kind."""
        return LevelPlay(make_console(installed_emulators()[self.emulator]), self.level)

    @property
    def frame_buttons(self) -> bytes:
        """What was held in each frame, one mask a frame."""
        return _decode(self.buttons)

    @property
    def decided(self) -> bytes:
        """What each agent step asked for, one mask a step.

        Where the log does not say (a person holds buttons, and decides nothing every
        ``frame_skip`` frames), it is what was held in most frames of the step.
        """
        if self.decisions is not None:
            return _decode(self.decisions)
        frames = self.frame_buttons[self.no_ops :]
        skip = self.frame_skip
        steps = (frames[i : i + skip] for i in range(0, len(frames), skip))
        return bytes(max(step, key=step.count) for step in steps)


def replay(recording: Recording, play: LevelPlay, source: str) -> Iterator[int]:
    """Play a recording again, frame by frame, and check where it ends.

    Args:
        recording: What to play.
        play: A console on the recording's level.
        source: Where the recording comes from, for the message.

    Yields:
        The number of frames played so far: 0 at the level's start, then 1, 2, ...

    Raises:
        InputError: If the episode ends early or the RAM differs at the end.
    """
    play.restart()
    yield 0
    held = recording.frame_buttons
    for frames, buttons in enumerate(held, start=1):
        play.advance(buttons)
        if play.is_over and frames < len(held):
            raise _ends_early(source, frames, recording)
        yield frames
    _check_end(recording, play, source)


def play_again(
    recording: Recording, env: MarioEnv, source: str
) -> Iterator[np.ndarray]:
    """Play a recording again, agent step by agent step, and check where it ends.

    Args:
        recording: What to play.
        env: An environment of the recording's level, emulator and frame skip. Its noise
            plays no part.
        source: Where the recording comes from, for the message.

    Yields:
        The observation before each agent step.

    Raises:
        InputError: If the episode ends early or the RAM differs at the end.
    """
    observation, _ = env.begin(recording.no_ops)
    held = recording.frame_buttons
    steps = batched(held[recording.no_ops :], recording.frame_skip, strict=False)
    for wanted, buttons in zip(recording.decided, steps, strict=True):
        yield observation
        observation, *_ = env.play_step(wanted, bytes(buttons))
        frames = len(env.frame_buttons)
        if env.play.is_over and frames < len(held):
            raise _ends_early(source, frames, recording)
    _check_end(recording, env.play, source)


def read_recordings(path: Path) -> list[Recording]:
    """Read a file of recordings, one JSON object a line, without replaying them.

    Raises:
        InputError: With the file, the line and the reason.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not lines:
        raise InputError(f"{path}: holds no recording")
    return [
        Recording.parse(line, f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
    ]


def watch(
    recording: Recording, game: GameParams, source: str, obs_type: ObsType = "pictures"
) -> tuple[np.ndarray, np.ndarray]:
    """Replay a recording and see what its player saw.

    Args:
        recording: What to play.
        game: How agents see the game and what they may press.
        source: Where the recording comes from, for the message.
        obs_type: As `MarioEnv` has it.

    Returns:
        Observations, shape ``(T, frame_stack, height, width)`` or ``(T, 2048)``, uint8,
        and actions, shape ``(T,)``, int64, indices into the action set; row ``t`` of
        the first precedes action ``t``.

    Raises:
        InputError: If the replay fails, or the recording does not fit the game.
    """
    for name, found, needed in (
        ("level", recording.level, game.level),
        ("frame skip", recording.frame_skip, game.frame_skip),
    ):
        if found != needed:
            raise InputError(f"{source}: {name} is {found}, params.yaml wants {needed}")
    indices = {mask: index for index, mask in enumerate(ACTION_SETS[game.action_set])}
    decided = recording.decided
    for mask in set(decided):
        if mask not in indices:
            raise InputError(
                f"{source}: presses {action_name(mask)}, which the action set "
                f"{game.action_set!r} lacks"
            )
    emulator = installed_emulators()[recording.emulator]
    game = game.model_copy(update={"emulator": emulator})
    quiet = NoiseParams(no_op_max=0, sticky_probability=0.0)
    with closing(MarioEnv(game, quiet, obs_type=obs_type)) as env:
        observations = np.stack(list(play_again(recording, env, source)))
    return observations, np.array([indices[mask] for mask in decided], np.int64)


def _ends_early(source: str, frames: int, recording: Recording) -> InputError:
    return InputError(
        f"{source}: the replay ends after {frames} of "
        f"{len(recording.frame_buttons)} frames"
    )


def _check_end(recording: Recording, play: LevelPlay, source: str) -> None:
    if (found := _ram_sha256(play)) != recording.ram_sha256:
        raise InputError(
            f"{source}: the replay ends in another state: RAM {found}, "
            f"recorded {recording.ram_sha256}"
        )
    if (outcome := _outcome(play)) != recording.outcome:
        raise InputError(
            f"{source}: the replay ends with {outcome!r}, "
            f"recorded {recording.outcome!r}"
        )


def _outcome(play: LevelPlay) -> Outcome:
    if is_cleared(play.ram):
        return "clear"
    return "death" if is_dead(play.ram) else "unfinished"


def _ram_sha256(play: LevelPlay) -> str:
    return hashlib.sha256(play.ram).hexdigest()


def _encode(masks: bytes | bytearray) -> list[tuple[int, int]]:
    return [(mask, len(list(run))) for mask, run in groupby(masks)]


def _decode(runs: list[tuple[int, int]]) -> bytes:
    return b"".join(bytes([mask]) * count for mask, count in runs)
