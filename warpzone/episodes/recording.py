"""An episode as the log of its actions, which replays it exactly.

A log is what survives: snapshots live in one process only, and frames are large.
Whoever reads a log replays it, and refuses it when the world ends up elsewhere.
"""

import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import batched, groupby
from pathlib import Path
from reprlib import repr as shorten
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from warpzone.core.errors import InputError
from warpzone.core.files import read_bytes
from warpzone.core.params import NoiseParams
from warpzone.envs.registry import env_class, make_env
from warpzone.envs.replayable import ObsType, ReplayableEnv

_Name = Annotated[str, Field(max_length=64)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Code = Annotated[int, Field(ge=0, le=255)]
_Runs = list[tuple[_Code, Annotated[int, Field(ge=1, le=100_000)]]]

type OnStep = Callable[[tuple[Any, float, bool, bool, dict[str, Any]]], object]

# Longer than any level's clock allows.
_MAX_FRAMES = 30_000

_QUIET = NoiseParams(no_op_max=0, sticky_probability=0.0, sticky_unit="frame")

# What recordings called things before there were worlds.
_OLD_NAMES = {
    "buttons": "frame_actions",
    "emulator": "version",
    "ram_sha256": "state_sha256",
}
_OLD_OUTCOMES = {"clear": "success", "death": "failure"}


class Recording(BaseModel):
    """One episode on one level of a world; data/recordings/README.md has its keys.

    The release in ``version`` decides nothing: a recording replays on whatever release
    of the emulator is installed, and the state at its end tells.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    env: _Name
    level: _Name
    frame_skip: Annotated[int, Field(ge=1, le=16)]
    no_ops: Annotated[int, Field(ge=0, le=300)]
    frame_actions: _Runs
    decisions: _Runs | None
    seed: int | None
    rom_sha256: _Sha256 | None
    version: _Name
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
    def parse(cls, line: str | bytes, source: str) -> Self:
        """Read one JSON object, ``source`` in messages, and check all but the replay.

        Raises:
            InputError: If it is no recording, or not one that can be replayed here.
        """
        try:
            recording = cls.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = repr(".".join(map(str, first["loc"])))[1:-1] or "the line"
            if first["loc"] and first["type"] != "missing":
                where += f" = {shorten(first['input'])}"
            # JSON has one line here; the file's is in the source.
            reason = f"{where}: {first['msg'].replace(' at line 1', '')}"
            if first["type"] == "value_error":
                reason = first["ctx"]["error"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
            raise InputError(f"{source}: not a recording: {reason}") from error
        world = env_class(recording.env)
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
    def _fits_its_world(self) -> Self:
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
        world, held, decided = env_class(self.env), self.held, self.decided
        if self.level not in world.LEVELS:
            levels = f"{world.LEVELS[0]} to {world.LEVELS[-1]}"
            raise ValueError(f"no level {self.level!r}: {self.env} has {levels}")
        if impossible := set(held + decided) - set(world.CODES):
            raise ValueError(
                f"holds {min(impossible)}, in {self.env} a frame can hold "
                f"{world.CODES[0]} to {world.CODES[-1]}"
            )
        # The replay tests the frames; this tests the decisions by the frames.
        for frame in range(self.no_ops, frames if self.decisions else 0):
            wanted = decided[(frame - self.no_ops) // self.frame_skip]
            before = held[frame - 1] if frame else wanted
            if held[frame] not in (wanted, before):
                name = world.code_name
                raise ValueError(
                    f"frame {frame} holds {name(held[frame])}, but {name(wanted)} was "
                    f"decided and {name(before)} held"
                )
        return self

    def to_json(self) -> str:
        """Return one line of JSON, the same for equal recordings."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))

    def make_env(
        self,
        kwargs: Mapping[str, Any],
        obs_type: ObsType = "state",
        render_mode: str | None = None,
    ) -> ReplayableEnv:
        """Return an env of the recording's level without noise.

        The recording says which emulator plays, ``kwargs`` say all else.
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
        steps = batched(self.held[self.no_ops :], self.frame_skip, strict=False)
        return bytes(max(step, key=step.count) for step in steps)


def replay(recording: Recording, env: ReplayableEnv, source: str) -> Iterator[int]:
    """Play a recording, ``source`` in messages, frame by frame; check where it ends.

    Yields:
        The number of frames played so far: 0 at the level's start, then 1, 2, ...

    Raises:
        InputError: If the episode ends early or the state differs at the end.
    """
    env.begin(0)
    env.no_ops = recording.no_ops
    yield 0
    held, decided = recording.held, recording.decided
    for frames, code in enumerate(held, start=1):
        step, into_step = divmod(frames - 1 - recording.no_ops, recording.frame_skip)
        if step >= 0 and into_step == 0:
            # Worlds may count them.
            env.decisions.append(decided[step])
        env.play_frames(bytes([code]))
        _check(recording, env, frames, len(held), source)
        yield frames


def replay_steps(
    recording: Recording,
    env: ReplayableEnv,
    source: str,
    on_step: OnStep = lambda _: None,
) -> Iterator[Any]:
    """Play a recording, ``source`` in messages, by agent steps; check where it ends.

    The env's noise plays no part. ``on_step`` is called with what each step returned.

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
        result = env.play_step(wanted, bytes(codes))
        observation, *_ = result
        on_step(result)
        _check(recording, env, len(env.frame_actions), len(held), source)


def read_recordings(path: Path) -> list[Recording]:
    """Read a file of recordings, one JSON object a line, without replaying them.

    Raises:
        InputError: With the file, the line and the reason.
    """
    lines, source = read_bytes(path).removeprefix(BOM_UTF8).splitlines(), str(path)
    if not lines:
        raise InputError(f"{source}: holds no recording")
    return [
        Recording.parse(line, f"{source}, line {number}")
        for number, line in enumerate(lines, start=1)
    ]


def watch(
    recording: Recording,
    kwargs: Mapping[str, Any],
    keys: tuple[str, ...],
    source: str,
    on_step: OnStep = lambda _: None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Replay a recording, called ``source`` in messages, and see what its player saw.

    ``on_step`` is called with what each step returned.

    Returns:
        Observations by key, shape ``(T, ...)``, and actions, shape ``(T,)``, int64; row
        ``t`` of the first precedes action ``t``.

    Raises:
        InputError: If the replay fails, or the recording has another frame skip or does
            what no action does.
    """
    with closing(recording.make_env(kwargs, keys)) as env:
        if recording.frame_skip != env.frame_skip:
            raise InputError(
                f"{source}: frame skip is {recording.frame_skip}, params.yaml wants "
                f"{env.frame_skip}"
            )
        if unknown := set(recording.decided) - set(env.codes):
            names = ", ".join(env.code_name(code) for code in env.codes)
            raise InputError(
                f"{source}: presses {env.code_name(min(unknown))}, which is none of "
                f"the env's actions: {names}"
            )
        seen = list(replay_steps(recording, env, source, on_step))
        actions = [env.codes.index(code) for code in recording.decided]
    observations = {key: np.stack([one[key] for one in seen]) for key in keys}
    return observations, np.array(actions, np.int64)


def is_same_player(version: str, other: str) -> bool:
    """Return whether two versions are releases of one emulator."""
    return version.rpartition(" ")[0] == other.rpartition(" ")[0]


def _check(
    recording: Recording, env: ReplayableEnv, frames: int, wanted: int, source: str
) -> None:
    """Check that a replay goes on until its last frame and ends as recorded.

    Raises:
        InputError: If not. It names the version where that may be why.
    """
    if frames < wanted:
        if env.outcome == "unfinished":
            return
        failure = f"ends after {frames} of {wanted} frames"
    elif (found := env.state_sha256()) != recording.state_sha256:
        failure = f"ends in another state: {found}, recorded {recording.state_sha256}"
    elif env.outcome != recording.outcome:
        failure = f"ends with {env.outcome!r}, recorded {recording.outcome!r}"
    else:
        return
    if recording.version != env.version:
        failure += f"; it is of {recording.version!r}, here is {env.version!r}"
    raise InputError(f"{source}: the replay {failure}")


def _encode(codes: bytes | bytearray) -> list[tuple[int, int]]:
    return [(code, len(list(run))) for code, run in groupby(codes)]


def _decode(runs: list[tuple[int, int]]) -> bytes:
    return b"".join(bytes([code]) * count for code, count in runs)
