"""What a stage depends on must not change while it runs.

DVC hashes the inputs of a stage once it has ended. If one had changed by then, dvc.lock
would hold the new input beside the output of the old one, and so would DVC's run cache.
"""

import hashlib
import re
import sys
from collections import ChainMap
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial, reduce
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path
from typing import Any

from warpzone.core.errors import InputError
from warpzone.core.files import read_bytes, read_text
from warpzone.core.fingerprints import fingerprint
from warpzone.core.names import CODE, PARAMS
from warpzone.core.yaml import read_yaml

PIPELINE = Path("dvc.yaml")


def read_inputs(stage: str) -> dict[str, str]:
    """Return the value of each parameter and a hash of each file that a stage reads.

    Args:
        stage: As DVC names it, for example ``train_rl@1-1-bc-ppo-1``.

    Raises:
        InputError: If params.yaml asks for no such stage, or one of them is missing.
    """
    document = read_yaml(PARAMS)
    entry = _value(read_yaml(PIPELINE), f"stages.{stage.partition('@')[0]}", PIPELINE)
    axes = {
        axis: (
            wanted
            if isinstance(wanted, list)
            else list(_value(document, wanted[2:-1], PARAMS))
        )
        for axis, wanted in entry.get("matrix", {}).items()
    }
    command = " ".join(["python", *sys.argv])
    for cell in product(*axes.values()):
        item = dict(zip(axes, cell, strict=True))
        fill = partial(_fill, scope=ChainMap({"item": item}, document))
        if not axes or fill(entry["cmd"]) == command:
            names = map(fill, entry.get("params", ()))
            found = {f"{PARAMS}: {n}": repr(_value(document, n, PARAMS)) for n in names}
            return found | {
                path: _hash(Path(path)) for path in map(fill, entry["deps"])
            }
    raise InputError(
        f"{PARAMS} has changed since the pipeline began and no longer asks for "
        f"{stage}: run dvc repro again"
    )


def check_inputs(stage: str, before: dict[str, str]) -> None:
    """Check that what a stage reads is what it was before.

    Raises:
        InputError: With the names of what has changed.
    """
    after = read_inputs(stage)
    if changed := [name for name, value in before.items() if after.get(name) != value]:
        raise InputError(
            f"{', '.join(changed)} changed while {stage} ran, so its result is not "
            "recorded: run dvc repro again"
        )


def check_code(inputs: Iterable[str]) -> None:
    """Check that the code that runs is the code that DVC will record.

    Args:
        inputs: Paths, of which those in data/code/ matter.

    Raises:
        InputError: With the names of modules and packages that are not.
    """
    changed = []
    for path in map(Path, inputs):
        for line in read_text(path).splitlines() if path.parent == CODE else ():
            recorded, name = line.split("  ")
            with suppress(PackageNotFoundError):
                is_ours = name.endswith(".py")
                if recorded == (fingerprint(Path(name)) if is_ours else version(name)):
                    continue
            changed.append(name)
    if changed:
        raise InputError(
            f"{', '.join(changed)} changed since check_params ran: run dvc repro again"
        )


def _fill(text: str, scope: Mapping[str, Any]) -> str:
    """Put values in place of ``${key}``, as DVC does."""
    pattern = r"\$\{([^}]+)\}"
    return re.sub(pattern, lambda found: str(_value(scope, found[1], PARAMS)), text)


def _value(document: Any, key: str, source: Path) -> Any:
    try:
        return reduce(lambda inner, part: inner[part], key.split("."), document)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{source} no longer has {key}, which a stage needs"
        ) from error


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        # As .dvcignore says.
        if "__pycache__" not in file.parts and not file.is_dir():
            digest.update(f"{file}\n".encode())
            digest.update(read_bytes(file))
    return digest.hexdigest()
