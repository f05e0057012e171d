"""Replay memory: what agents have seen and done, each frame once."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from math import prod
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.buffers import BaseBuffer

from warpzone.core.params import RecipeParams
from warpzone.envs.replayable import ReplayableEnv
from warpzone.envs.threads import Threads
from warpzone.episodes.recording import Recording, watch

_SPARE = 1.25
"""Frames that there is room for, a transition: episodes have more of them."""


class Batch(NamedTuple):
    """Transitions of ``n_steps`` steps or fewer, as SB3's ``ReplayBufferSamples``."""

    observations: dict[str, torch.Tensor]
    """By key, shape ``(N, ...)``."""
    actions: torch.Tensor
    """Shape ``(N, 1)``, int64, as all below are of that shape, float32."""
    next_observations: dict[str, torch.Tensor]
    """What was seen after the last step."""
    dones: torch.Tensor
    """1 where the episode has terminated then."""
    rewards: torch.Tensor
    """Discounted sums."""
    discounts: torch.Tensor
    """Of what follows."""

    @classmethod
    def of(cls, batches: "Sequence[Batch]") -> "Batch":
        """Put batches below each other."""
        parts: Any = [
            {key: torch.cat([one[key] for one in part]) for key in part[0]}
            if isinstance(part[0], dict)
            else torch.cat(part)
            for part in zip(*batches, strict=True)
        ]
        return cls(*parts)


