"""Train the policy by PPO, from the clone or from scratch.

Reads models/bc/ and, for its critic, models/teacher/ if --init is bc. NAME being
INIT-seedN, it writes models/rl/NAME/ (the policy that was chosen by episodes which are
used for nothing else), models/rl/NAME/final/ (the last one), metrics/train_rl/NAME.json
and plots/train_rl/NAME.csv. If it is killed, the next run goes on after the last
update.
"""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, get_args

from warpzone.agents.policy import (
    build_policy,
    describe_origin,
    find_device,
    load_policy,
    make_deterministic,
    save_policy,
    set_weights,
)
from warpzone.core.files import write_csv, write_json
from warpzone.core.params import Init, Params, load_params
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import SEEDS, Purpose, episode_seed
from warpzone.core.stage import argument_parser, run_stage
from warpzone.envs.curriculum import PracticeEnv
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.training.checkpoint import Checkpoint, checkpointed
from warpzone.training.ppo import train
from warpzone.training.selection import make_score

PARAMS = Path("params.yaml")
CLONE = Path("models/bc")
TEACHER = Path("models/teacher")
MODELS = Path("models/rl")
METRICS = Path("metrics/train_rl")
CURVES = Path("plots/train_rl")
CHECKPOINTS = Path(".checkpoints")

# Sections of the parameters that decide the result.
USED = {
    **dict.fromkeys(("train_rl", "device", "game", "noise"), True),
    "evaluate": {"temperature", "idle_temperature"},
}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--init", choices=get_args(Init), required=True)
    parser.add_argument("--seed", type=int, required=True, help=f"0 to {SEEDS - 1}")
    arguments = parser.parse_args()
    init, seed = arguments.init, arguments.seed
    if not 0 <= seed < SEEDS:
        parser.error(f"--seed must be 0 to {SEEDS - 1}, got {seed}")

    params = load_params(PARAMS)
    name = f"{init}-seed{seed}"
    origin = describe_origin("train_rl", params.train_rl, seed) | {"init": init}
    facts = [params.model_dump(mode="json", include=USED), origin]
    inputs = [Path(__file__), *([CLONE, TEACHER] if init == "bc" else [])]
    with checkpointed(CHECKPOINTS, f"train_rl-{name}", facts, inputs) as checkpoint:
        train_one(name, init, seed, params, origin, checkpoint)


def train_one(
    name: str,
    init: Init,
    seed: int,
    params: Params,
    origin: dict[str, Any],
    checkpoint: Checkpoint,
) -> None:
    """Train an agent and write it with its figures."""
    game, noise, rl = params.game, params.noise, params.train_rl
    make_deterministic(seed)
    if init == "bc":
        start = load_policy(CLONE, game)
        critic = load_policy(TEACHER, game, "ram")
    else:
        start, critic = build_policy(game), build_policy(game, "ram")
    if checkpoint.has("state"):
        print(f"train_rl {name}: goes on where it was ended", file=sys.stderr)
    device = find_device(params.device)
    make_env = partial(PracticeEnv, game, noise, retry_share=rl.retry_share)
    with (
        closing(ThreadedVecEnv([make_env] * rl.envs)) as envs,
        progress_bar(rl.agent_steps, f"training {name}", "agent step") as bar,
    ):
        training = train(
            envs,
            start,
            rl,
            episode_seed(Purpose.TRAINING, seed, 0),
            make_score(params, rl, seed),
            device,
            critic.to(device),
            checkpoint,
            bar.update,
        )

    save_policy(training.policy, MODELS / name / "final", game, origin)
    set_weights(training.policy, training.best_weights)
    save_policy(training.policy, MODELS / name, game, origin)
    write_csv(CURVES / f"{name}.csv", training.curve)
    write_json(METRICS / f"{name}.json", training.summary())


if __name__ == "__main__":
    run_stage(main)
