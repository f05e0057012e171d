"""Many environments on threads, as a Stable-Baselines3 vector environment."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)
from stable_baselines3.common.vec_env.util import dict_to_obs

from warpzone.envs.replayable import ReplayableEnv
from warpzone.envs.threads import Threads, Work


class ThreadedVecEnv(DummyVecEnv):
    """Environments that step side by side in one process.

    Threads take whichever environment is next; no result depends on how many there are,
    because environments share nothing.

    The contract is that of SB3's ``DummyVecEnv``. As its ``VecMonitor`` has it, the
    ``info`` at an episode's end also holds ``episode`` with the return ``r`` and the
    length ``l`` in agent steps. The threads write observations into arrays that are new
    in every step, so that the caller may keep them.

    Args:
        env_fns: Make one environment each. They are called on the threads, because a
            console takes a while to start.
        threads: How many threads, the caller's too, which lends a hand while it waits;
            one a core if not given.

    Raises:
        ValueError: If there are no environments or no threads, if an environment is
            given twice, or if their observations are neither arrays nor dictionaries of
            arrays.
        RuntimeError: If an environment raises, here or later. The message names the
            lowest index of those that did, and all environments are closed.
    """

    def __init__(
        self, env_fns: Sequence[Callable[[], gym.Env]], threads: int | None = None
    ) -> None:
        if not env_fns:
            raise ValueError("env_fns is empty: give one environment or more")
        self._threads = Threads(threads)
        self._pending: Work | None = None
        self._is_closed = False
        made: dict[int, gym.Env] = {}

        def make_one(index: int) -> None:
            made[index] = env_fns[index]()

        making = self._threads.begin(make_one, range(len(env_fns)))
        making.finish()
        self.envs = [made[index] for index in sorted(made)]
        self._finish(making)
        space = self.envs[0].observation_space
        spaces = space.values() if isinstance(space, gym.spaces.Dict) else (space,)
        try:
            if any(one.shape is None for one in spaces):
                raise ValueError(f"observations must be arrays, got the space {space}")
            super().__init__([lambda env=env: env for env in self.envs])
        except ValueError:
            self.close()
            raise
        # Worlds of ours write observations where they are told. Where an observation is
        # no dictionary, that is under the world's name of it.
        worlds = [env.unwrapped for env in self.envs]
        ours = [world for world in worlds if isinstance(world, ReplayableEnv)]
        names = {world.obs_keys for world in ours}
        self._worlds: list[Any] = worlds
        self._key = next(iter(names), ("observation",))[0]
        if len(ours) < len(worlds) or len(names) > 1:
            self._worlds = [SimpleNamespace() for _ in worlds]
        self._returns = [0.0] * self.num_envs
        self._lengths = [0] * self.num_envs
        # The threads write into lists: an item of an array costs more, with the GIL.
        self._rewards: list[Any] = [0.0] * self.num_envs
        self._dones = [False] * self.num_envs
        self._places: list[dict[str, np.ndarray]] = [{} for _ in self.envs]

    def step_async(self, actions: np.ndarray) -> None:
        self._require_open()
        if self._pending is not None:
            raise RuntimeError("a step is under way: call step_wait() first")
        if len(actions) != self.num_envs:
            raise ValueError(
                f"a step needs one action per environment, got {len(actions)} actions "
                f"for {self.num_envs} environments"
            )
        self._renew_buffers()
        self.actions = actions
        is_discrete = isinstance(self.action_space, gym.spaces.Discrete)
        # Python's integers cost less than NumPy's.
        self._chosen: Any = np.asarray(actions).tolist() if is_discrete else actions
        self._pending = self._threads.begin(self._step_one, range(self.num_envs))

    def step_wait(self) -> VecEnvStepReturn:
        self._require_open()
        if self._pending is None:
            raise RuntimeError("no step is under way: call step_async() first")
        pending, self._pending = self._pending, None
        self._finish(pending)
        self.buf_rews = np.array(self._rewards, self.buf_rews.dtype)
        self.buf_dones = np.array(self._dones, self.buf_dones.dtype)
        return self._obs_from_buf(), self.buf_rews, self.buf_dones, self.buf_infos

    def reset(self) -> VecEnvObs:
        """Begin a new episode everywhere; a step under way is dropped."""
        self._require_open()
        if self._pending is not None:
            self.step_wait()
        self._renew_buffers()
        self._finish(self._threads.begin(self._reset_one, range(self.num_envs)))
        self._reset_seeds()
        self._reset_options()
        return self._obs_from_buf()

    def close(self) -> None:
        """Wait for the threads and close the environments. Closing twice is allowed."""
        if self._is_closed:
            return
        self._is_closed = True
        self._threads.close()
        # Closes the rest even if one of them raises.
        with ExitStack() as closing:
            for env in self.envs:
                closing.callback(env.close)

    def get_images(self) -> Sequence[np.ndarray | None]:
        self._get_target_envs(None)
        return super().get_images()

    def set_attr(
        self, attr_name: str, value: Any, indices: VecEnvIndices = None
    ) -> None:
        """Set an attribute of environments, also one of a wrapped environment.

        Raises:
            AttributeError: If an environment has no such attribute.
        """
        for env in self._get_target_envs(indices):
            if not env.set_wrapper_attr(attr_name, value, force=False):
                raise AttributeError(f"{env} has no attribute {attr_name!r} to set")

    def _step_one(self, index: int) -> None:
        env = self.envs[index]
        self._worlds[index].out = place = self._places[index]
        observation, reward, terminated, truncated, info = env.step(self._chosen[index])
        info["TimeLimit.truncated"] = truncated and not terminated
        self._returns[index] += float(reward)
        self._lengths[index] += 1
        is_over = terminated or truncated
        if is_over:
            info["terminal_observation"] = deepcopy(observation)
            length = self._lengths[index]
            info.setdefault("episode", {"r": self._returns[index], "l": length})
            self._returns[index], self._lengths[index] = 0.0, 0
            self._worlds[index].out = place
            observation, self.reset_infos[index] = env.reset()
        # It may have been written where it has to be.
        if observation is not place and observation is not place.get(self._key):
            self._save_obs(index, observation)
        self._rewards[index] = reward
        self._dones[index] = is_over
        self.buf_infos[index] = info

    def _reset_one(self, index: int) -> None:
        options = self._options[index]
        self._worlds[index].out = place = self._places[index]
        observation, self.reset_infos[index] = self.envs[index].reset(
            seed=self._seeds[index], **({"options": options} if options else {})
        )
        self._returns[index], self._lengths[index] = 0.0, 0
        if observation is not place and observation is not place.get(self._key):
            self._save_obs(index, observation)

    def _renew_buffers(self) -> None:
        """Make room for the next step; what was returned before stays as it is."""
        old = self.buf_obs.items()
        self.buf_obs = OrderedDict((key, np.empty_like(array)) for key, array in old)
        for key, array in self.buf_obs.items():
            name = key or self._key
            for place, row in zip(self._places, array, strict=True):
                place[name] = row
        # Each step puts its own there.
        self.buf_infos = [{}] * self.num_envs

    def _obs_from_buf(self) -> VecEnvObs:
        # Without SB3's copy.
        return dict_to_obs(self.observation_space, self.buf_obs)

    def _finish(self, work: Work) -> None:
        """Wait for the threads, and raise the error of the lowest index."""
        if errors := work.finish():
            self.close()
            index, error = min(errors.items())
            raise RuntimeError(f"environment {index}: {error}") from error

    def _get_target_envs(self, indices: VecEnvIndices) -> list[gym.Env]:
        # Nobody else may touch an environment in the middle of its step.
        if self._pending is not None:
            self._pending.finish()
        return super()._get_target_envs(indices)

    def _require_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("the environments are closed")
