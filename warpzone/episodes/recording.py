"""An episode as the log of its actions, which replays it exactly.

A log is what survives: snapshots live in one process only, and frames are large.
Whoever reads a log replays it, and refuses it when the world ends up elsewhere.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import batched, groupby
from pathlib import Path
from reprlib import repr as shorten
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from warpzone.core.errors import InputError
from warpzone.core.files import read_text
from warpzone.core.params import NoiseParams
from warpzone.envs.registry import env_class, make_env
from warpzone.envs.replayable import ObsType, ReplayableEnv

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Code = Annotated[int, Field(ge=0, le=255)]
_Runs = list[tuple[_Code, Annotated[int, Field(ge=1, le=100_000)]]]

# Longer than any level's clock allows.
_MAX_FRAMES = 30_000

_QUIET = NoiseParams(no_op_max=0, sticky_probability=0.0)

# What recordings called things before there were worlds.
_OLD_NAMES = {
    "buttons": "frame_actions",
    "emulator": "version",
    "ram_sha256": "state_sha256",
}
_OLD_OUTCOMES = {"clear": "success", "death": "failure"}


class Recording(BaseModel):
    """One episode on one level of a world.

    Attributes:
        env: The world, as params.yaml calls it.
        level: Where in it.
        frame_skip: Frames a decision lasted.
        no_ops: Idle frames before the first decision.
        frame_actions: Runs ``(code, frames)`` of what the world read in every frame
            since the level's start, idle frames and sticky actions included. For the
            NES a code is a mask of buttons.
        decisions: Runs ``(code, agent_steps)`` of what the player asked for. A person's
            recording may leave them out: see `decided`.
        seed: Seed of the episode's noise; none for a person.
        rom_sha256: The cartridge it was played on, if any.
        version: What played it, for example ``nes-py 9.0.1``.
        outcome: How it ended.
        state_sha256: SHA-256 of the world's state after the last frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: str
    level: str
    frame_skip: Annotated[int, Field(ge=1, le=16)]
    no_ops: Annotated[int, Field(ge=0, le=300)]
    frame_actions: _Runs
    decisions: _Runs | None
    seed: int | None
    rom_sha256: _Sha256 | None
    version: str
    outcome: Literal["success", "failure", "unfinished"]
    state_sha256: _Sha256

    @classmethod
    def of_episode(cls, env: ReplayableEnv, seed: int | None) -> Self:
        """Record the episode that an env has just played."""
        return cls(
            env=env.WORLD,
            level=env.level,
            frame_skip=env.frame_skip,
            no_ops=env.no_ops,
            frame_actions=_encode(env.frame_actions),
            decisions=_encode(env.decisions),
            seed=seed,
            rom_sha256=env.rom_sha256(),
            version=env.version,
            outcome=env.outcome,  # pyright: ignore[reportArgumentType]
            state_sha256=env.state_sha256(),
        )

    @classmethod
    def parse(cls, line: str, source: str) -> Self:
        """Read one JSON object and check all but the replay.

        Args:
            line: The JSON text.
            source: Where it comes from, for the message.

        Raises:
            InputError: If it is no recording, or not one that can be replayed here.
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
        try:
            world = env_class(recording.env)
        except InputError as error:
            raise InputError(f"{source}: not a recording: {error}") from error
        if impossible := set(recording.held + recording.decided) - set(world.CODES):
            raise InputError(
                f"{source}: not a recording: holds {min(impossible)}, in "
                f"{recording.env} a frame can hold {world.CODES[0]} to "
                f"{world.CODES[-1]}"
            )
        if wrong := recording._wrongly_held(world):
            raise InputError(f"{source}: not a recording: {wrong}")
        if recording.rom_sha256 != (here := world.rom_sha256()):
            raise InputError(
                f"{source}: was recorded with another ROM: it has "
                f"{recording.rom_sha256}, this installation has {here}"
            )
        if world.kwargs_for(recording.version) is None:
            raise InputError(
                f"{source}: was recorded with {recording.version!r}, which is not "
                "installed here"
            )
        return recording

    @model_validator(mode="before")
    @classmethod
    def _renew(cls, document: Any) -> Any:
        """Read recordings of the time when Mario was the only world."""
        if not isinstance(document, dict) or "env" in document:
            return document
        new = {_OLD_NAMES.get(name, name): value for name, value in document.items()}
        outcome = new.get("outcome")
        if isinstance(outcome, str):
            new["outcome"] = _OLD_OUTCOMES.get(outcome, outcome)
        return new | {"env": "mario"}

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        frames = sum(count for _, count in self.frame_actions)
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

    def _wrongly_held(self, world: type[ReplayableEnv]) -> str | None:
        """Say where a frame holds what nobody decided, if one does.

        The replay tests the frames; this tests the decisions by the frames.
        """
        if self.decisions is None:
            return None
        held, decided, name = self.held, self.decided, world.code_name
        for frame in range(self.no_ops, len(held)):
            wanted = decided[(frame - self.no_ops) // self.frame_skip]
            before = held[frame - 1] if frame else wanted
            if held[frame] not in (wanted, before):
                return (
                    f"frame {frame} holds {name(held[frame])}, but {name(wanted)} was "
                    f"decided and {name(before)} held"
                )
        return None

    def to_json(self) -> str:
        """Return one line of JSON, the same for equal recordings."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))

    def make_env(
        self,
        kwargs: Mapping[str, Any],
        obs_type: ObsType = "state",
        render_mode: str | None = None,
    ) -> ReplayableEnv:
        """Return an env of the recording's level and kind, without noise.

        Args:
            kwargs: Of the env; the recording says which emulator plays.
            obs_type: As the env has it.
            render_mode: As the env has it.
        """
        ours = env_class(self.env).kwargs_for(self.version) or {}
        merged = {**kwargs, **ours}
        return make_env(self.env, merged, self.level, _QUIET, obs_type, render_mode)

    @property
    def held(self) -> bytes:
        """What was held in each frame, one code a frame."""
        return _decode(self.frame_actions)

    @property
    def decided(self) -> bytes:
        """What each agent step asked for, one code a step.

        Where the log does not say (a person holds buttons, and decides nothing every
        ``frame_skip`` frames), it is what was held in most frames of the step.
        """
        if self.decisions is not None:
            return _decode(self.decisions)
        frames = self.held[self.no_ops :]
        skip = self.frame_skip
        steps = (frames[i : i + skip] for i in range(0, len(frames), skip))
        return bytes(max(step, key=step.count) for step in steps)


