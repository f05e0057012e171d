"""PPO, cloning and the planner, against what the machine could do at best."""

import time
from contextlib import closing
from dataclasses import dataclass
from statistics import median

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv
from torch.nn.functional import cross_entropy, mse_loss, one_hot

from benchmarks.measuring import (
    Figure,
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
from warpzone.agents.policy import POLICY_KWARGS, Policy, build_policy, find_device
from warpzone.core.params import GameParams, NoiseParams, Params, PPOParams
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.planner import Planner
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.training.bc import Cloner, Demonstration
from warpzone.training.ppo import Score, train

UPDATES = 2

# No update ends early: all contestants do the same work.
_NO_KL_LIMIT = 1e9


@dataclass(frozen=True)
class TrainedRound:
    """PPO and what it cannot do without, in seconds an agent step."""

    agent_steps_per_second: float
    emulator_seconds: float
    """Of the emulator alone, on as many threads, with the same buttons."""
    forward_seconds: float
    training_seconds: float
    """All epochs."""
    critic_seconds: float
    """The critic reads each moment once, and learns from it in all its epochs."""

    @property
    def bound(self) -> float:
        """Agent steps a second with nothing around."""
        return 1 / (
            self.emulator_seconds
            + self.forward_seconds
            + self.training_seconds
            + self.critic_seconds
        )


def compare_training(
    params: Params, game: GameParams, size: Size, subproc_envs: VecEnv
) -> list[Row]:
    """Train by PPO, against the sum of what it cannot do without and against SB3's.

    Args:
        params: For the hyperparameters, the noise and the device.
        game: Names the emulator.
        size: How much.
        subproc_envs: SB3's SubprocVecEnv of as many environments on nes-py.
    """
    rl = short_training(params.train_rl, size)
    device = find_device(params.device)
    consoles = Consoles(game.emulator, game.level, size.envs)
    policy, critic = (build_policy(game, o).to(device) for o in ("pictures", "ram"))
    with closing(logged_envs(game, params.noise, size.envs)) as envs:

        def ours() -> TrainedRound:
            rate, frames_per_step = train_ours(envs, game, rl, params.seed, device)
            limit = consoles.replay(logs_of(envs), THREADS)
            training = training_seconds(policy, game, rl.batch_size, size)
            return TrainedRound(
                agent_steps_per_second=rate,
                emulator_seconds=frames_per_step / limit,
                forward_seconds=forward_seconds(policy, game, size),
                training_seconds=rl.epochs * training,
                critic_seconds=critic_seconds(critic, rl, size),
            )

        sb3: list[float] = []

        def both() -> TrainedRound:
            sb3.append(train_sb3(subproc_envs, rl, params.seed, device))
            return ours()

        rounds = alternate({"": both}, size.rounds, f"training, {game.emulator}")[""]
    name = f"PPO, {game.emulator}"
    rates = [one.agent_steps_per_second for one in rounds]
    shares = (
        ("emulator", median(one.emulator_seconds * one.bound for one in rounds)),
        ("forward passes", median(one.forward_seconds * one.bound for one in rounds)),
        ("training steps", median(one.training_seconds * one.bound for one in rounds)),
        ("critic", median(one.critic_seconds * one.bound for one in rounds)),
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
            target=0.85,
        ),
        Row(
            topic="Training",
            contestant=name,
            baseline="SB3 PPO, SubprocVecEnv, nes-py",
            unit="agent steps/s",
            words="SB3 as it comes, with the same network and hyperparameters",
            values=rates,
            baseline_values=sb3,
            target=2.0,
        ),
    ]


def short_training(rl: PPOParams, size: Size) -> PPOParams:
    """Return the hyperparameters with few and short rollouts."""
    rollout = size.envs * size.rollout_steps
    return rl.model_copy(
        update={
            "envs": size.envs,
            "rollout_steps": size.rollout_steps,
            "agent_steps": UPDATES * rollout,
            "batch_size": min(rl.batch_size, rollout),
            "target_kl": _NO_KL_LIMIT,
        }
    )


def train_ours(
    envs: ThreadedVecEnv,
    game: GameParams,
    rl: PPOParams,
    seed: int,
    device: torch.device,
) -> tuple[float, float]:
    """Return agent steps a second and emulator frames for each of them.

    From the first rollout on: that the model is built does not count.
    """
    began: list[tuple[float, int]] = []

    def score(policy: Policy) -> Score:
        # The first look at the policy is just before the first rollout.
        began.append((time.perf_counter(), frames_of(envs)))
        return Score(clear_rate=0.0, x_pos_max=0.0, episodes=1)

    start, critic = (build_policy(game, o).to(device) for o in ("pictures", "ram"))
    envs.env_method("forget")
    train(envs, start, rl, seed, score, device, critic)
    seconds, frames = began[0]
    seconds, frames = time.perf_counter() - seconds, frames_of(envs) - frames
    return rl.agent_steps / seconds, frames / rl.agent_steps


class _Clock(BaseCallback):
    """Notes when the first rollout begins."""

    def __init__(self) -> None:
        super().__init__()
        self.began: float | None = None

    def _on_rollout_start(self) -> None:
        self.began = self.began or time.perf_counter()

    def _on_step(self) -> bool:
        return True


