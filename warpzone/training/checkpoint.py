"""Checkpoints: an interrupted stage resumes bit for bit.

They are no outputs. A stage keeps them in a folder that is named after all that decides
its result, so a run with other parameters, inputs or code never finds them.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from warpzone.core.errors import InputError
from warpzone.core.files import locked, read_bytes, write_bytes

_LIBRARY = Path(__file__).parents[1]


class Checkpoint:
    """A folder of named parts, each of them whole or absent.

    A part is a tree of dictionaries, lists, tensors, NumPy arrays, and what JSON can
    say, to the bit: floats keep all their digits.

    Args:
        folder: Is created when something is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, name: str, tree: Any) -> None:
        """Store a part in place of the one of that name."""
        tensors: dict[str, torch.Tensor] = {}
        state = json.dumps(_flatten(tree, tensors)).encode()
        tensors["state"] = torch.frombuffer(bytearray(state), dtype=torch.uint8)
        content = save(tensors)
        write_bytes(self._path(name), hashlib.sha256(content).digest() + content)

    def has(self, name: str) -> bool:
        """Return whether a part was saved."""
        return self._path(name).exists()

    def load(self, name: str) -> Any:
        """Return a part.

        Raises:
            InputError: If the file is missing or damaged.
        """
        path = self._path(name)
        stored = path.read_bytes() if path.exists() else b""
        digest, content = stored[:32], stored[32:]
        damaged = InputError(
            f"{path}: is missing or damaged: delete {self.folder} to begin anew"
        )
        if hashlib.sha256(content).digest() != digest:
            raise damaged
        try:
            tensors = load(content)
            state = json.loads(tensors["state"].numpy().tobytes())
        except (SafetensorError, ValueError, KeyError) as error:
            raise damaged from error
        return _restore(state, tensors)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.checkpoint"


@contextmanager
def checkpointed(
    root: Path, stage: str, facts: Any, inputs: Iterable[Path]
) -> Iterator[Checkpoint]:
    """Keep a stage's checkpoints until it has succeeded.

    Args:
        root: Where the checkpoints of all stages lie.
        stage: Its name, with what tells its cells apart.
        facts: Parameters and whatever else decides the result; JSON can say it.
        inputs: Files and folders that decide it too. The library's own code is added.

    Raises:
        InputError: If an input cannot be read, or if the stage is running already; the
            message names the process.
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for path in sorted(_files_in([*inputs, _LIBRARY])):
        name = path.relative_to(_LIBRARY) if path.is_relative_to(_LIBRARY) else path
        content = hashlib.sha256(read_bytes(path)).hexdigest()
        digest.update(f"{name.as_posix()} {content}\n".encode())
    with locked(root / f"{stage}.lock"):
        checkpoint = Checkpoint(root / f"{stage}-{digest.hexdigest()[:16]}")
        yield checkpoint
        shutil.rmtree(checkpoint.folder, ignore_errors=True)


def like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Lay out what an optimizer remembers as its parameters are.

    Loading keeps the numbers and loses the layout, which decides how sums are rounded.
    """
    for parameter, remembered in optimizer.state.items():
        for name, value in remembered.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                remembered[name] = torch.empty_like(parameter).copy_(value)


def _flatten(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Return a tree that JSON can say, with the names of tensors that are put aside."""
    match tree:
        case torch.Tensor():
            name = str(len(tensors))
            tensors[name] = tree.detach().cpu().clone().contiguous()
            return {"tensor": name}
        case np.ndarray():
            name = str(len(tensors))
            # Not ascontiguousarray, which gives a number the shape (1,).
            tensors[name] = torch.from_numpy(np.array(tree, order="C"))
            return {"array": name}
        case dict():
            return {"items": [[k, _flatten(v, tensors)] for k, v in tree.items()]}
        case list() | tuple():
            return [_flatten(item, tensors) for item in tree]
        case np.generic():
            return tree.item()
    return tree


def _restore(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(tree, list):
        return [_restore(item, tensors) for item in tree]
    if not isinstance(tree, dict):
        return tree
    [(kind, value)] = tree.items()
    if kind == "items":
        return {key: _restore(item, tensors) for key, item in value}
    return tensors[value] if kind == "tensor" else tensors[value].numpy()


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
