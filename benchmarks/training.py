"""PPO, cloning and the planner, against what the machine could do at best."""

import time
from contextlib import closing
from dataclasses import dataclass
from statistics import median

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch.nn.functional import cross_entropy, one_hot

from benchmarks.game import WORLD, Game
from benchmarks.measuring import (
    Metric,
    Result,
    Row,
    Size,
    alternate,
    seconds_a_call,
    seconds_of,
)
from benchmarks.stepping import (
    THREADS,
    Consoles,
    LoggedEnv,
    frames_of,
    logged_envs,
    logs_of,
)
from warpzone.agents.networks import FEATURES, AsymmetricPolicy, PixelNetwork
from warpzone.agents.policy import Policy, PolicyAgent, find_device
from warpzone.core.params import Params, RecipeParams
from warpzone.envs.mario.planner import Planner
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.episodes.table import Score
from warpzone.training.bc import Cloner, Transitions
from warpzone.training.train import train

RECIPE = "bc-ppo"
UPDATES = 2

# No update ends early: all contestants do the same work.
_NO_KL_LIMIT = 1e6


@dataclass(frozen=True)
class TrainedRound:
    """PPO and what it cannot do without, in seconds an agent step."""

    agent_steps_per_second: float
    emulator_seconds: float
    """Of the emulator alone, on as many threads, with the same buttons."""
    forward_seconds: float
    """Of actor and critic."""
    training_seconds: float
    """All epochs of both."""

    @property
    def bound(self) -> float:
        """Agent steps a second with nothing around."""
        return 1 / (
            self.emulator_seconds + self.forward_seconds + self.training_seconds
        )


def compare_training(
    params: Params, game: Game, size: Size, subproc_envs: VecEnv
) -> list[Row]:
    """Train by PPO, against the sum of what it cannot do without and against SB3's.

    Args:
        params: For the recipe, the seed and the device.
        game: What is played, on which emulator.
        size: How much.
        subproc_envs: SB3's SubprocVecEnv of as many environments on nes-py.
    """
    recipe = short_training(params.recipes[RECIPE], size)
    kwargs = recipe.algorithm_kwargs
    device = find_device(params.device)
    consoles = Consoles(game.emulator, size.envs)
    policy = game.policy().to(device)
    with closing(logged_envs(game, size.envs, ("pixels", "state"))) as envs:

        def ours() -> TrainedRound:
            rate, frames_per_step = train_ours(envs, game, recipe, params.seed, device)
            limit = consoles.replay(logs_of(envs), THREADS)
            training = training_seconds(policy, kwargs["batch_size"], size)
            return TrainedRound(
                agent_steps_per_second=rate,
                emulator_seconds=frames_per_step / limit,
                forward_seconds=forward_seconds(policy, size),
                training_seconds=kwargs["n_epochs"] * training,
            )

        sb3: list[float] = []

        def both() -> TrainedRound:
            sb3.append(train_sb3(subproc_envs, recipe, params.seed, device))
            return ours()

        rounds = alternate({"": both}, size.rounds, f"training, {game.emulator}")[""]
    name = f"PPO, {game.emulator}"
    # On nes-py, the emulator alone takes most of the time that there is.
    bound_target, sb3_target = (0.9, 3.0) if game.emulator == "fceumm" else (None, None)
    rates = [one.agent_steps_per_second for one in rounds]
    shares = (
        ("emulator", median(one.emulator_seconds * one.bound for one in rounds)),
        ("forward passes", median(one.forward_seconds * one.bound for one in rounds)),
        ("training steps", median(one.training_seconds * one.bound for one in rounds)),
    )
    parts = ", ".join(f"{part} {share:.0%}" for part, share in shares)
    return [
        Row(
            topic="Training",
            contestant=name,
            baseline="the bound",
            unit="agent steps/s",
            words=(
                "the bound is the emulator's and the networks' time with nothing "
                f"around, one after the other: {parts}"
            ),
            values=rates,
            baseline_values=[one.bound for one in rounds],
            target=bound_target,
        ),
        Row(
            topic="Training",
            contestant=name,
            baseline="SB3 PPO, SubprocVecEnv, nes-py",
            unit="agent steps/s",
            words="SB3 as it comes, with the same pixel network and hyperparameters",
            values=rates,
            baseline_values=sb3,
            target=sb3_target,
        ),
    ]


