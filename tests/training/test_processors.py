"""A training ends in the same bytes on processors of all kinds.

What other processors do is emulated: see `test_other_processors_give_the_same_bytes`.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from warpzone import IS_PINNED
from warpzone.core.params import CloningParams, GAILParams, RecipeParams, RNDParams
from warpzone.episodes.table import Score
from warpzone.training.bc import Cloner, Transitions

ROOT = Path(__file__).parents[2]
QEMU = shutil.which("qemu-x86_64")

needs_avx2 = pytest.mark.skipif(not IS_PINNED, reason="only x86-64 with AVX2 is pinned")


def sha256_of(policy: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for _, weight in sorted(policy.named_parameters()):
        digest.update(weight.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(params=["pixels", "state"])
def default_mario(request: pytest.FixtureRequest, tiny_mario):
    """What params.yaml has, in episodes of 8 agent steps."""
    size = {"height": 52, "width": 64, "frame_stack": 4}
    return replace(tiny_mario.but(**size), key=request.param)


# Other versions of torch, SB3 or numpy may round otherwise: they change with the lock.
CLONES = {
    "pixels": "90e1406c32ed623b81ce7fa071c059a19a77f9f3dcb1f319abc62e2532a6ee79",
    "state": "6d54e15ea1bc2f55eaef4b8a55f0dd4cc7e4d4078310283a19fbc1232a48dfce",
}
TRAININGS = {
    "pixels": "56f5cffbec708d4897775807a01c25da8e7805120bce3561d2e36a95416a7651",
    "state": "f7fdbafa79573e1e2f3e27ae13a2785ebc28fa2dd1d066354dbdc66129b62a12",
}
LEARNED_REWARDS = {
    "pixels": "1e768c8c9adbc66c0161479c9efb2733ec3badc77c7a3ead464e88084df6cfd7",
    "state": "2a8d19ae7b1478e08302ee0954c12da76ed127195904f0c54434470a902dd1d4",
}
OTHERS = {
    "recurrent_ppo": "f8a21b7b054963077bbce1d0278060e19656f9b7518dd69c3be341a433312839",
    "a2c": "549f2e7dadcd5ec16bdfe23a4d94f3ead86fc7992b56ea78df1b417e2659f99c",
    "dqn": "3ec9faee5e61e3d6682eed0886b0f535163af4b4dc8517b35dd5337094ed438d",
    "qrdqn": "c57f293e142d610f74158cb930269687f80281265a2ca220fa79faa86a0be193",
}


@needs_avx2
def test_a_clone_has_the_bytes_that_it_has_everywhere(default_mario) -> None:
    rng, policy = np.random.default_rng(1), default_mario.policy()
    shape = policy.observation_space[default_mario.key].shape
    seen = rng.integers(0, 256, (128, *shape), np.uint8)
    wanted = np.eye(7, dtype=np.float32)[rng.integers(0, 7, 128)]
    params = CloningParams(
        batch_size=64, learning_rate=5e-4, weight_decay=1e-4, updates=1
    )
    cloner = Cloner(default_mario.agent(policy), params, rng)
    cloner.fit([Transitions(seen, wanted)], 4, anneal=True)
    assert sha256_of(cloner.average.policy) == CLONES[default_mario.key]


@needs_avx2
def test_a_training_has_the_bytes_that_it_has_everywhere(
    default_mario, recipe: Callable[..., RecipeParams]
) -> None:
    values = {"n_envs": 16, "n_steps": 16, "batch_size": 256, "total_timesteps": 512}
    values |= {"log_freq": 256, "eval_freq": 512}
    # Its last policy is the best one.
    progress = count()
    trained = default_mario.train(
        recipe(**values), score=lambda _: Score(0.0, float(next(progress)), 1)
    )
    assert trained.curve["agent_steps"][trained.best_row] == 512
    assert sha256_of(trained.policy) == TRAININGS[default_mario.key]


@needs_avx2
def test_learned_rewards_have_the_bytes_that_they_have_everywhere(
    default_mario, recipe: Callable[..., RecipeParams]
) -> None:
    rng = np.random.default_rng(1)
    shape = default_mario.policy().observation_space[default_mario.key].shape
    seen = rng.integers(0, 256, (64, *shape), np.uint8)
    shown = Transitions(seen, np.eye(7, dtype=np.float32)[rng.integers(0, 7, 64)])
    learning: dict[str, Any] = {"batch_size": 64, "learning_rate": 1e-3, "updates": 2}
    gail = GAILParams(weight=0.1, env_weight=0.5, weight_decay=0.01, **learning)
    rl = recipe(
        n_envs=16,
        n_steps=16,
        batch_size=256,
        total_timesteps=512,
        log_freq=256,
        eval_freq=512,
        gail=gail,
        rnd=RNDParams(weight=0.1, **learning),
    )
    progress = count()
    trained = default_mario.train(
        rl,
        score=lambda _: Score(0.0, float(next(progress)), 1),
        shown=[shown],
    )
    assert trained.curve["agent_steps"][trained.best_row] == 512
    assert sha256_of(trained.policy) == LEARNED_REWARDS[default_mario.key]


@needs_avx2
@pytest.mark.parametrize("algorithm", OTHERS)
def test_every_algorithm_has_the_bytes_that_it_has_everywhere(
    tiny_mario, recipe_of: Callable[..., RecipeParams], algorithm: str
) -> None:
    world = tiny_mario.but(height=52, width=64, frame_stack=4)
    values: dict[str, Any] = {"n_envs": 16, "total_timesteps": 512, "log_freq": 256}
    values |= {"eval_freq": 512}
    if algorithm.endswith("dqn"):
        values |= {"batch_size": 64, "buffer_size": 512, "learning_starts": 64}
    progress = count()
    trained = world.train(
        recipe_of(algorithm, **values),
        score=lambda _: Score(0.0, float(next(progress)), 1),
    )
    assert trained.curve["agent_steps"][trained.best_row] == 512
    assert sha256_of(trained.policy) == OTHERS[algorithm]


# It is no proof for real ones. The emulator's approximate instructions are exact, where
# those of Intel and of AMD differ, and it has no AVX-512.
@pytest.mark.slow
@needs_avx2
@pytest.mark.skipif(QEMU is None, reason="needs qemu-x86_64 (package qemu-user)")
@pytest.mark.parametrize("processor", ["Skylake-Client", "EPYC"])
def test_other_processors_give_the_same_bytes(processor: str) -> None:
    assert QEMU is not None
    command = [QEMU, "-cpu", processor, sys.executable, "-m", "pytest", "-q", __file__]
    # What else is trained has the same layers and the same optimizer.
    wanted = "clone or a_training or recurrent"
    command += ["-m", "not slow", "-p", "no:cacheprovider", "-k", wanted]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "5 passed" in done.stdout, done.stdout + done.stderr
