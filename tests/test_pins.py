"""What libraries read of the environment is set here, whatever it was before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import warpzone

ROOT = Path(__file__).parents[1]

HOSTILE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "AVX2",
    "MKL_DYNAMIC": "TRUE",
    "MKL_NUM_THREADS": "1",
    "NPY_ENABLE_CPU_FEATURES": "AVX512F",
    "OMP_DYNAMIC": "true",
    "OMP_NUM_THREADS": "1",
    "OMP_THREAD_LIMIT": "1",
    "OMP_WAIT_POLICY": "ACTIVE",
    "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "OPENBLAS_NUM_THREADS": "1",
}

WEIGHTS = """\
import ctypes, hashlib
from warpzone.agents.policy import make_deterministic
import torch
make_deterministic(1)
layers = torch.nn.Conv2d(4, 32, 5), torch.nn.Flatten(), torch.nn.Linear(86016, 64)
network = torch.nn.Sequential(*layers)
optimizer = torch.optim.Adam(network.parameters())
for _ in range(3):
    network(torch.rand(64, 4, 52, 60)).exp().log_softmax(1).square().sum().backward()
    optimizer.step()
gomp = ctypes.CDLL("libgomp.so.1")
print(torch.backends.cpu.get_cpu_capability(), gomp.omp_get_dynamic())
print(gomp.omp_get_thread_limit() > 100)
for weights in network.parameters():
    print(hashlib.sha256(weights.detach().numpy().tobytes()).hexdigest())
"""


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code as it is run where nobody has set anything but ``variables``."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=kept | variables,
        capture_output=True,
        text=True,
    )


def test_what_was_set_before_counts_for_nothing() -> None:
    code = (
        "import os, warpzone\n"
        f"prefixes = {warpzone._PREFIXES}\n"
        "print({name: os.environ[name] for name in sorted(os.environ)"
        " if name.startswith(prefixes)}, warpzone.IS_LATE)"
    )
    pinned = run(code).stdout
    assert "'OMP_WAIT_POLICY': 'PASSIVE'" in pinned
    assert ("'MKL_CBWR': 'COMPATIBLE'" in pinned) == warpzone.IS_PINNED
    assert pinned.endswith(" False\n")
    assert run(code, **HOSTILE).stdout == pinned


@pytest.mark.slow
def test_hostile_variables_change_no_byte() -> None:
    clean, hostile = run(WEIGHTS), run(WEIGHTS, **HOSTILE)
    assert clean.returncode == 0, clean.stderr
    assert hostile.stdout == clean.stdout
    capability, dynamic, is_unlimited, *hashes = clean.stdout.split()
    assert len(hashes) == 4
    assert (dynamic, is_unlimited) == ("0", "True")
    if warpzone.IS_PINNED:
        assert capability == "AVX2"


@pytest.mark.parametrize(
    ("code", "variables", "message"),
    [
        ("", {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2"}, "unset GLIBC_TUNABLES: it"),
        (
            "import warpzone; warpzone.IS_LATE = True\n",
            {},
            "import warpzone before num",
        ),
    ],
)
def test_what_cannot_be_overruled_is_refused(
    code: str, variables: dict[str, str], message: str
) -> None:
    code += "from warpzone.agents.policy import make_deterministic as make; make(1)"
    done = run(code, **variables)
    assert done.returncode != 0
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"warpzone.core.errors.InputError: {message}")


def test_numpy_or_torch_before_warpzone_is_noticed(tmp_path: Path) -> None:
    # Elsewhere than in the repository nothing has imported it at the start.
    code = f"import sys, numpy; sys.path.append({str(ROOT)!r}); import warpzone\n"
    code += "print(warpzone.IS_LATE)"
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-c", code]
    for variables, is_late in (({}, "True"), (dict(os.environ), "False")):
        done = subprocess.run(
            command, cwd=tmp_path, env=kept | variables, capture_output=True, text=True
        )
        assert done.stdout.strip() == is_late, done.stderr


@pytest.mark.parametrize(
    ("flags", "has_avx2"),
    [
        ("fpu sse sse2 avx avx2 bmi2", True),
        ("fpu sse sse2 avx avx2", True),
        ("fpu sse sse2 avx avx512_vnni bmi2", False),
    ],
)
def test_a_processor_without_avx2_is_recognised(
    tmp_path: Path, flags: str, has_avx2: bool
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: a name\nflags\t\t: {flags}\n" * 4)
    assert warpzone._has_avx2(path) == has_avx2
    assert warpzone._has_avx2(tmp_path / "absent")
