"""The sections of params.yaml, typed and checked. params.yaml owns every value.

What only a world or an algorithm knows is checked by them: the keyword arguments of an
env by `warpzone.envs.registry.check_env`, those of a recipe's algorithm by
`warpzone.training.algorithms.check_recipe`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from warpzone.core.errors import InputError
from warpzone.core.names import BASELINES, agent_name
from warpzone.core.yaml import read_yaml


def _word(value: Any) -> Any:
    """Take a plain scalar for a name: YAML reads a seed's 1 as a number."""
    return str(value) if isinstance(value, int) else value


# They are parts of file names, and DVC puts them into shell commands.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrNone = Annotated[int, Field(ge=0, le=10**9)]
Episodes = Annotated[int, Field(ge=1, le=10_000)]
Envs = Annotated[int, Field(ge=1, le=256)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Seed = Annotated[int, Field(ge=0, lt=1000)]
DeviceName = Literal["cpu", "cuda", "auto"]
Observation = Literal["pixels", "state"]
Start = Literal["scratch", "demos", "bc"]
Levels = Annotated[tuple[Name, ...], Field(min_length=1, max_length=32, strict=False)]
Choice = Annotated[str, Field(pattern=r"^(median|best|worst|\d{1,5})$")]


class Section(BaseModel):
    """Base of all sections: frozen, no defaults, no unknown keys, no conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NoiseParams(Section):
    """What keeps an agent from replaying one fixed sequence of actions."""

    no_op_max: Annotated[int, Field(ge=0, le=300)]
    """An episode begins with 0 to this many idle frames."""
    sticky_probability: Annotated[float, Field(ge=0, lt=1)]
    """Per frame, the probability that the previous frame's action is held instead."""


class ConditionParams(NoiseParams):
    """A noise that agents are evaluated under."""

    episodes: Episodes
    reference: bool
    """Whether to play with the env's ``reference`` arguments."""


class RunParams(Section):
    """The agents that are trained: every recipe on every task with every seed."""

    tasks: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    recipes: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _no_repeats(self) -> Self:
        for name in ("tasks", "recipes", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} {list(values)} repeats a value")
        return self


class EnvParams(Section):
    """A world, see `warpzone.envs.registry`."""

    kwargs: dict[str, Any]
    """Keyword arguments of its env."""
    reference: dict[str, Any]
    """Those that differ where an agent is evaluated with ``reference: true``."""
    tasks: Annotated[dict[Name, Levels], Field(min_length=1)]
    """The levels of each task. Episodes take them in turns."""


class CollectDemosParams(Section):
    """How often the demonstrator plays each level of a task."""

    episodes: CountOrNone
    """Demonstrations to keep; with 0, people's recordings have to do."""
    max_tries: CountOrNone
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

    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    updates: Count
    """Batches to draw."""


class PretrainBCParams(CloningParams):
    """Cloning of the teacher, which labels every step of the clone's play (DAgger)."""

    observation: Observation
    temperature: NonNegative
    idle_temperature: NonNegative | None
    held_out_share: Share
    """Share of the episodes that is not trained on."""
    n_envs: Envs
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


class RecipeParams(Section):
    """How an agent is made. Further keys are those of SB3's algorithm."""

    model_config = ConfigDict(extra="allow")

    algorithm: Name
    start: Start
    """From random weights, from a clone of the demonstrations, or from models/bc."""
    cloning: CloningParams | None = None
    """Of the demonstrations, where ``start`` is demos."""
    observation: Observation
    """What the actor sees; the state where the world has no pixels."""
    temperature: NonNegative
    """Divides the logits when the agent plays; 0 takes the likeliest action."""
    idle_temperature: NonNegative | None
    """The same where the screen stands still."""
    total_timesteps: Count
    """Agent steps of all environments together, at most."""
    n_envs: Envs
    final_learning_rate: Annotated[float, Field(ge=0, le=1)]
    """To which ``learning_rate`` falls, in a straight line."""
    final_ent_coef: Annotated[float, Field(ge=0, le=1)] | None = None
    """To which ``ent_coef`` falls, of algorithms that have one."""
    critic_warmup: CountOrNone
    """Agent steps at the start that teach only the critic."""
    ema_decay: Probability
    """Weight of the old value in the moving average of the weights, which plays."""
    demo_start_probability: Probability
    """That an episode begins somewhere along a demonstration."""
    restart_probability: Probability
    """That an episode which has failed is restarted from shortly before its end."""
    log_freq: Count
    """Agent steps between two rows of the learning curve, and two checkpoints."""
    eval_freq: Count
    """Agent steps between two evaluations."""
    n_eval_episodes: Episodes
    """Of an evaluation, at most: it ends once the goal is out of reach."""
    goal_success_rate: Probability
    """Training ends when the success rate is significantly (95 %) at least this."""
    collapse_share: Probability
    patience: Count
    """Training ends after so many evaluations in a row that are significantly below
    ``collapse_share`` of the best one."""

    @model_validator(mode="after")
    def _cloning_where_demos(self) -> Self:
        if (self.start == "demos") != (self.cloning is not None):
            raise ValueError("cloning belongs to start: demos, and to no other")
        return self

    @property
    def algorithm_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the algorithm, by SB3's names."""
        return dict(self.model_extra or {})


class EvaluateParams(Section):
    """Episodes played to measure agents."""

    n_envs: Envs
    """Episodes played side by side."""
    noises: Annotated[dict[Name, ConditionParams], Field(min_length=1)]

    @model_validator(mode="after")
    def _has_default(self) -> Self:
        if "default" not in self.noises:
            raise ValueError(f"noises lacks 'default', it has {list(self.noises)}")
        return self


class RecordVideoParams(Section):
    """Who is filmed."""

    agents: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    episodes: Annotated[
        tuple[Annotated[Choice, BeforeValidator(_word)], ...],
        Field(min_length=1, strict=False),
    ]
    """``median``, ``best``, ``worst`` or an episode's number, from 0. The GIF shows the
    last one."""
    gif_seconds: Annotated[float, Field(ge=0.1, le=600)]
    gif_fps: Annotated[int, Field(ge=1, le=50)]
    gif_width: Annotated[int, Field(ge=64, le=512)]


class CompareParams(Section):
    """How agents are compared."""

    bootstrap_samples: Annotated[int, Field(ge=100, le=1_000_000)]


class Params(Section):
    """All of params.yaml."""

    seed: Seed
    device: DeviceName
    """Where policies are trained; ``auto`` takes a GPU if there is one."""
    env: Name
    run: RunParams
    noise: NoiseParams
    envs: dict[Name, EnvParams]
    collect_demos: CollectDemosParams
    recipes: dict[Name, RecipeParams]
    pretrain_bc: PretrainBCParams
    evaluate: EvaluateParams
    record_video: RecordVideoParams
    compare: CompareParams

    @model_validator(mode="after")
    def _run_fits(self) -> Self:
        if self.env not in self.envs:
            raise ValueError(f"env is {self.env!r}, but envs has {list(self.envs)}")
        recipes = [name for name in self.recipes if name != "teacher"]
        for axis, wanted, known, where in (
            ("tasks", self.run.tasks, list(self.world.tasks), f"envs.{self.env}.tasks"),
            ("recipes", self.run.recipes, recipes, "recipes"),
        ):
            if unknown := [name for name in wanted if name not in known]:
                raise ValueError(
                    f"run.{axis}: {where} has no {unknown[0]!r}, it has "
                    f"{', '.join(known)}: add -S 'run.{axis}=[{(known or wanted)[0]}]'"
                )
        for name in self.run.recipes:
            if self.recipes[name].start == "demos":
                raise ValueError(f"recipes.{name}.start: only the teacher has demos")
        if "teacher" not in self.recipes:
            raise ValueError("recipes lacks 'teacher', which every clone learns from")
        if unknown := [n for n in self.record_video.agents if n not in self.agents]:
            raise ValueError(
                f"record_video.agents: no agent {unknown[0]!r} is evaluated, only "
                f"{', '.join(self.agents)}: add "
                f"-S 'record_video.agents=[{self.agents[-1]}]'"
            )
        return self

    @property
    def world(self) -> EnvParams:
        """The section of the env that is played."""
        return self.envs[self.env]

    @property
    def agents(self) -> list[str]:
        """Names of all agents that are evaluated on each task, baselines first."""
        run = self.run
        trained = [agent_name(recipe, s) for recipe in run.recipes for s in run.seeds]
        return [*BASELINES, *trained]

    def levels(self, task: str) -> tuple[str, ...]:
        """Return the levels of a task.

        Raises:
            InputError: If the env has no such task.
        """
        if task not in self.world.tasks:
            raise InputError(
                f"env {self.env!r} has no task {task!r}: it has "
                f"{', '.join(self.world.tasks)}"
            )
        return self.world.tasks[task]


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
        raise InputError(f"{source}: must hold named sections, got {document!r:.80}")
    try:
        return Params.model_validate(document)
    except ValidationError as error:
        raise InputError(f"{source}: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """Put all that is wrong into one line, missing and unknown keys side by side."""
    missing: dict[str, list[str]] = {}
    unknown: dict[str, list[str]] = {}
    wrong: list[str] = []
    for item in error.errors():
        if item["type"] == "too_short" and item["input"]:
            # Its values are wrong, which is said of each.
            continue
        *parents, key = [str(part) for part in item["loc"]] or [""]
        section, where = ".".join(parents), ".".join([*parents, key])
        match item["type"]:
            case "missing":
                missing.setdefault(section, []).append(key)
            case "extra_forbidden":
                unknown.setdefault(section, []).append(key)
            case "value_error":
                reason = item.get("ctx", {}).get("error")
                wrong.append(f"{where}: {reason}" if where else str(reason))
            case _:
                wrong.append(f"{where} = {item['input']!r:.80}: {_reason(item)}")
    return "; ".join([*wrong, *both_halves(missing, unknown)])


def both_halves(
    missing: dict[str, list[str]], unknown: dict[str, list[str]]
) -> list[str]:
    """Say which keys each section lacks and which of its keys nobody knows."""
    said = []
    for section in missing | unknown:
        halves = []
        if section in missing:
            halves.append(f"lacks {sorted(missing[section])}")
        if section in unknown:
            halves.append(f"has unknown {sorted(unknown[section])}")
        said.append(f"{section or 'the file'} {' and '.join(halves)}")
    return said


def _reason(item: Any) -> str:
    """Say in the words of YAML what a value should be."""
    match item["type"]:
        case "tuple_type":
            return f"write a list, as [{item['input']}]"
        case "model_type" | "dict_type":
            return "write a section of keys and values"
        case "bool_type":
            return "write true or false"
        case "int_type" | "int_from_float":
            value = item["input"]
            if isinstance(value, float) and value.is_integer():
                return f"write {int(value)}"
            return "write a whole number"
        case "float_type":
            return "write a number, with a point"
        case "too_short":
            return "write one value or more"
        case "string_pattern_mismatch":
            return (
                "write median, best, worst or a number"
                if "median" in item["ctx"]["pattern"]
                else "write letters, digits, - and _"
            )
    return item["msg"][0].lower() + item["msg"][1:]