class ReplayMemory(BaseBuffer):
    """The replay buffer of SB3's off-policy algorithms, for observations of one key.

    It samples what SB3's ``NStepReplayBuffer`` would (Lin 1992; Mnih et al. 2013,
    https://arxiv.org/abs/1312.5602), and takes an eighth of its memory for stacks of
    four frames: neighbouring observations share all frames but one, so each frame is
    kept once, and a transition keeps which ones it saw. Observations that are no stacks
    of frames count as stacks of one.

    The reward of a transition is the sum of ``gamma ** i`` times that of step i, for
    ``n_steps`` steps, fewer where the episode ends or nothing newer is known. What was
    seen next, whether the episode has terminated (not: was truncated) and the discount
    of what follows are those of the last of these steps.

    Args:
        buffer_size: The most transitions to keep, of all environments together.
        observation_space: A dictionary of one key.
        action_space: Discrete.
        device: Where samples are needed.
        n_envs: Environments that are stepped together.
        optimize_memory_usage: SB3's, without effect.
        n_steps: Of a return, 1 or more.
        gamma: Discount per agent step, in [0, 1].
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: gym.spaces.Dict,
        action_space: gym.spaces.Space,
        device: torch.device | str = "cpu",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        *,
        n_steps: int,
        gamma: float,
    ) -> None:
        rows = max(buffer_size // n_envs, 1)
        super().__init__(rows, observation_space, action_space, device, n_envs)
        self.n_steps, self.gamma = n_steps, gamma
        [(self._key, box)] = observation_space.items()
        space: Any = box
        self._shape = space.shape
        depth, *shape = stack_of(space)
        # The system gives memory only to what is written.
        places = int(_SPARE * rows * n_envs) + (depth + 1) * n_envs
        self._frames = np.zeros((places, *shape), space.dtype)
        # Frames are known by how many came before them; a place is that, modulo.
        self._count = self._oldest = 0
        each = rows, n_envs
        self._seen = np.zeros((*each, depth), np.int64)
        self._next = np.zeros(each, np.int64)
        self._actions = np.zeros(each, np.int64)
        self._rewards = np.zeros(each, np.float32)
        self._is_over = np.zeros(each, bool)
        self._is_terminated = np.zeros(each, bool)
        self._stacks = np.zeros((n_envs, depth), np.int64)
        self._begins = np.ones(n_envs, bool)

    def add(
        self,
        obs: Mapping[str, np.ndarray],
        next_obs: Mapping[str, np.ndarray],
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep one step of each environment.

        Where an episode has ended, ``next_obs`` is its last observation.
        """
        row, depth = self.pos, self._seen.shape[-1]
        if self.full:
            self._oldest = int(self._seen[(row + 1) % self.buffer_size, :, 0].min())
        stacked = self.n_envs, depth, *self._frames.shape[1:]
        seen = np.reshape(obs[self._key], stacked)
        newest = np.reshape(next_obs[self._key], stacked)[:, -1:]
        for index in range(self.n_envs):
            if self._begins[index]:
                self._stacks[index] = self._keep(seen[index])
            self._seen[row, index] = self._stacks[index]
            [frame] = self._keep(newest[index])
            self._next[row, index] = frame
            self._stacks[index] = [*self._stacks[index, 1:], frame]
        truncated = [info.get("TimeLimit.truncated", False) for info in infos]
        self._actions[row] = np.reshape(action, self.n_envs)
        self._rewards[row] = reward
        self._is_over[row] = done
        self._is_terminated[row] = self._is_over[row] & ~np.array(truncated)
        self._begins = self._is_over[row].copy()
        self.pos = (row + 1) % self.buffer_size
        self.full = self.full or self.pos == 0

    def sample(self, batch_size: int, env: Any = None) -> Any:
        """Draw a `Batch` with NumPy's global generator, as SB3's buffers do."""
        return super().sample(batch_size, env)

    def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
        envs = np.random.randint(0, self.n_envs, len(batch_inds))  # noqa: NPY002
        steps = np.arange(self.n_steps)
        rows = (batch_inds[:, None] + steps) % self.buffer_size
        ends = self._is_over[rows, envs[:, None]]
        ends |= rows == (self.pos - 1) % self.buffer_size
        last = np.where(ends.any(axis=1), ends.argmax(axis=1), self.n_steps - 1)
        counts = steps <= last[:, None]
        discounts = self.gamma ** steps.astype(np.float32)
        rewards = self._rewards[rows, envs[:, None]] * discounts * counts
        final = rows[np.arange(len(rows)), last], envs
        following = np.column_stack([self._seen[final][:, 1:], self._next[final]])
        ended = self._is_terminated[final][:, None].astype(np.float32)
        after = self.gamma ** (last + 1).astype(np.float32)[:, None]
        return Batch(
            observations=self._observe(self._seen[batch_inds, envs]),
            actions=self.to_torch(self._actions[batch_inds, envs][:, None]),
            next_observations=self._observe(following),
            dones=self.to_torch(ended),
            rewards=self.to_torch(rewards.sum(axis=1, keepdims=True)),
            discounts=self.to_torch(after),
        )

    def _observe(self, frames: np.ndarray) -> dict[str, torch.Tensor]:
        """Return stacks of frames, shape ``(N, ...)``, by key."""
        stacks = self._frames[frames % len(self._frames)]
        seen = stacks.reshape(len(stacks), *self._shape)
        return {self._key: self.to_torch(seen, copy=False)}

    def _keep(self, frames: np.ndarray) -> np.ndarray:
        """Keep frames and return what they are known by."""
        known = np.arange(self._count, self._count + len(frames))
        self._count += len(frames)
        if self._count - self._oldest > (places := len(self._frames)):
            alive = np.arange(self._oldest, known[0])
            kept = self._frames[alive % places]
            self._frames = np.zeros((2 * places, *kept.shape[1:]), kept.dtype)
            self._frames[alive % len(self._frames)] = kept
        self._frames[known % len(self._frames)] = frames
        return known

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` takes, without room that is not filled yet."""
        alive = np.arange(self._oldest, self._count)
        state = {name: vars(self)[name][: self.size()] for name in _BY_ROW}
        state |= {name: vars(self)[name] for name in _OTHERS}
        return state | {"frames": self._frames[alive % len(self._frames)]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update({name: state[name] for name in _OTHERS})
        for name in _BY_ROW:
            vars(self)[name][: self.size()] = state[name]
        frames = state["frames"]
        places = max(len(self._frames), len(frames))
        self._frames = np.zeros((places, *frames.shape[1:]), frames.dtype)
        self._frames[np.arange(self._oldest, self._count) % places] = frames


_BY_ROW = ("_seen", "_next", "_actions", "_rewards", "_is_over", "_is_terminated")
_OTHERS = ("pos", "full", "_count", "_oldest", "_stacks", "_begins")


def stack_of(space: gym.spaces.Box) -> tuple[int, ...]:
    """Return how many frames an observation has, and the shape of one."""
    return space.shape if len(space.shape) == 3 else (1, *space.shape)


def bytes_of_transition(space: gym.spaces.Box) -> int:
    """Return how much memory a transition takes."""
    depth, *shape = stack_of(space)
    return int(_SPARE * prod(shape) * space.dtype.itemsize) + 8 * depth + 22


def returns_of(recipe: RecipeParams) -> dict[str, Any]:
    """Return the arguments of a `ReplayMemory` that a recipe decides."""
    return {name: recipe.algorithm_kwargs[name] for name in ("n_steps", "gamma")}


def remember(
    recordings: Sequence[Recording],
    kwargs: Mapping[str, Any],
    env: ReplayableEnv,
    recipe: RecipeParams,
    device: torch.device,
    source: str,
    on_episode: Callable[[], object] = lambda: None,
) -> ReplayMemory:
    """Replay recordings side by side, and return a memory of them, which is full.

    Args:
        recordings: What to play.
        kwargs: Of the env, as params.yaml has them: its rewards count.
        env: Like those that the agent learns in, with a dictionary of one key.
        recipe: Of a value-based algorithm.
        device: As `ReplayMemory` takes it.
        source: The file that the recordings come from, for messages.
        on_episode: Called after each recording, on any thread.

    Raises:
        InputError: If a replay fails or does not fit the env.
    """
    [key], space = env.obs_keys, env.observation_space
    actions = gym.spaces.Discrete(len(env.codes))
    episodes: dict[int, Any] = {}

    def watch_line(line: int) -> None:
        results: list[Any] = []
        where = f"{source}, line {line + 1}"
        seen, chosen = watch(recordings[line], kwargs, (key,), where, results.append)
        episodes[line] = seen[key], chosen, results
        on_episode()

    with closing(Threads()) as threads:
        threads.run(watch_line, range(len(recordings)))
    size = sum(len(results) for _, _, results in episodes.values())
    memory = ReplayMemory(size, space, actions, device, **returns_of(recipe))  # pyright: ignore[reportArgumentType]
    for line in sorted(episodes):
        seen, chosen, results = episodes[line]
        for step, (following, reward, terminated, truncated, _) in enumerate(results):
            # A recording may end before its episode does.
            cut = truncated or step + 1 == len(results)
            memory.add(
                {key: seen[[step]]},
                {key: following[key][None]},
                chosen[[step]],
                np.array([reward]),
                np.array([terminated or cut]),
                [{"TimeLimit.truncated": cut and not terminated}],
            )
    return memory
