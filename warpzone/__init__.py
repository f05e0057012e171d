"""Warpzone: agents that play Super Mario Bros from pixels, reproducibly."""

import os
import sys
from itertools import islice
from pathlib import Path

# Libraries read all of these when they load, so this comes first: see .venv's
# warpzone_here.pth, which tools/setup_venv.sh writes.
_PREFIXES = ("ATEN_", "CUBLAS_", "DNNL_", "GOMP_", "KMP_", "MKL_", "NPY_", "OMP_")
_PREFIXES += ("ONEDNN_", "OPENBLAS_", "TORCH_MKLDNN_")

# Torch's threads spin while they wait for each other. On a machine that is busy with
# anything else that made a forward pass 30 times slower.
_PINS = {"OMP_WAIT_POLICY": "PASSIVE", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

# Sums and exponentials are rounded differently by each instruction set, and libraries
# take the newest that the processor has. AVX2 is what every x86-64 processor of the
# past years has; an update of the network takes 1.11 times as long with it as
# with AVX-512. MKL is the exception: it keeps its AVX2 code for Intel, and only what it
# calls compatible is the same on AMD. That is slow where it multiplies matrices, which
# `warpzone.agents.networks.Linear` leaves to oneDNN.
AVX2_PINS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}


def _has_avx2(cpuinfo: Path) -> bool:
    """Return whether Linux says so; other systems run on no processor without it."""
    if not cpuinfo.exists():
        return True
    with cpuinfo.open() as file:
        # The flags of the first processor, which are those of all.
        return any("avx2" in line.split() for line in islice(file, 40))


IS_PINNED = os.uname().machine == "x86_64" and _has_avx2(Path("/proc/cpuinfo"))
"""Whether the instruction set is that of other machines, so that the bytes are, too."""

_wanted = _PINS | (AVX2_PINS if IS_PINNED else {})
_found = {name: os.environ[name] for name in os.environ if name.startswith(_PREFIXES)}

IS_LATE = _found != _wanted and not sys.modules.keys().isdisjoint(("numpy", "torch"))
"""Whether numpy or torch had read other values before."""

# What they hold decides bytes: the number of threads too.
for _name in _found:
    del os.environ[_name]
os.environ.update(_wanted)
