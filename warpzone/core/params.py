"""The sections of params.yaml, typed and checked. params.yaml owns every value."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from warpzone.core.errors import InputError
from warpzone.core.yaml import read_yaml

Level = Annotated[str, Field(pattern=r"^[1-8]-[1-4]$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=1000)]
NoOpMax = Annotated[int, Field(ge=0, le=300)]
StickyProbability = Annotated[float, Field(ge=0, lt=1)]
Init = Literal["bc", "scratch"]
EmulatorName = Literal["nes-py", "fceumm"]
DeviceName = Literal["cpu", "cuda", "auto"]


class Section(BaseModel):
    """Base of all sections: frozen, no defaults, no unknown keys, no conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RewardParams(Section):
    """What is paid for, see `warpzone.envs.mario.rewards`. Every weight may be 0."""

    progress: Finite
    """Per pixel of new ground."""
    progress_cap: Count
    """Most pixels paid in one agent step."""
    score: Finite
    """Per point."""
    coin: Finite
    clock_tick: Finite
    """Per tick of the game's clock; negative to make the agent hurry."""
    death: Finite
    clear: Finite


class GameParams(Section):
    """The learning problem that the cartridge is turned into."""

    emulator: EmulatorName
    """Plays demonstrations and trains; agents are always evaluated on nes-py."""
    level: Level
    action_set: Literal["right_only", "simple", "complex", "all"]
    frame_skip: Annotated[int, Field(ge=1, le=16)]
    """Emulator frames a decision lasts."""
    height: Annotated[int, Field(ge=36, le=240)]
    width: Annotated[int, Field(ge=36, le=256)]
    """Size of the grey picture in pixels; SB3's network needs 36 at the least."""
    frame_stack: Annotated[int, Field(ge=1, le=16)]
    crop_hud: bool
    """Leave out the top 32 rows of the screen: score, coins, world and time."""
    show_buttons: bool
    """Draw the buttons that are held into each picture, as speedrunners do."""
    time_limit: Count
    """Agent steps after which an episode is truncated."""
    stuck_limit: CountOrNone
    """Agent steps without new ground after which it is truncated; 0: never."""
    reward: RewardParams


class NoiseParams(Section):
    """What keeps an agent from replaying one fixed sequence of buttons."""

    no_op_max: NoOpMax
    """An episode begins with 0 to this many idle frames."""
    sticky_probability: StickyProbability
    """Per frame, the chance that the previous frame's buttons are held instead."""