def replay(recording: Recording, env: ReplayableEnv, source: str) -> Iterator[int]:
    """Play a recording again, frame by frame, and check where it ends.

    Args:
        recording: What to play.
        env: One of its level and version.
        source: Where the recording comes from, for the message.

    Yields:
        The number of frames played so far: 0 at the level's start, then 1, 2, ...

    Raises:
        InputError: If the episode ends early or the state differs at the end.
    """
    env.begin(0)
    env.no_ops = recording.no_ops
    yield 0
    held, decided, skip = recording.held, recording.decided, recording.frame_skip
    for frames, code in enumerate(held, start=1):
        step, into_step = divmod(frames - 1 - recording.no_ops, skip)
        if step >= 0 and into_step == 0:
            # Worlds may count them.
            env.decisions.append(decided[step])
        env.play_frames(bytes([code]))
        if env.outcome != "unfinished" and frames < len(held):
            raise _ends_early(source, frames, recording)
        yield frames
    _check_end(recording, env, source)


def replay_steps(
    recording: Recording, env: ReplayableEnv, source: str
) -> Iterator[Any]:
    """Play a recording again, agent step by agent step, and check where it ends.

    Args:
        recording: What to play.
        env: One of its level, version and frame skip. Its noise plays no part.
        source: Where the recording comes from, for the message.

    Yields:
        The observation before each agent step.

    Raises:
        InputError: If the episode ends early or the state differs at the end.
    """
    observation, _ = env.begin(recording.no_ops)
    held = recording.held
    steps = batched(held[recording.no_ops :], recording.frame_skip, strict=False)
    for wanted, codes in zip(recording.decided, steps, strict=True):
        yield observation
        observation, *_ = env.play_step(wanted, bytes(codes))
        frames = len(env.frame_actions)
        if env.outcome != "unfinished" and frames < len(held):
            raise _ends_early(source, frames, recording)
    _check_end(recording, env, source)


def read_recordings(path: Path) -> list[Recording]:
    """Read a file of recordings, one JSON object a line, without replaying them.

    Raises:
        InputError: With the file, the line and the reason.
    """
    lines = read_text(path).splitlines()
    if not lines:
        raise InputError(f"{path}: holds no recording")
    return [
        Recording.parse(line, f"{path}, line {number}")
        for number, line in enumerate(lines, start=1)
    ]


def watch(
    recording: Recording, kwargs: Mapping[str, Any], keys: tuple[str, ...], source: str
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Replay a recording and see what its player saw.

    Args:
        recording: What to play.
        kwargs: Of the env, as params.yaml has them.
        keys: What to see.
        source: Where the recording comes from, for the message.

    Returns:
        Observations by key, shape ``(T, ...)``, and actions, shape ``(T,)``, int64; row
        ``t`` of the first precedes action ``t``.

    Raises:
        InputError: If the replay fails, or the recording does not fit the env.
    """
    with closing(recording.make_env(kwargs, keys)) as env:
        check_fits(recording, env, source)
        indices = {code: index for index, code in enumerate(env.codes)}
        seen = list(replay_steps(recording, env, source))
    observations = {key: np.stack([one[key] for one in seen]) for key in keys}
    return observations, np.array([indices[c] for c in recording.decided], np.int64)


def check_fits(recording: Recording, env: ReplayableEnv, source: str) -> None:
    """Check that a recording decides as an env's agents do.

    Raises:
        InputError: If its frame skip is another, or it does what no action does.
    """
    if recording.frame_skip != env.frame_skip:
        raise InputError(
            f"{source}: frame skip is {recording.frame_skip}, params.yaml wants "
            f"{env.frame_skip}"
        )
    if unknown := set(recording.decided) - set(env.codes):
        names = ", ".join(env.code_name(code) for code in env.codes)
        raise InputError(
            f"{source}: presses {env.code_name(min(unknown))}, which is none of the "
            f"env's actions: {names}"
        )


def _ends_early(source: str, frames: int, recording: Recording) -> InputError:
    return InputError(
        f"{source}: the replay ends after {frames} of {len(recording.held)} frames"
    )


def _check_end(recording: Recording, env: ReplayableEnv, source: str) -> None:
    if (found := env.state_sha256()) != recording.state_sha256:
        raise InputError(
            f"{source}: the replay ends in another state: {found}, "
            f"recorded {recording.state_sha256}"
        )
    if env.outcome != recording.outcome:
        raise InputError(
            f"{source}: the replay ends with {env.outcome!r}, "
            f"recorded {recording.outcome!r}"
        )


def _encode(codes: bytes | bytearray) -> list[tuple[int, int]]:
    return [(code, len(list(run))) for code, run in groupby(codes)]


def _decode(runs: list[tuple[int, int]]) -> bytes:
    return b"".join(bytes([code]) * count for code, count in runs)
