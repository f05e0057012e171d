"""The sections of params.yaml, typed and checked.

params.yaml owns every value and says what each one means. What only a world or an
algorithm knows is checked by them: the keyword arguments of an env by
`warpzone.envs.registry.check_env`, those of a recipe's algorithm by
`warpzone.training.algorithms.check_recipe`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    create_model,
    model_validator,
)

from warpzone.core.errors import InputError
from warpzone.core.names import BASELINES, NOISE, agent_name
from warpzone.core.yaml import read_yaml

# They are parts of file names, and DVC puts them into shell commands. A point would
# end a key of params.yaml there.
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
CHOICE = r"^(median|best|worst|\d{1,5})$"
_START_MODEL = r"^data/starts/[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Name = Annotated[str, Field(pattern=_NAME)]
Levels = Annotated[tuple[Name, ...], Field(min_length=1, max_length=32, strict=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Tries = Annotated[int, Field(ge=0, le=10_000)]
Episodes = Annotated[int, Field(ge=1, le=10_000)]
Envs = Annotated[int, Field(ge=1, le=256)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Seed = Annotated[int, Field(ge=0, lt=1000)]
DeviceName = Literal["cpu", "cuda", "auto"]
Observation = Literal["pixels", "state"]
# YAML reads the number of an episode as one.
Choice = Annotated[
    str,
    Field(pattern=CHOICE),
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
]


def _no_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("repeats a value")
    return values


_Several = (Field(min_length=1, strict=False), AfterValidator(_no_repeats))
Names = Annotated[tuple[Name, ...], *_Several]
Seeds = Annotated[tuple[Seed, ...], *_Several]
Choices = Annotated[tuple[Choice, ...], *_Several]


class Section(BaseModel):
    """Base of all sections: frozen, no defaults, no unknown keys, no conversions."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False
    )


class NoiseParams(Section):
    """What keeps an agent from replaying one fixed sequence of actions."""

    no_op_max: Annotated[int, Field(ge=0, le=300)]
    sticky_probability: Annotated[float, Field(ge=0, lt=1)]
    sticky_unit: Literal["frame", "decision"]


class ConditionParams(NoiseParams):
    """How agents are evaluated."""

    episodes: Episodes
    reference: bool
    temperature: Annotated[float, Field(ge=0, le=100)] | None
    """Divides the logits before an action is drawn; if None, the agent's own do."""


class RunParams(Section):
    """The agents that are trained: every recipe on every task with every seed."""

    tasks: Names
    recipes: Names
    seeds: Seeds


class EnvParams(Section):
    """A world, see `warpzone.envs.registry`."""

    kwargs: dict[str, Any]
    reference: dict[str, Any]
    """Those of ``kwargs`` that differ where ``reference`` of a noise is true."""
    tasks: Annotated[dict[Name, Levels], Field(min_length=1)]


class CollectDemosParams(Section):
    """How often the demonstrator plays each level of a task."""

    episodes: Tries
    """Demonstrations to keep; with 0, people's recordings have to do."""
    max_tries: Tries


class CloningParams(Section):
    """Behavioural cloning, see `warpzone.training.bc`."""

    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Probability
    updates: Count


class PretrainBCParams(CloningParams):
    """Cloning of the teacher, which labels every step of the clone's play (DAgger)."""

    observation: Observation
    temperature: NonNegative
    idle_temperature: NonNegative | None
    held_out_share: Annotated[float, Field(gt=0, lt=1)]
    n_envs: Envs
    episodes: Annotated[int, Field(ge=2, le=10_000)]
    rounds: Annotated[int, Field(ge=0, le=100)]
    round_episodes: Annotated[int, Field(ge=2, le=900)]
    round_updates: Count
    final_updates: Count


class DemonstrationsParams(Section):
    """Q-learning from demonstrations, see `warpzone.training.value_based`."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Of each batch."""
    margin: NonNegative
    """In units of the reward."""
    margin_weight: NonNegative
    """Of the large-margin loss, beside that of the temporal difference."""
    updates: Annotated[int, Field(ge=0, le=10**9)]
    """Before the first agent step."""


class ModelStart(Section):
    """A finished agent that training begins with."""

    model: Annotated[str, Field(pattern=_START_MODEL)]
    """Its folder, in data/starts/."""


class GAILParams(CloningParams):
    """A reward for playing as was demonstrated.

    See `warpzone.training.learned_rewards`. Those of cloning are the discriminator's;
    ``updates`` are per rollout.
    """

    weight: Annotated[float, Field(gt=0, le=1e6)]
    env_weight: NonNegative
    """Of the env's own reward."""


