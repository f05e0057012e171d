"""The stage that gathers demonstrations, with recordings of people."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

from warpzone.core.errors import InputError
from warpzone.core.params import Params
from warpzone.episodes.recording import Recording, read_recordings

ROOT = Path(__file__).parents[2]
CLEARS = read_recordings(ROOT / "tests" / "data" / "clears.jsonl")


@pytest.fixture
def human_recordings(
    small_workspace: Params,
) -> Callable[[Params], list[Recording]]:
    """The stage's reader, in a folder whose data/recordings/ is empty."""
    Path("data/recordings").mkdir(parents=True)
    return runpy.run_path(str(ROOT / "stages" / "collect_demos.py"))["human_recordings"]


def by_a_person(recording: Recording) -> Recording:
    """The same buttons, without the decisions and the noise that only agents have."""
    return recording.model_copy(update={"decisions": None, "seed": None})


def test_recordings_of_the_level_are_added_and_those_of_others_left_out(
    human_recordings: Callable[[Params], list[Recording]], small_workspace: Params
) -> None:
    mine = by_a_person(CLEARS[0])
    other = by_a_person(next(clear for clear in CLEARS if clear.level != "1-1"))
    lines = f"{mine.to_json()}\n{other.to_json()}\n"
    Path("data/recordings/me.jsonl").write_text(lines)
    assert human_recordings(small_workspace) == [mine]


def test_without_recordings_there_are_none(
    human_recordings: Callable[[Params], list[Recording]], small_workspace: Params
) -> None:
    assert human_recordings(small_workspace) == []


def test_a_recording_that_does_not_replay_is_refused_with_its_file_and_line(
    human_recordings: Callable[[Params], list[Recording]], small_workspace: Params
) -> None:
    wrong = by_a_person(CLEARS[0]).model_copy(update={"ram_sha256": "0" * 64})
    Path("data/recordings/me.jsonl").write_text(f"{wrong.to_json()}\n")
    with pytest.raises(InputError, match=r"me\.jsonl, line 1: .* RAM .* recorded 000"):
        human_recordings(small_workspace)