def short_training(recipe: RecipeParams, size: Size) -> RecipeParams:
    """Return a recipe with few and short rollouts."""
    rollout = size.envs * size.rollout_steps
    return recipe.model_copy(
        update={
            "n_envs": size.envs,
            "n_steps": size.rollout_steps,
            "total_timesteps": UPDATES * rollout,
            "batch_size": min(recipe.algorithm_kwargs["batch_size"], rollout),
            "target_kl": _NO_KL_LIMIT,
        }
    )


def train_ours(
    envs: ThreadedVecEnv,
    game: Game,
    recipe: RecipeParams,
    seed: int,
    device: torch.device,
) -> tuple[float, float]:
    """Return agent steps a second and emulator frames for each of them.

    From the first rollout on: that the model is built does not count.
    """
    began: list[tuple[float, int]] = []

    def score(policy: Policy) -> Score:
        # The first evaluation of the policy is just before the first rollout.
        began.append((time.perf_counter(), frames_of(envs)))
        return Score(success_rate=0.0, progress=0.0, episodes=1)

    start = PolicyAgent(game.policy().to(device), "pixels", recipe.temperature)
    envs.env_method("forget")
    train(envs, start, WORLD, recipe, seed, score, device)
    seconds, frames = began[0]
    seconds, frames = time.perf_counter() - seconds, frames_of(envs) - frames
    return recipe.total_timesteps / seconds, frames / recipe.total_timesteps


class _Clock(BaseCallback):
    """Notes when the first rollout begins."""

    def __init__(self) -> None:
        super().__init__()
        self.began: float | None = None

    def _on_rollout_start(self) -> None:
        self.began = self.began or time.perf_counter()

    def _on_step(self) -> bool:
        return True


class _Pixels(BaseFeaturesExtractor):
    """Our pixel network, for a policy of SB3's."""

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__(space, FEATURES)
        self.network = PixelNetwork(space)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.network(observations)


def train_sb3(
    envs: VecEnv, recipe: RecipeParams, seed: int, device: torch.device
) -> float:
    """Return agent steps a second of SB3's own PPO."""
    model = stable_baselines3.PPO(
        "CnnPolicy",
        envs,
        seed=seed,
        device=device,
        policy_kwargs={"features_extractor_class": _Pixels},
        **recipe.algorithm_kwargs,
    )
    # Its own would leave an empty folder behind.
    model.set_logger(Logger(folder=None, output_formats=[]))
    clock = _Clock()
    model.learn(recipe.total_timesteps, clock)
    assert clock.began is not None
    return recipe.total_timesteps / (time.perf_counter() - clock.began)


def random_observations(policy: Policy, rows: int) -> dict[str, torch.Tensor]:
    """Return random bytes, which cost what real observations cost, by key."""
    generator = torch.Generator().manual_seed(0)
    spaces = policy.observation_space
    assert isinstance(spaces, gym.spaces.Dict)
    observations = {}
    for key, space in spaces.items():
        shape = (rows, *(space.shape or ()))
        seen = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        observations[key] = seen.to(policy.device)
    return observations


def random_actions(policy: Policy, rows: int) -> torch.Tensor:
    """Return random actions, shape ``(rows,)``, int64."""
    generator = torch.Generator().manual_seed(0)
    actions = int(policy.action_space.n)  # pyright: ignore[reportAttributeAccessIssue]
    return torch.randint(actions, (rows,), generator=generator).to(policy.device)


def forward_seconds(policy: Policy, size: Size) -> float:
    """Return how long a forward pass takes for each observation of a rollout."""
    observations = random_observations(policy, size.envs)

    def forward() -> None:
        with torch.inference_mode():
            # Moved, because a GPU does not wait.
            policy(observations)[0].cpu()

    return seconds_a_call(forward, size.seconds / 2) / size.envs


