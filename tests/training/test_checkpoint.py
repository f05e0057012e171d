import json
import os
from pathlib import Path

import pytest
import torch

from warpzone.core.errors import InputError
from warpzone.training.checkpoint import (
    Checkpoint,
    checkpointed,
    optimizer_tensors,
    restore_optimizer,
    with_prefix,
    without_prefix,
)

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(7)}
STATE = {"z": 0.1 + 0.2, "rows": [{"y": None, "x": float("nan")}], "big": 2**100}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "kept")


def test_what_is_loaded_is_what_was_saved(checkpoint: Checkpoint) -> None:
    assert not checkpoint.has("one")
    checkpoint.save("one", TENSORS, STATE)
    assert checkpoint.has("one")
    tensors, state = checkpoint.load("one")
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
    assert json.dumps(state) == json.dumps(STATE)


def test_the_last_save_of_a_name_counts(checkpoint: Checkpoint) -> None:
    checkpoint.save("one", TENSORS, 1)
    checkpoint.save("one", TENSORS, 2)
    assert checkpoint.load("one").state == 2


@pytest.mark.parametrize("place", [0, 40, 200, -1])
def test_a_flipped_byte_is_told(checkpoint: Checkpoint, place: int) -> None:
    checkpoint.save("one", TENSORS, STATE)
    [path] = checkpoint.folder.iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"one.checkpoint: is missing or damaged"):
        checkpoint.load("one")


@pytest.mark.parametrize("kept", [0, 10, 100])
def test_a_cut_file_is_told(checkpoint: Checkpoint, kept: int) -> None:
    checkpoint.save("one", TENSORS, STATE)
    [path] = checkpoint.folder.iterdir()
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="is missing or damaged"):
        checkpoint.load("one")


def test_a_missing_part_is_told(checkpoint: Checkpoint) -> None:
    with pytest.raises(InputError, match="is missing or damaged: delete"):
        checkpoint.load("one")


def folder_of(root: Path, facts: object, *inputs: Path, stage: str = "s") -> Path:
    with checkpointed(root, stage, facts, inputs) as checkpoint:
        return checkpoint.folder


def test_all_that_decides_a_result_names_the_folder(tmp_path: Path) -> None:
    demos, model = tmp_path / "demos", tmp_path / "model"
    model.mkdir()
    for path in (demos, model / "weights"):
        path.write_text("1")
    usual = folder_of(tmp_path, {"seed": 1}, demos, model)
    assert folder_of(tmp_path, {"seed": 1}, demos, model) == usual
    assert folder_of(tmp_path, {"seed": 2}, demos, model) != usual
    assert folder_of(tmp_path, {"seed": 1}, demos, model, stage="t") != usual
    for path in (demos, model / "weights"):
        path.write_text("2")
        assert folder_of(tmp_path, {"seed": 1}, demos, model) != usual
        path.write_text("1")
    (model / "more").write_text("1")
    assert folder_of(tmp_path, {"seed": 1}, demos, model) != usual


def test_success_removes_the_folder_and_failure_keeps_it(tmp_path: Path) -> None:
    def fail(checkpoint: Checkpoint) -> None:
        checkpoint.save("one", TENSORS, STATE)
        raise InputError("no")

    with pytest.raises(InputError), checkpointed(tmp_path, "s", 1, []) as checkpoint:
        fail(checkpoint)
    assert checkpoint.has("one")
    with checkpointed(tmp_path, "s", 2, []) as other:
        assert not other.has("one")
    with checkpointed(tmp_path, "s", 1, []) as again:
        assert again.has("one")
    assert not checkpoint.folder.exists()


def test_a_second_run_of_a_stage_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with (
        checkpointed(tmp_path, "s", 1, []),
        pytest.raises(InputError, match=f"process {os.getpid()} is at work here"),
        checkpointed(tmp_path, "s", 2, []),
    ):
        pass


def test_prefixes_come_and_go() -> None:
    both = with_prefix("one", TENSORS) | with_prefix("other", {"a": TENSORS["b"]})
    assert without_prefix("one", both) == TENSORS
    assert list(without_prefix("other", both)) == ["a"]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_an_optimizer_goes_on_where_it_was(kind: type) -> None:
    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(1)
        net = torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        return net, kind(net.parameters(), 0.1)

    def learn(net: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        net(torch.ones(2, 3, 5, 5)).square().mean().backward()
        optimizer.step()

    net, optimizer = build()
    learn(net, optimizer)
    other, restored = build()
    other.load_state_dict(net.state_dict())
    restore_optimizer(restored, optimizer_tensors(optimizer))
    for one in ((net, optimizer), (other, restored)):
        learn(*one)
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(
        optimizer_tensors(optimizer).values(),
        optimizer_tensors(restored).values(),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
        assert ours.stride() == theirs.stride()
