"""Compiled code: functions that run without the GIL, and what they need of C.

numba compiles them when they are first called, and keeps the result in
``__pycache__``, so that only the first run after a change waits for the compiler.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import carray, njit, types  # pyright: ignore[reportPrivateImportUsage]
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

# Their types say nothing of what they decorate.
_njit: Any = njit
_intrinsic: Any = intrinsic


def compiled[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function: decorates it. It runs without the GIL."""
    # numba looks at the file that a function is in, but not at those that its callees
    # and constants come from: the name says which code it was compiled from.
    function.__qualname__ += f"-{_code()}"
    # Nothing calls it from C, and every wrapper takes time to compile.
    dispatcher = _njit(nogil=True, no_cfunc_wrapper=True)(function)
    # There may be no folder to keep it in.
    with suppress(RuntimeError):
        dispatcher._cache = _Cache(function)
    return dispatcher


class _Cache(FunctionCache):
    """What is kept may be cut short by a power failure, or the disk may be full."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)


@cache
def _code() -> str:
    """Return a hash of all that is compiled: the modules of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


# From here on, what only compiled code can call.


@_intrinsic
def call(typing: Any, address: Any, arguments: Any) -> Any:
    """Call the C function at an address with integers; what it returns is dropped."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function, packed = values
        given = [builder.extract_value(packed, i) for i in range(len(arguments))]
        kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
        builder.call(builder.inttoptr(function, kind.as_pointer()), given)
        return context.get_dummy_value()

    return types.void(address, arguments), generate


@_intrinsic
def call_for_float(typing: Any, address: Any, argument: Any) -> Any:
    """Call the C function at an address with a pointer; it returns a double."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function, given = values
        kind = ir.FunctionType(ir.DoubleType(), [given.type])
        return builder.call(builder.inttoptr(function, kind.as_pointer()), [given])

    return types.float64(address, argument), generate


@_intrinsic
def _pointer(typing: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(types.voidptr))

    return types.voidptr(address), generate


@_njit
def array_at(address, shape, dtype):
    """Return the array at an address."""
    return carray(_pointer(address), shape, dtype)


@_njit
def copy(source, target):
    """Copy one row of numbers to another."""
    # A slice on the left takes half a second to compile.
    for index in range(len(target)):
        target[index] = source[index]
