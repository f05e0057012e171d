"""Warpzone: agents that play Super Mario Bros from pixels, reproducibly."""

import os

# All of these are read when torch or numpy loads, so this comes first: see .venv's
# warpzone_here.pth, which tools/setup_venv.sh writes.

# Torch's threads spin while they wait for each other. On a machine that is busy with
# anything else that made a forward pass 30 times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Sums and exponentials are rounded differently by each instruction set, and libraries
# take the newest that the processor has. AVX2 is what every x86-64 processor of the
# past years has; an update of the network takes 1.11 times as long with it as
# with AVX-512.
if os.uname().machine == "x86_64":
    os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")
    os.environ.setdefault("MKL_ENABLE_INSTRUCTIONS", "AVX2")
    os.environ.setdefault("MKL_CBWR", "AVX2")
    os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
    os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", "X86_V4 AVX512_ICL AVX512_SPR")
