"""Train the policy by PPO with a teacher, from the cloned one or from scratch.

Reads models/teacher/NAME/, NAME being INIT-seedN, and models/bc/ if --init is bc.
Writes models/rl/NAME/ (the policy that played best, chosen by episodes that are used
for nothing else), models/rl/NAME/final/ (the last one), metrics/train_rl/NAME.json and
plots/train_rl/NAME.csv. If it is killed, the next run goes on after the last update.
"""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, get_args

from stable_baselines3.common.utils import LinearSchedule

from warpzone.agents.checkpoints import Checkpoint, checkpointed
from warpzone.agents.policy import (
    Policy,
    build_policy,
    describe_origin,
    find_device,
    load_policy,
    make_deterministic,
    save_policy,
    set_weights,
)
from warpzone.agents.ppo import Kickstart, train
from warpzone.files import write_csv, write_json
from warpzone.game.env import MarioEnv
from warpzone.game.vec_env import ThreadedVecEnv
from warpzone.imitation import imitate, work
from warpzone.params import Init, Params, load_params
from warpzone.progress import progress_bar
from warpzone.provenance import note
from warpzone.seeds import SEEDS, Purpose, episode_seed
from warpzone.selection import make_score
from warpzone.stage import argument_parser, run_stage

PARAMS = Path("params.yaml")
CLONE = Path("models/bc")
TEACHERS = Path("models/teacher")
MODELS = Path("models/rl")
METRICS = Path("metrics/train_rl")
CURVES = Path("plots/train_rl")
CHECKPOINTS = Path(".checkpoints")

# Sections of the parameters that decide the result.
USED = {
    **dict.fromkeys(("train_rl", "device", "game", "noise"), True),
    "pretrain_bc": {"batch_size", "learning_rate", "weight_decay"},
    "evaluate": {"temperature"},
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
    inputs = [Path(__file__), TEACHERS / name, *([CLONE] if init == "bc" else [])]
    start = load_policy(CLONE, params.game) if init == "bc" else None
    teacher = load_policy(TEACHERS / name, params.game, "ram")
    with checkpointed(CHECKPOINTS, f"train_rl-{name}", facts, inputs) as checkpoint:
        train_one(name, seed, start, teacher, params, origin, checkpoint)


def train_one(
    name: str,
    seed: int,
    start: Policy | None,
    teacher: Policy,
    params: Params,
    origin: dict[str, Any],
    checkpoint: Checkpoint,
) -> None:
    """Train an agent and write it with its figures."""
    game, noise, rl = params.game, params.noise, params.train_rl
    if checkpoint.has("state"):
        print(f"train_rl {name}: goes on where it was ended", file=sys.stderr)
    make_deterministic(seed)
    device = find_device(params.device)
    teacher = teacher.to(device)
    start = (start or build_policy(game)).to(device)
    with progress_bar(work(rl), f"{name} imitates its teacher", "step") as bar:
        cost = imitate(teacher, "ram", start, params, rl, seed, checkpoint, bar.update)
    coefficient = LinearSchedule(rl.kickstart_coefficient, 0.0, rl.kickstart_share)
    with (
        closing(ThreadedVecEnv([partial(MarioEnv, game, noise)] * rl.envs)) as envs,
        progress_bar(rl.agent_steps, f"training {name}", "agent step") as bar,
    ):
        training = train(
            envs,
            start,
            rl,
            episode_seed(Purpose.TRAINING, seed, 0),
            make_score(params, rl, seed),
            device,
            Kickstart(teacher, coefficient),
            checkpoint,
            bar.update,
        )

    save_policy(training.policy, MODELS / name / "final", game, origin)
    set_weights(training.policy, training.best_weights)
    save_policy(training.policy, MODELS / name, game, origin)
    note(MODELS / name, Path())
    write_csv(CURVES / f"{name}.csv", training.curve)
    selection_episodes = {"selection_episodes": rl.selection_episodes}
    write_json(METRICS / f"{name}.json", training.summary() | selection_episodes | cost)


if __name__ == "__main__":
    run_stage(main)
