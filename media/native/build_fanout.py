"""Builds ``media.native._fanout`` from ``fanout.c`` (cffi's API mode: every call releases the GIL).

``setup.py`` calls this at install; without a compiler, Python's headers or cffi the package is whole without it.
"""

from pathlib import Path
from typing import Any

from cffi import FFI

HERE = Path(__file__).parent


def builder() -> Any:
    """The declaration and the source, for setuptools."""
    ffi: Any = FFI()
    ffi.cdef(HERE.joinpath("fanout.h").read_text())
    ffi.set_source(
        "media.native._fanout",
        HERE.joinpath("fanout.c").read_text(),
        include_dirs=[str(HERE)],
        depends=[str(HERE / "fanout.h"), str(HERE / "fanout.c")],
        extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
    )
    return ffi
