"""What decides a model's bytes beside its parameters and data.

Equal runs on other machines and commits give equal files. So what does not decide them,
the git commit and the processor, stays out of `policy.json`. The commit is found by the
model's hash: `python -m tools.provenance models/...`.
"""

import os
import platform
from importlib.metadata import version
from typing import Any

PINNED = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
"""Variables that decide how sums are rounded, see `warpzone/__init__.py`."""


def deciding_facts(packages: tuple[str, ...]) -> dict[str, Any]:
    """Return what decides a model's bytes beside parameters and data.

    The same on all machines that make the same bytes, so it may be part of an output.

    Args:
        packages: Those whose version counts.
    """
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "instruction_set": {name: os.environ.get(name, "") for name in PINNED},
        "versions": {package: version(package) for package in packages},
    }