def train_sb3(envs: VecEnv, rl: PPOParams, seed: int, device: torch.device) -> float:
    """Return agent steps a second of SB3's own PPO."""
    model = stable_baselines3.PPO(
        "CnnPolicy",
        envs,
        learning_rate=rl.learning_rate,
        n_steps=rl.rollout_steps,
        batch_size=rl.batch_size,
        n_epochs=rl.epochs,
        gamma=rl.gamma,
        gae_lambda=rl.gae_lambda,
        clip_range=rl.clip_range,
        ent_coef=rl.entropy_coefficient,
        max_grad_norm=rl.max_grad_norm,
        seed=seed,
        device=device,
        policy_kwargs=POLICY_KWARGS["pictures"],
    )
    # Its own would leave an empty folder behind.
    model.set_logger(Logger(folder=None, output_formats=[]))
    clock = _Clock()
    model.learn(rl.agent_steps, clock)
    assert clock.began is not None
    return rl.agent_steps / (time.perf_counter() - clock.began)


def random_pairs(
    game: GameParams, rows: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random observations and actions, which cost what real ones cost."""
    generator = torch.Generator().manual_seed(0)
    shape = (rows, game.frame_stack, game.height, game.width)
    observations = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    actions = torch.randint(
        len(ACTION_SETS[game.action_set]), (rows,), generator=generator
    )
    return observations.to(device), actions.to(device)


def forward_seconds(policy: Policy, game: GameParams, size: Size) -> float:
    """Return how long a forward pass takes for each observation of a rollout."""
    observations, _ = random_pairs(game, size.envs, policy.device)

    def forward() -> None:
        with torch.inference_mode():
            # Moved, because a GPU does not wait.
            policy(observations)[0].cpu()

    return seconds_a_call(forward, size.seconds / 2) / size.envs


def training_seconds(
    policy: Policy, game: GameParams, batch_size: int, size: Size
) -> float:
    """Return how long a step of PPO's optimiser takes for each sample."""
    observations, actions = random_pairs(game, batch_size, policy.device)

    def step() -> None:
        values, log_probs, entropy = policy.evaluate_actions(observations, actions)
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


def critic_seconds(critic: Policy, rl: PPOParams, size: Size) -> float:
    """Return how long the critic takes for each agent step.

    Args:
        critic: A policy that sees RAM.
        rl: How many epochs there are, and the size of a batch.
        size: How long to measure.
    """
    rows = rl.batch_size
    generator = torch.Generator().manual_seed(0)
    ram = torch.randint(0, 256, (rows, 2048), dtype=torch.uint8, generator=generator)
    ram = ram.to(critic.device)

    def read() -> None:
        with torch.inference_mode():
            critic.predict_values(ram).cpu()

    features = critic.extract_features(ram)
    assert isinstance(features, torch.Tensor)
    returns = torch.zeros(rows, device=critic.device)

    def step() -> None:
        latent = critic.mlp_extractor.forward_critic(features)
        loss = mse_loss(critic.value_net(latent).squeeze(1), returns)
        critic.optimizer.zero_grad()
        loss.backward()
        critic.optimizer.step()
        loss.item()

    reading = seconds_a_call(read, size.seconds / 4)
    learning = rl.critic_epochs * seconds_a_call(step, size.seconds / 4)
    return (reading + learning) / rows


def compare_cloning(params: Params, size: Size) -> list[Row]:
    """Clone random pairs, against training steps on one batch."""
    cloning = params.pretrain_bc
    device = find_device(params.device)
    policy = build_policy(params.game).to(device)
    observations, actions = random_pairs(params.game, size.pairs, device)
    certain = one_hot(actions, len(ACTION_SETS[params.game.action_set])).float()
    pairs = Demonstration(observations.cpu().numpy(), certain.cpu().numpy())
    cloner = Cloner(policy, cloning, np.random.default_rng(0))
    updates = 2 * size.pairs // cloning.batch_size

    def ours() -> float:
        seconds = seconds_of(lambda: cloner.fit([pairs], updates))
        return updates * cloning.batch_size / seconds

    batch, targets = random_pairs(params.game, cloning.batch_size, device)
    optimizer = torch.optim.AdamW(
        policy.parameters(), cloning.learning_rate, weight_decay=cloning.weight_decay
    )

    def step() -> None:
        logits = policy.get_distribution(batch).distribution.logits  # pyright: ignore[reportAttributeAccessIssue]
        loss = cross_entropy(logits, targets)
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


def compare_planning(game: GameParams, noise: NoiseParams, size: Size) -> list[Result]:
    """Plan on one thread, against the emulator alone on one thread."""
    short = game.model_copy(update={"time_limit": size.planned_steps})
    env = LoggedEnv(short, noise)
    planner = Planner(env)
    consoles = Consoles(game.emulator, game.level, consoles=1)
    limits: list[float] = []
    decisions: list[float] = []

    def plan() -> float:
        frames = -planner.emulator_frames
        began = time.perf_counter()
        # Another episode in each round, the same ones on each emulator.
        recording = planner.demonstrate(seed=len(limits))
        elapsed = time.perf_counter() - began
        frames += planner.emulator_frames
        decisions.append(1_000 * len(recording.decided) / frames)
        buttons = recording.frame_buttons
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
        Figure(
            topic="Training",
            name=f"planner, {name}",
            unit="decisions for 1,000 emulator frames",
            words="frames of the planner's trials and of the play itself",
            value=median(decisions),
        ),
    ]