class RunsParams(Section):
    """The agents that train_rl trains: every start with every seed."""

    init: Annotated[tuple[Init, ...], Field(min_length=1, strict=False)]
    seed: Annotated[tuple[Seed, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        for name in ("init", "seed"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} {list(values)} repeats a value")
        return self

    @property
    def names(self) -> list[str]:
        """One name a trained agent, for example ``bc-seed1``."""
        return [f"{init}-seed{seed}" for init in self.init for seed in self.seed]


class CollectDemosParams(Section):
    """How the planner plays, see `warpzone.envs.mario.planner`."""

    episodes: Count
    """Demonstrations to keep."""
    max_tries: Count
    """Episodes after which collection gives up."""

    @model_validator(mode="after")
    def _enough_tries(self) -> Self:
        if self.max_tries < self.episodes:
            raise ValueError(
                f"max_tries {self.max_tries} is less than episodes {self.episodes}"
            )
        return self


class CloningParams(Section):
    """Behavioural cloning, see `warpzone.training.bc`."""

    batch_size: Count
    learning_rate: Positive
    weight_decay: NonNegative
    updates: Count
    """Batches to draw."""


class PretrainBCParams(CloningParams):
    """Cloning of the teacher, who is asked about where the clone has been (DAgger)."""

    held_out_share: Share
    """Share of the episodes that is not trained on."""
    envs: Annotated[int, Field(ge=1, le=256)]
    """Episodes played side by side."""
    episodes: Annotated[int, Field(ge=2, le=10_000)]
    """Played by the teacher; ``updates`` are made on them."""
    rounds: Annotated[int, Field(ge=0, le=100)]
    """Of DAgger; 0 clones the teacher's play only."""
    round_episodes: Annotated[int, Field(ge=2, le=900)]
    """Played by the clone in a round."""
    round_updates: Count
    """After each round, on all pairs so far."""
    final_updates: Count
    """At the end, with the learning rate falling to nothing."""


class PPOParams(Section):
    """Proximal policy optimisation, by the names of SB3's PPO."""

    agent_steps: Count
    """Length of the training, summed over all environments; whole rollouts are made."""
    envs: Annotated[int, Field(ge=1, le=256)]
    rollout_steps: Count
    """Agent steps of each environment between two updates."""
    batch_size: Annotated[int, Field(ge=2)]
    epochs: Count
    learning_rate: Positive
    final_learning_rate: NonNegative
    """To which it falls, in a straight line, when all agent steps are taken."""
    gamma: Probability
    """Discount per agent step."""
    gae_lambda: Probability
    clip_range: Positive
    entropy_coefficient: NonNegative
    final_entropy_coefficient: NonNegative
    """To which it falls, in a straight line, as the learning rate does."""
    max_grad_norm: Positive
    target_kl: Positive
    """An update ends early when it has moved the policy so far, in nats, times 1.5."""
    average_decay: Probability
    """What an update leaves of the average of the policies so far, which plays."""
    critic_learning_rate: Positive
    critic_epochs: Count
    """Times that the critic reads a rollout."""
    critic_warmup: CountOrNone
    """Updates at the start that teach only the critic."""
    retry_share: Probability
    """Where an episode has failed, the chance that its end is played again."""
    selection_interval: Count
    """Updates between two looks at how well the policy plays."""
    selection_episodes: Count
    """Of each look, at most: it ends once the goal is surely out of reach."""
    goal_clear_rate: Probability
    """Training ends when the selection's clear rate is at least this, at 95 %."""
    collapse_share: Probability
    """A look that surely clears less than this share of the best one's rate is bad."""
    collapse_looks: Count
    """Training ends after so many bad looks in a row."""

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        rollout = self.envs * self.rollout_steps
        if rollout % self.batch_size:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide the rollout of "
                f"envs x rollout_steps = {rollout}"
            )
        return self


class TrainTeacherParams(PPOParams):
    """Training of a teacher that sees RAM, from a clone of the demonstrations."""

    cloning: CloningParams
    start_share: Probability
    """Share of the episodes that begin somewhere along a demonstration."""
    temperature: NonNegative
    """That it plays and teaches with: divides the logits."""


class EvaluateParams(Section):
    """Episodes played to measure an agent."""

    episodes: Annotated[int, Field(ge=1, le=10_000)]
    envs: Annotated[int, Field(ge=1, le=256)]
    """Episodes played side by side."""
    temperature: NonNegative
    """Divides the logits before an action is drawn; 0 takes the likeliest action."""
    idle_temperature: NonNegative
    """The same where the picture stands still."""


class RobustnessParams(Section):
    """The noise that agents are tried under, one value at a time."""

    episodes: Annotated[int, Field(ge=1, le=10_000)]
    """Of each agent under each noise, on ``game.emulator``."""
    no_op_max: Annotated[tuple[NoOpMax, ...], Field(strict=False)]
    sticky_probability: Annotated[tuple[StickyProbability, ...], Field(strict=False)]


class RecordVideoParams(Section):
    """Which agent is shown."""

    agent: Annotated[str, Field(pattern=r"^(bc|scratch)-seed[0-9]{1,3}$")]
    gif_seconds: Positive
    gif_fps: Annotated[int, Field(ge=1, le=50)]
    gif_width: Annotated[int, Field(ge=64, le=512)]


class CompareParams(Section):
    """How agents are compared."""

    bootstrap_samples: Annotated[int, Field(ge=100)]


class Params(Section):
    """All of params.yaml."""

    seed: Seed
    device: DeviceName
    """Where policies are trained; ``auto`` takes a GPU if there is one."""
    game: GameParams
    noise: NoiseParams
    runs: RunsParams
    collect_demos: CollectDemosParams
    train_teacher: TrainTeacherParams
    pretrain_bc: PretrainBCParams
    train_rl: PPOParams
    evaluate: EvaluateParams
    robustness: RobustnessParams
    record_video: RecordVideoParams
    compare: CompareParams

    @model_validator(mode="after")
    def _known_agents(self) -> Self:
        if self.record_video.agent not in self.runs.names:
            raise ValueError(
                f"record_video.agent {self.record_video.agent!r} is not among the "
                f"agents that runs trains: {self.runs.names}"
            )
        return self


def load_params(path: Path) -> Params:
    """Read and check all of params.yaml.

    Raises:
        InputError: In one line: the file, the key, the value and what is allowed.
    """
    return parse_params(read_yaml(path), path.name)


def parse_params(document: Any, source: str) -> Params:
    """Check a document that was read from the file named ``source``.

    Raises:
        InputError: In one line: the source, the key, the value and what is allowed.
    """
    if not isinstance(document, dict):
        raise InputError(f"{source}: must hold named sections, got {document!r}")
    try:
        return Params.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{source}: {_describe(error)}") from error


def _describe(error: ValidationError) -> str:
    """Put all that is wrong into one line, missing and unknown keys side by side."""
    missing: dict[str, list[str]] = {}
    unknown: dict[str, list[str]] = {}
    wrong: list[str] = []
    for item in error.errors():
        *parents, key = [str(part) for part in item["loc"]] or ["params"]
        section = ".".join(parents) or "the file"
        match item["type"]:
            case "missing":
                missing.setdefault(section, []).append(key)
            case "extra_forbidden":
                unknown.setdefault(section, []).append(key)
            case "value_error":
                wrong.append(
                    f"{'.'.join([*parents, key])}: {item.get('ctx', {}).get('error')}"
                )
            case _:
                value = repr(item["input"])
                reason = item["msg"][0].lower() + item["msg"][1:]
                wrong.append(f"{'.'.join([*parents, key])} = {value}: {reason}")
    for section in missing | unknown:
        halves = []
        if section in missing:
            halves.append(f"lacks {sorted(missing[section])}")
        if section in unknown:
            halves.append(f"has unknown {sorted(unknown[section])}")
        wrong.append(f"{section} {' and '.join(halves)}")
    return "; ".join(wrong)
