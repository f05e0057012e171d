"""Many environments on threads, as a Stable-Baselines3 vector environment."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnv,
    VecEnvIndices,
    VecEnvStepReturn,
)

from warpzone.envs.threads import Threads, Work


class ThreadedVecEnv(VecEnv):
    """Environments that step side by side in one process.

    Threads take whichever environment is next; no result depends on how many there are,
    because environments share nothing.

    The contract is that of SB3's ``VecEnv``. When an episode ends its environment is
    reset at once: the observation is the next episode's first, and ``info`` holds
    ``terminal_observation``, ``TimeLimit.truncated`` and, as SB3's ``VecMonitor`` has
    it, ``episode`` with the return ``r`` and the length ``l`` in agent steps.

    Observations are arrays of shape ``(N, ...)``, or dictionaries of them. The threads
    write them into contiguous arrays, new ones every step, so that the caller may keep
    them.

    Args:
        env_fns: Make one environment each. They are called on the threads, because a
            console takes a while to start.
        threads: How many threads, the caller's too, which lends a hand while it waits;
            one a core if not given.

    Raises:
        ValueError: If there are no environments, if one of them is given twice, or if
            their observations are neither arrays nor dictionaries of arrays.
        RuntimeError: If an environment raises, here or later. The message begins with
            the lowest index of those that did, ``environment 3: ...``, the cause is
            chained, and all environments are closed.
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
        if len({id(env.unwrapped) for env in self.envs}) < len(self.envs):
            self.close()
            raise ValueError("env_fns returned the same environment more than once")
        first = self.envs[0]
        space = first.observation_space
        spaces = space.spaces if isinstance(space, gym.spaces.Dict) else {None: space}
        if any(one.shape is None for one in spaces.values()):
            self.close()
            raise ValueError(f"observations must be arrays, got the space {space}")
        self._spaces = spaces
        super().__init__(len(self.envs), first.observation_space, first.action_space)
        self.metadata = first.metadata
        self._returns = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._renew_results()

    def step_async(self, actions: np.ndarray) -> None:
        """Begin a step. ``actions`` holds one action an environment.

        Raises:
            RuntimeError: If a step is under way, or the environments are closed.
            ValueError: If there are not as many actions as environments.
        """
        self._require_open()
        if self._pending is not None:
            raise RuntimeError("a step is under way: call step_wait() first")
        if len(actions) != self.num_envs:
            raise ValueError(
                f"a step needs one action per environment, got {len(actions)} actions "
                f"for {self.num_envs} environments"
            )
        self._renew_results()
        self._pending = self._begin(lambda index: self._step_one(index, actions[index]))

    def step_wait(self) -> VecEnvStepReturn:
        """Finish the step: observations, rewards (float32), dones and infos."""
        self._require_open()
        if self._pending is None:
            raise RuntimeError("no step is under way: call step_async() first")
        pending, self._pending = self._pending, None
        self._finish(pending)
        return self._result(), self._rewards, self._dones, self._infos

    def reset(self) -> Any:
        """Begin a new episode everywhere, with the seeds and options set before."""
        self._require_open()
        if self._pending is not None:
            self.step_wait()
        self._renew_results()
        self._finish(self._begin(self._reset_one))
        # Seeds and options are only used once.
        self._reset_seeds()
        self._reset_options()
        return self._result()

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
        """Return each environment's frame in colour."""
        if self.render_mode != "rgb_array":
            warnings.warn(
                f"the environments' render_mode is {self.render_mode!r}: only "
                "'rgb_array' gives frames",
                stacklevel=2,
            )
            return [None] * self.num_envs
        return self.env_method("render")

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of environments, also one of a wrapped environment."""
        return [env.get_wrapper_attr(attr_name) for env in self._targets(indices)]

    def set_attr(
        self, attr_name: str, value: Any, indices: VecEnvIndices = None
    ) -> None:
        """Set an attribute of environments, also one of a wrapped environment.

        Raises:
            AttributeError: If an environment has no such attribute.
        """
        for env in self._targets(indices):
            if not env.set_wrapper_attr(attr_name, value, force=False):
                raise AttributeError(f"{env} has no attribute {attr_name!r} to set")

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of environments, also one of a wrapped environment."""
        return [
            env.get_wrapper_attr(method_name)(*method_args, **method_kwargs)
            for env in self._targets(indices)
        ]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """Whether environments are wrapped with a given wrapper."""
        return [is_wrapped(env, wrapper_class) for env in self._targets(indices)]

    def _step_one(self, index: int, action: Any) -> None:
        env = self.envs[index]
        observation, reward, terminated, truncated, info = env.step(action)
        info = {**info, "TimeLimit.truncated": truncated and not terminated}
        self._returns[index] += float(reward)
        self._lengths[index] += 1
        if terminated or truncated:
            info["terminal_observation"] = observation
            length = int(self._lengths[index])
            info.setdefault("episode", {"r": float(self._returns[index]), "l": length})
            self._returns[index] = self._lengths[index] = 0
            observation, self.reset_infos[index] = env.reset()
        self._write(index, observation)
        self._rewards[index] = reward
        self._dones[index] = terminated or truncated
        self._infos[index] = info

    def _reset_one(self, index: int) -> None:
        options = self._options[index]
        observation, self.reset_infos[index] = self.envs[index].reset(
            seed=self._seeds[index], **({"options": options} if options else {})
        )
        self._returns[index] = self._lengths[index] = 0
        self._write(index, observation)

    def _write(self, index: int, observation: Any) -> None:
        for key, array in self._observations.items():
            array[index] = observation if key is None else observation[key]

    def _result(self) -> Any:
        """Return the observations as the space has them."""
        is_array = None in self._observations
        return self._observations[None] if is_array else dict(self._observations)

    def _renew_results(self) -> None:
        """Make room for the next step; what was returned before stays as it is."""
        self._observations: dict[Any, np.ndarray] = {
            key: np.empty((self.num_envs, *(space.shape or ())), space.dtype)
            for key, space in self._spaces.items()
        }
        self._rewards = np.empty(self.num_envs, np.float32)
        self._dones = np.empty(self.num_envs, bool)
        self._infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]

    def _begin(self, do_one: Callable[[int], None]) -> Work:
        return self._threads.begin(do_one, range(self.num_envs))

    def _finish(self, work: Work) -> None:
        """Wait for the threads, and raise the error of the lowest index."""
        if errors := work.finish():
            index = min(errors)
            error = errors[index]
            try:
                raise RuntimeError(f"environment {index}: {error}") from error
            finally:
                self.close()

    def _targets(self, indices: VecEnvIndices) -> list[gym.Env]:
        # Nobody else may touch an environment in the middle of its step.
        if self._pending is not None:
            self._pending.finish()
        return [self.envs[index] for index in self._get_indices(indices)]

    def _require_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("the environments are closed")
