"""Builds ``media.native._fanout`` from ``fanout.c`` and ``intake.c`` (cffi's API mode: every call releases the GIL).

``setup.py`` calls this at install; without a compiler, Python's headers or cffi the package is whole without it.
"""

from pathlib import Path
from typing import Any

from cffi import FFI

HERE = Path(__file__).parent
HEADERS = ("fanout.h", "intake.h")
SOURCES = ("fanout.c", "intake.c")


def builder() -> Any:
    """The declaration and the source, for setuptools."""
    ffi: Any = FFI()
    ffi.cdef("".join(HERE.joinpath(name).read_text() for name in HEADERS))
    ffi.set_source(
        "media.native._fanout",
        "".join(f'#include "{name}"\n' for name in SOURCES),
        include_dirs=[str(HERE)],
        depends=[str(HERE / name) for name in (*HEADERS, *SOURCES)],
        extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
    )
    return ffi
