"""Collect demonstrations: the env's demonstrator plays each level under noise.

Reads the game, and the recordings of people in data/recordings/ if there are any.
Writes data/demos/ENV/TASK.jsonl and metrics/collect_demos/ENV/TASK.json.

Recordings are added to the demonstrator's collect_demos.episodes. Where it falls short
of them, what there is has to do: two of its own, or a recording.
"""

import sys

from warpzone.core.errors import InputError
from warpzone.core.files import write_json, write_lines
from warpzone.core.names import RECORDINGS, cell
from warpzone.core.params import Params
from warpzone.core.progress import progress_bar
from warpzone.core.stage import read_arguments, run_stage
from warpzone.episodes.demonstrations import Demonstrations, demonstrate
from warpzone.episodes.recording import Recording, read_recordings, watch

FEWEST = 2
"""Of the demonstrator's own, where it falls short and nobody recorded the level."""


def main() -> None:
    """Keep what succeeds and replays exactly."""
    params, arguments = read_arguments(__doc__, "task")
    task, wanted = arguments.task, params.collect_demos.episodes
    levels = params.levels(task)
    # All of them before anything is played, which takes minutes.
    human = [human_recordings(params, level) for level in levels]
    if wanted == 0 and [] in human:
        raise InputError(
            f"nobody demonstrates {levels[human.index([])]}: collect_demos.episodes = "
            f"0, and {RECORDINGS} has no recording of it: add one, or raise "
            "collect_demos.episodes"
        )
    played = [planned(params, level, len(human[i])) for i, level in enumerate(levels)]
    kept = [
        recording
        for ours, theirs in zip(human, played, strict=True)
        for recording in (*ours, *theirs.kept)
    ]
    write_lines(
        cell("data/demos", params.env, f"{task}.jsonl"),
        (recording.to_json() for recording in kept),
    )
    write_json(
        cell("metrics/collect_demos", params.env, f"{task}.json"),
        {
            "episodes_human": sum(map(len, human)),
            "episodes_tried": sum(theirs.tried for theirs in played),
            "episodes_kept": sum(len(theirs.kept) for theirs in played),
            "emulator_frames": sum(theirs.emulated_frames for theirs in played),
            "agent_steps_mean": sum(len(one.decided) for one in kept) / len(kept),
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


def planned(params: Params, level: str, recordings: int) -> Demonstrations:
    """Let the demonstrator play until it has succeeded often enough.

    Raises:
        InputError: If it hardly ever does, and there are no ``recordings``.
    """
    wanted = params.collect_demos.episodes
    with progress_bar(wanted, f"demonstrating {level}", "episode") as bar:
        played = demonstrate(params, level, bar.update)
    kept = len(played.kept)
    if kept < wanted:
        said = (
            f"the demonstrator succeeded on {level} in {kept} of {played.tried} tries, "
            f"collect_demos.episodes = {wanted}, {RECORDINGS} has {recordings} of it"
        )
        if kept < FEWEST and recordings == 0:
            raise InputError(
                f"{said}: raise collect_demos.max_tries, lower collect_demos.episodes, "
                "or record your own play"
            )
        print(f"collect_demos: {said}: these have to do", file=sys.stderr)
    return played


if __name__ == "__main__":
    run_stage(main)
