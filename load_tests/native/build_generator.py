"""Builds ``load_tests.native._generator`` from ``generator.c`` (cffi's API mode: every call releases the GIL).

``setup.py`` calls this at install; without a compiler, Python's headers or cffi the generators play in pure Python.
"""

from pathlib import Path
from typing import Any

from cffi import FFI

HERE = Path(__file__).parent


def builder() -> Any:
    """The declaration and the source, for setuptools."""
    ffi: Any = FFI()
    ffi.cdef((HERE / "generator.h").read_text())
    ffi.set_source(
        "load_tests.native._generator",
        '#include "generator.c"\n',
        include_dirs=[str(HERE)],
        depends=[str(HERE / name) for name in ("generator.h", "generator.c")],
        libraries=["m", "pthread"],
        extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-ffp-contract=off"],
    )
    return ffi
