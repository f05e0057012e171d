"""Train a teacher, which sees the console's memory, by PPO.

Reads models/bc/ if --init is bc: the teacher first learns what that does. With NAME
being INIT-seedN, it writes models/teacher/NAME/ (the policy that played best, chosen by
episodes that are used for nothing else), metrics/train_teacher/NAME.json and
plots/train_teacher/NAME.csv. If it is killed, the next run goes on after the last
update.
"""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, get_args

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
from warpzone.agents.ppo import train
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
MODELS = Path("models/teacher")
METRICS = Path("metrics/train_teacher")
CURVES = Path("plots/train_teacher")
CHECKPOINTS = Path(".checkpoints")

# Sections of the parameters that decide the result.
USED = {
    **dict.fromkeys(("train_teacher", "device", "game", "noise"), True),
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
    origin = describe_origin("train_teacher", params.train_teacher, seed)
    origin |= {"init": init}
    facts = [params.model_dump(mode="json", include=USED), origin]
    inputs = [Path(__file__), *([CLONE] if init == "bc" else [])]
    clone = load_policy(CLONE, params.game) if init == "bc" else None
    with checkpointed(CHECKPOINTS, f"train_teacher-{name}", facts, inputs) as kept:
        train_one(name, seed, clone, params, origin, kept)


def train_one(
    name: str,
    seed: int,
    clone: Policy | None,
    params: Params,
    origin: dict[str, Any],
    checkpoint: Checkpoint,
) -> None:
    """Train a teacher and write it with its figures."""
    game, noise, rl = params.game, params.noise, params.train_teacher
    if checkpoint.has("state"):
        print(f"train_teacher {name}: goes on where it was ended", file=sys.stderr)
    make_deterministic(seed)
    start, cost = None, {}
    if clone is not None:
        start = build_policy(game, "ram").to(find_device(params.device))
        with progress_bar(work(rl), f"{name} imitates the clone", "step") as bar:
            cost = imitate(
                clone, "pictures", start, params, rl, seed, checkpoint, bar.update
            )
    make_env = partial(MarioEnv, game, noise, obs_type="ram")
    with (
        closing(ThreadedVecEnv([make_env] * rl.envs)) as envs,
        progress_bar(rl.agent_steps, f"teacher {name}", "agent step") as bar,
    ):
        training = train(
            envs,
            start,
            rl,
            episode_seed(Purpose.TRAINING, seed, 0),
            make_score(params, rl, seed, "ram"),
            find_device(params.device),
            checkpoint=checkpoint,
            on_agent_steps=bar.update,
        )

    set_weights(training.policy, training.best_weights)
    save_policy(training.policy, MODELS / name, game, origin)
    note(MODELS / name, Path())
    write_csv(CURVES / f"{name}.csv", training.curve)
    selection_episodes = {"selection_episodes": rl.selection_episodes}
    write_json(METRICS / f"{name}.json", training.summary() | selection_episodes | cost)


if __name__ == "__main__":
    run_stage(main)