def training_seconds(policy: AsymmetricPolicy, batch_size: int, size: Size) -> float:
    """Return how long a step of PPO's optimiser takes for each sample."""
    observations = random_observations(policy, batch_size)
    actions = random_actions(policy, batch_size)

    def step() -> None:
        # Tensors by key are what SB3's dictionary policies take.
        values, log_probs, entropy = policy.evaluate_actions(observations, actions)  # pyright: ignore[reportArgumentType]
        assert entropy is not None
        loss = values.mean() - log_probs.mean() - entropy.mean()
        policy.optimizer.zero_grad()
        loss.backward()
        policy.optimizer.step()
        loss.item()

    policy.set_training_mode(True)
    seconds = seconds_a_call(step, size.seconds)
    policy.set_training_mode(False)
    return seconds / batch_size


def compare_cloning(params: Params, game: Game, size: Size) -> list[Row]:
    """Clone random pairs, against training steps on one batch."""
    cloning = params.pretrain_bc
    policy = game.policy().to(find_device(params.device))
    actions = random_actions(policy, size.pairs)
    certain = one_hot(actions, int(policy.action_space.n)).float()  # pyright: ignore[reportAttributeAccessIssue]
    seen = random_observations(policy, size.pairs)["pixels"]
    pairs = Transitions(seen.cpu().numpy(), certain.cpu().numpy())
    agent = PolicyAgent(policy, "pixels", cloning.temperature)
    cloner = Cloner(agent, cloning, np.random.default_rng(0))
    updates = 2 * size.pairs // cloning.batch_size

    def ours() -> float:
        seconds = seconds_of(lambda: cloner.fit([pairs], updates))
        return updates * cloning.batch_size / seconds

    batch = random_observations(policy, cloning.batch_size)["pixels"]
    targets = random_actions(policy, cloning.batch_size)
    optimizer = torch.optim.AdamW(
        policy.parameters(),
        cloning.learning_rate,
        weight_decay=cloning.weight_decay,
        fused=True,
    )

    def step() -> None:
        loss = cross_entropy(policy.logits({"pixels": batch}), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    def bound() -> float:
        return cloning.batch_size / seconds_a_call(step, size.seconds)

    rates = alternate({"ours": ours, "bound": bound}, size.rounds, "cloning")
    return [
        Row(
            topic="Training",
            contestant="cloning",
            baseline="the bound",
            unit="samples/s",
            words=(
                "the bound is training steps on one batch; ours draws batches and "
                "averages the weights, too"
            ),
            values=rates["ours"],
            baseline_values=rates["bound"],
        )
    ]


def compare_planning(game: Game, size: Size) -> list[Result]:
    """Plan on one thread, against the emulator alone on one thread."""
    env = LoggedEnv(**game.but(time_limit=size.planned_steps).arguments)
    planner = Planner(env)
    consoles = Consoles(game.emulator, consoles=1)
    limits: list[float] = []
    decisions: list[float] = []

    def plan() -> float:
        frames = -planner.emulated_frames
        began = time.perf_counter()
        # Another episode in each round, the same ones on each emulator.
        env.reset(seed=len(limits))
        planner.reset()
        while env.cause is None:
            env.step(planner.decide())
        elapsed = time.perf_counter() - began
        frames += planner.emulated_frames
        decisions.append(1_000 * len(env.decisions) / frames)
        buttons = bytes(env.frame_actions)
        limits.append(consoles.replay([[buttons] * -(-frames // len(buttons))], 1))
        return frames / elapsed

    name = game.emulator
    rates = alternate({"": plan}, size.rounds, f"planning, {name}")[""]
    return [
        Row(
            topic="Training",
            contestant=f"planner, {name}",
            baseline=f"{name} alone",
            unit="emulator frames/s",
            words="one thread, against a replay of what was played",
            values=rates,
            baseline_values=limits,
            target=0.95,
        ),
        Metric(
            topic="Training",
            name=f"planner, {name}",
            unit="decisions for 1,000 emulator frames",
            words="frames of the planner's trials and of the play itself",
            values=decisions,
        ),
    ]
