"""The optional part in C; everything else about the package is in pyproject.toml.

Relaying works without it, in pure Python. So whatever is missing (cffi, a compiler, Python's headers) is told
in one line and the installation goes on.
"""

import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent


def extensions() -> list[Extension]:
    """What can be built here."""
    try:
        builder = runpy.run_path(str(ROOT / "media/native/build_fanout.py"))["builder"]()
        extension = builder.distutils_extension("build")
    except Exception as problem:  # an installation must not fail for what only makes it faster
        sys.stderr.write(f"relaying in pure Python: {type(problem).__name__}: {problem}\n")
        return []
    extension.optional = True
    return [extension]


setup(ext_modules=extensions())