class RNDParams(Section):
    """A reward for what is new, see `warpzone.training.learned_rewards`."""

    weight: Annotated[float, Field(gt=0, le=1e6)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    updates: Count
    """Per rollout."""


def _known_start(value: Any) -> Any:
    if value not in STARTS:
        raise ValueError(
            f"write {', '.join(STARTS)}, or {{model: data/starts/NAME}} for a finished "
            "agent"
        )
    return value


STARTS = ("scratch", "demos", "bc")
"""What a recipe may start from, beside a `ModelStart`."""

_NamedStart = Annotated[
    Literal["scratch", "demos", "bc"], BeforeValidator(_known_start), Tag("[name]")
]
Start = Annotated[
    _NamedStart | Annotated[ModelStart, Tag("[model]")],
    Discriminator(
        lambda value: "[model]" if isinstance(value, dict | ModelStart) else "[name]"
    ),
]


class LevelStartParams(Section):
    """Episodes begin at the start of a level; the levels take turns."""

    name: Literal["level-start"]


class DemoStatesParams(Section):
    """Episodes begin anywhere along the demonstrations, with a probability."""

    name: Literal["demo-states"]
    probability: Probability


class _PromotionParams(Section):
    """A stage ends when the success rate over the last episodes is high enough."""

    success_rate: Annotated[float, Field(gt=0, le=1)]
    window: Annotated[int, Field(ge=1, le=10_000)]


class BackwardParams(_PromotionParams):
    """Episodes begin near the end of the demonstrations, then further and further back.

    Salimans and Chen 2018, https://arxiv.org/abs/1812.03381.
    """

    name: Literal["backward"]
    stages: Annotated[int, Field(ge=1, le=1000)]
    """Stretches that the demonstrations are cut into."""


class SequenceParams(_PromotionParams):
    """The levels of the task come one after another."""

    name: Literal["sequence"]
    earlier_share: Annotated[float, Field(ge=0, lt=1)]
    """Probability that an episode is played on one of the earlier levels."""


class MixtureParams(Section):
    """Levels are drawn with weights."""

    name: Literal["mixture"]
    weights: dict[Name, Annotated[float, Field(gt=0, le=1e6)]]


CurriculumParams = (
    LevelStartParams
    | DemoStatesParams
    | BackwardParams
    | SequenceParams
    | MixtureParams
)
"""Where episodes of the training begin, see `warpzone.training.curricula`."""


class RecipeParams(Section):
    """How an agent is made. Further keys are those of SB3's algorithm."""

    model_config = ConfigDict(extra="allow")

    algorithm: Name
    start: Start
    cloning: CloningParams | None = None
    """Of the demonstrations by an actor, where ``start`` is demos."""
    demonstrations: Annotated[
        DemonstrationsParams | None, Field(exclude_if=lambda value: value is None)
    ] = None
    """The same for value-based algorithms."""
    observation: Observation
    temperature: NonNegative
    idle_temperature: NonNegative | None
    total_timesteps: Count
    n_envs: Envs
    final_learning_rate: Probability
    final_ent_coef: Probability | None = None
    """Of algorithms that have an ``ent_coef``."""
    critic_warmup: Annotated[int, Field(ge=0, le=10**9)] | None = None
    """Of algorithms that have a critic."""
    # What is not given is left out of the agents' origin, too.
    gail: GAILParams | None = Field(None, exclude_if=lambda value: value is None)
    rnd: RNDParams | None = Field(None, exclude_if=lambda value: value is None)
    on_bad_health: Literal["warn", "stop"] = Field(
        "warn", exclude_if=lambda value: value == "warn"
    )
    """What `warpzone.training.health` does once it has found something."""
    ema_decay: Probability
    demo_start_probability: Probability
    restart_probability: Probability
    # What is not given is left out of the agents' origin, too.
    curriculum: Annotated[CurriculumParams, Field(discriminator="name")] | None = Field(
        None, exclude_if=lambda value: value is None
    )
    log_freq: Count
    eval_freq: Count
    n_eval_episodes: Episodes
    goal_success_rate: Probability
    collapse_share: Probability
    patience: Count

    @property
    def algorithm_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the algorithm, by SB3's names."""
        return dict(self.model_extra or {})

    @property
    def needs_demonstrations(self) -> bool:
        """Whether the training reads the demonstrations."""
        is_shown = self.start == "demos" or self.gail is not None
        return is_shown or self.begins_along_demonstrations

    @property
    def begins_along_demonstrations(self) -> bool:
        """Whether episodes may begin somewhere along the demonstrations."""
        is_curriculum = isinstance(self.curriculum, DemoStatesParams | BackwardParams)
        return is_curriculum or self.demo_start_probability > 0

    def check_levels(self, where: str, task: str, levels: Sequence[str]) -> None:
        """Check that the curriculum fits the levels of a task.

        Raises:
            ValueError: If not; ``where`` is what the recipe is called there.
        """
        if isinstance(self.curriculum, SequenceParams) and len(set(levels)) == 1:
            raise ValueError(
                f"{where}.curriculum is a sequence of levels, and task {task} has only "
                f"{levels[0]}: give it a task of several levels"
            )
        if isinstance(self.curriculum, MixtureParams):
            given, wanted = set(self.curriculum.weights), set(levels)
            halves = {"lacks": wanted - given, "has unknown": given - wanted}
            said = [
                f"{verb} {sorted(names)}" for verb, names in halves.items() if names
            ]
            if said:
                raise ValueError(
                    f"{where}.curriculum.weights {' and '.join(said)}: task {task} has "
                    f"the levels {', '.join(dict.fromkeys(levels))}"
                )


class EvaluateParams(Section):
    """Episodes played to measure agents."""

    n_envs: Envs
    noises: dict[Name, ConditionParams]


class RecordVideoParams(Section):
    """Who is filmed."""

    agents: Names
    episodes: Choices
    side_by_side_episode: Choice
    """Of the agent; the others are shown on the same noise."""
    side_by_side_seconds: Annotated[float, Field(ge=0.1, le=600)]
    gif_fps: Annotated[int, Field(ge=1, le=50)]
    gif_width: Annotated[int, Field(ge=64, le=2048)]


class CompareParams(Section):
    """How agents are compared."""

    bootstrap_samples: Annotated[int, Field(ge=100, le=1_000_000)]


class Params(Section):
    """All of params.yaml."""

    seed: Seed
    device: DeviceName
    torch_threads: Annotated[int, Field(ge=1, le=64)]
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
    def _values_fit(self) -> Self:
        if self.env not in self.envs:
            raise ValueError(f"env is {self.env!r}, but envs has {list(self.envs)}")
        if "teacher" not in self.recipes:
            raise ValueError("recipes lacks 'teacher', which every clone learns from")
        if NOISE not in self.evaluate.noises:
            raise ValueError(f"evaluate.noises lacks {NOISE!r}")
        if self.collect_demos.max_tries < self.collect_demos.episodes:
            raise ValueError("collect_demos.max_tries is less than its episodes")
        for name, recipe in self.recipes.items():
            ways = recipe.cloning, recipe.demonstrations
            if sum(way is not None for way in ways) != (recipe.start == "demos"):
                raise ValueError(
                    f"recipes.{name}: one of cloning and demonstrations belongs to "
                    "start: demos, and none to any other"
                )
            if recipe.curriculum is not None and recipe.demo_start_probability > 0:
                raise ValueError(
                    f"recipes.{name}: demo_start_probability = "
                    f"{recipe.demo_start_probability} is a curriculum, and there is "
                    f"{recipe.curriculum.name}, too: set it to 0.0"
                )
        # The teacher is trained in any case.
        recipes = [name for name in self.recipes if name != "teacher"]
        for key, names, where, known in (
            ("run.tasks", self.run.tasks, f"envs.{self.env}.tasks", self.world.tasks),
            ("run.recipes", self.run.recipes, "recipes", recipes),
            ("record_video.agents", self.record_video.agents, "run", self.agents),
        ):
            for name in names:
                if name not in known:
                    near = get_close_matches(name, known, 1, 0) or [name]
                    raise ValueError(
                        f"{key}: {where} has no {name!r}, it has {', '.join(known)}: "
                        f"add -S '{key}=[{near[0]}]'"
                    )
        for name, task in product(("teacher", *self.run.recipes), self.run.tasks):
            self.recipes[name].check_levels(f"recipes.{name}", task, self.levels(task))
        episodes = self.evaluate.noises[NOISE].episodes
        video = self.record_video
        for key, choices in (
            ("episodes", video.episodes),
            ("side_by_side_episode", (video.side_by_side_episode,)),
        ):
            for wanted in choices:
                if wanted.isdecimal() and int(wanted) >= episodes:
                    raise ValueError(
                        f"record_video.{key}: there is no {wanted}, as "
                        f"evaluate.noises.{NOISE}.episodes is {episodes}, from 0"
                    )
        return self

    @property
    def world(self) -> EnvParams:
        return self.envs[self.env]

    @property
    def agents(self) -> list[str]:
        """Names of all agents that are evaluated on each task, baselines first."""
        trained = product(self.run.recipes, self.run.seeds)
        return [*BASELINES, *(agent_name(recipe, seed) for recipe, seed in trained)]

    def levels(self, task: str) -> tuple[str, ...]:
        return self.world.tasks[task]


def load_params(path: Path) -> Params:
    """Read and check all of params.yaml, see `parse_params`."""
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


def check_section(
    section: str, fields: Mapping[str, Any], given: Mapping[str, Any], known: set[str]
) -> None:
    """Check a section that is handed on to what only others know.

    Args:
        section: Its name, for example ``recipes.ppo``.
        fields: As `pydantic.create_model` takes them, the type and the default of each.
        given: Its values.
        known: All that a mistyped key may have been meant to be.

    Raises:
        InputError: In one line, as `parse_params`.
    """
    model = create_model(section, __base__=Section, **fields)
    try:
        model.model_validate(given)
    except ValidationError as error:
        raise InputError(f"params.yaml: {describe(error, section, known)}") from error


def describe(
    error: ValidationError, within: str = "", known: Iterable[str] = ()
) -> str:
    """Put all that is wrong into one line, missing and unknown keys side by side.

    Args:
        error: Of a section.
        within: The section's name; nothing for all of the file.
        known: What an unknown key may have been meant to be.
    """
    wrong: list[str] = []
    lacks, unknown = defaultdict(set), defaultdict(set)
    for item in error.errors():
        loc = (within, *item["loc"]) if within else item["loc"]
        value, kind = item["input"], item["type"]
        match loc:
            # Pydantic says as which of them it has read a section.
            case ("recipes", recipe, "curriculum", _, *rest):
                loc = ("recipes", recipe, "curriculum", *rest)
        if kind.startswith("union_tag_"):
            loc, value = (*loc, "name"), item.get("ctx", {}).get("tag")
        # What pydantic calls the key of a dictionary, or one kind of several.
        path = [str(part) for part in loc if not str(part).startswith("[")]
        section, where = ".".join(path[:-1]), ".".join(path)
        if kind == "union_tag_not_found":
            lacks[section].add("name")
        elif kind == "missing":
            lacks[section].add(path[-1])
            if section.startswith("recipes.") and value is not None:
                unknown[section].update(_mistyped(path[-1], value))
        elif kind == "extra_forbidden":
            unknown[section].add(path[-1])
        # Where a list's values are wrong, pydantic finds too few.
        elif kind != "too_short" or not value:
            is_word = value is None or isinstance(value, bool)
            shown = json.dumps(value) if is_word else f"{value!r:.80}"
            wrong.append(
                f"{where} = {shown}: {_reason(item)}" if where else _reason(item)
            )
    for section in lacks | unknown:
        halves = {"lacks": lacks[section], "has unknown": unknown[section]}
        said = [f"{verb} {sorted(keys)}" for verb, keys in halves.items() if keys]
        hint = ""
        if known and not lacks[section]:
            near = {
                n for key in unknown[section] for n in get_close_matches(key, known)
            }
            hint = ": did you mean" if near else ": it knows"
            hint += f" {', '.join(sorted(near or known))}"
        wrong.append(f"{section or 'the file'} {' and '.join(said)}{hint}")
    return "; ".join(wrong)


def _mistyped(key: str, given: Iterable[Any]) -> list[str]:
    """Return what stands in a recipe in place of a key of ours.

    What we do not know is the algorithm's, but for what looks alike.
    """
    ours = RecipeParams.model_fields.keys()
    others = [
        other for other in map(str, given) if not {other, f"final_{other}"} & ours
    ]
    return get_close_matches(key, others, 1, _CLOSE)


_CLOSE = 0.75
"""How alike keys are that are taken for one, see `difflib.SequenceMatcher.ratio`."""

_REASONS = {
    "bool_type": "write true or false",
    "dict_type": "write a section of keys and values",
    "finite_number": "write a number, with a point",
    "float_type": "write a number, with a point",
    "int_from_float": "write a whole number",
    "int_type": "write a whole number",
    "mapping_type": "write a section of keys and values",
    "model_attributes_type": "write a section of keys and values",
    "model_type": "write a section of keys and values",
    "string_type": "write a name, between quotes if it looks like a number",
    "too_long": "write fewer values",
    "too_short": "write one value or more",
    CHOICE: "write median, best, worst or a number",
    _NAME: "write letters, digits, - and _",
    _START_MODEL: "write data/starts/NAME, see data/starts/README.md",
}
"""In the words of YAML, by pydantic's names of errors, and by patterns."""


def _reason(item: Any) -> str:
    value, kind = item["input"], item["type"]
    if kind == "value_error":
        return str(item["ctx"]["error"])
    if kind == "tuple_type":
        is_one = isinstance(value, str | int | float) and not isinstance(value, bool)
        return f"write a list, as [{value if is_one else '1, 2'}]"
    if kind.startswith("int_") and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}" if abs(value) < 1e15 else "write a smaller number"
    if kind == "union_tag_invalid":
        return f"it is one of {item['ctx']['expected_tags'].replace("'", '')}"
    pattern = item.get("ctx", {}).get("pattern")
    reason = _REASONS.get(pattern or kind) or item["msg"]
    return f"{reason[0].lower()}{reason[1:]}"
