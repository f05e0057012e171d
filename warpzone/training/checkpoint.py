"""Checkpoints: what is killed goes on, and ends in the same bytes.

They are no outputs. A stage keeps them in a folder that is named after all that decides
its result, so a run with other parameters, inputs or code never finds them.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load, save

from warpzone.core.errors import InputError
from warpzone.core.files import locked, write_bytes

_LIBRARY = Path(__file__).parents[1]


class Part(NamedTuple):
    """What is stored under one name."""

    tensors: dict[str, torch.Tensor]
    state: Any
    """What JSON can say, to the bit: floats keep all their digits."""


class Checkpoint:
    """A folder of named parts, each of them whole or absent.

    Args:
        folder: Is created when something is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, name: str, tensors: dict[str, torch.Tensor], state: Any) -> None:
        """Store a part in place of the one of that name."""
        plain = {key: t.detach().cpu().contiguous() for key, t in tensors.items()}
        # Keys in their order: that of a table's columns counts.
        content = save(plain, {"state": json.dumps(state)})
        write_bytes(self._path(name), hashlib.sha256(content).digest() + content)

    def has(self, name: str) -> bool:
        """Whether a part was saved."""
        return self._path(name).exists()

    def load(self, name: str) -> Part:
        """Return a part.

        Raises:
            InputError: If the file is missing or damaged.
        """
        path = self._path(name)
        stored = path.read_bytes() if path.exists() else b""
        digest, content = stored[:32], stored[32:]
        if hashlib.sha256(content).digest() != digest:
            raise InputError(
                f"{path}: is missing or damaged: delete {self.folder} to begin anew"
            )
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        return Part(load(content), json.loads(header["__metadata__"]["state"]))

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.checkpoint"


@contextmanager
def checkpointed(
    root: Path, stage: str, facts: Any, inputs: Iterable[Path]
) -> Iterator[Checkpoint]:
    """Keep a stage's checkpoints until it has succeeded.

    Args:
        root: Where the checkpoints of all stages lie.
        stage: Its name.
        facts: Parameters and whatever else decides the result; JSON can say it.
        inputs: Files and folders that decide it too. The library's own code is added.

    Raises:
        InputError: If an input cannot be read, or if the stage is running already; the
            message names the process.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for path in sorted(_files_in([*inputs, _LIBRARY])):
        name = path.relative_to(_LIBRARY) if path.is_relative_to(_LIBRARY) else path
        try:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        digest.update(f"{name.as_posix()} {content}\n".encode())
    with locked(root / f"{stage}.lock"):
        checkpoint = Checkpoint(root / f"{stage}-{digest.hexdigest()[:16]}")
        yield checkpoint
        shutil.rmtree(checkpoint.folder, ignore_errors=True)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return what an optimizer remembers of each parameter."""
    return {
        f"{index}.{name}": tensor
        for index, remembered in optimizer.state_dict()["state"].items()
        for name, tensor in remembered.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Make an optimizer remember what `optimizer_tensors` returned."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        parameter = parameters[int(index)]
        # In the parameter's layout, as the optimizer itself makes them.
        is_like_it = tensor.shape == parameter.shape
        kept = torch.empty_like(parameter if is_like_it else tensor).copy_(tensor)
        state.setdefault(int(index), {})[name] = kept
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def with_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Put a name before every tensor's."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Return the tensors that `with_prefix` named."""
    start = f"{prefix}/"
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def _files_in(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (
                file
                for file in path.rglob("*")
                if file.is_file() and file.suffix != ".pyc"
            )
        else:
            yield path
