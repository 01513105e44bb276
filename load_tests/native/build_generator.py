"""Builds ``load_tests.native._generator`` from the sources beside this (cffi's API mode: every call releases the GIL).

They are one translation unit: only the functions of ``generator.h`` are seen outside, and what every packet passes is
inlined across files. ``inside.h`` says which file does what. ``setup.py`` calls this at install; without a compiler,
Python's headers or cffi the generators play in pure Python.
"""

from pathlib import Path
from typing import Any

from cffi import FFI

HERE = Path(__file__).parent
HEADERS = ("generator.h", "inside.h")
SOURCES = ("line.c", "receive.c", "rtcp_out.c", "rtcp_in.c", "send.c", "loop.c", "caller.c")


def builder() -> Any:
    """The declaration and the source, for setuptools."""
    ffi: Any = FFI()
    ffi.cdef((HERE / "generator.h").read_text())
    ffi.set_source(
        "load_tests.native._generator",
        "".join(f'#include "{name}"\n' for name in SOURCES),
        include_dirs=[str(HERE)],
        depends=[str(HERE / name) for name in (*HEADERS, *SOURCES)],
        libraries=["m", "pthread"],
        extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-ffp-contract=off"],
    )
    return ffi
