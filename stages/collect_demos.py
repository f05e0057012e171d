"""Collect demonstrations: the env's demonstrator plays each level under noise.

Reads the game, and the recordings of people in data/recordings/ if there are any.
Writes data/demos/ENV/TASK.jsonl and metrics/collect_demos/ENV/TASK.json.
"""

import os
from pathlib import Path

from warpzone.core.errors import InputError
from warpzone.core.files import write_json, write_lines
from warpzone.core.names import cell
from warpzone.core.params import Params
from warpzone.core.progress import progress_bar
from warpzone.core.stage import read_arguments, run_stage
from warpzone.episodes.demonstrations import Demonstrations, demonstrate
from warpzone.episodes.recording import Recording, read_recordings, watch

RECORDINGS = Path("data/recordings")


def main() -> None:
    """Keep what succeeds and replays exactly."""
    params, arguments = read_arguments(__doc__, "task")
    task = arguments.task
    kept: list[Recording] = []
    human: list[Recording] = []
    tried = frames = 0
    wanted = params.collect_demos.episodes
    for level in params.levels(task):
        ours = human_recordings(params, level)
        if not ours and wanted == 0:
            raise InputError(
                f"nobody demonstrates {level}: collect_demos.episodes = 0, and "
                f"{RECORDINGS} has no recording of it: add one, or raise "
                "collect_demos.episodes"
            )
        played = planned(params, level)
        if not ours and len(played.kept) < wanted:
            raise InputError(
                f"the demonstrator succeeded on {level} in {len(played.kept)} of "
                f"{played.tried} tries, collect_demos.episodes = {wanted}: raise "
                "collect_demos.max_tries, lower collect_demos.episodes, or record your "
                f"own play in {RECORDINGS}"
            )
        human += ours
        kept += [*ours, *played.kept]
        tried += played.tried
        frames += played.emulated_frames
    write_lines(
        cell("data/demos", params.env, f"{task}.jsonl"),
        (recording.to_json() for recording in kept),
    )
    steps = [len(recording.decided) for recording in kept]
    write_json(
        cell("metrics/collect_demos", params.env, f"{task}.json"),
        {
            "episodes_human": len(human),
            "episodes_tried": tried,
            "episodes_kept": len(kept) - len(human),
            "emulator_frames": frames,
            "agent_steps_mean": sum(steps) / len(steps),
        },
    )


def human_recordings(params: Params, level: str) -> list[Recording]:
    """Read and check the recordings that people made of a level."""
    recordings = []
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        for number, recording in enumerate(read_recordings(path), start=1):
            if (recording.env, recording.level) == (params.env, level):
                source = f"{path}, line {number}"
                watch(recording, params.world.kwargs, ("state",), source)
                recordings.append(recording)
    return recordings


def planned(params: Params, level: str) -> Demonstrations:
    """Let the demonstrator play until it has succeeded often enough."""
    wanted = params.collect_demos.episodes
    with progress_bar(wanted, f"demonstrating {level}", "episode") as bar:
        return demonstrate(
            params.env,
            params.world.kwargs,
            level,
            params.noise,
            params.seed,
            wanted,
            params.collect_demos.max_tries,
            min(os.process_cpu_count() or 1, max(wanted, 1)),
            bar.update,
        )


if __name__ == "__main__":
    run_stage(main)
