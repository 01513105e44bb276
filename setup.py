"""The optional parts in C; everything else about the package is in pyproject.toml.

Relaying and load generators work without them, in pure Python. So whatever is missing (cffi, a compiler, Python's
headers) is told in one line and the installation goes on.
"""

import runpy
import sys
from pathlib import Path

from setuptools import Extension, setup

ROOT = Path(__file__).parent


BUILDERS = {"media/native/build_fanout.py": "relaying", "load_tests/native/build_generator.py": "load generators"}


def extensions() -> list[Extension]:
    """What can be built here."""
    found = []
    for builder, what in BUILDERS.items():
        try:
            extension = runpy.run_path(str(ROOT / builder))["builder"]().distutils_extension("build")
        except Exception as problem:  # an installation must not fail for what only makes it faster
            sys.stderr.write(f"{what} in pure Python: {type(problem).__name__}: {problem}\n")
            continue
        extension.optional = True
        found.append(extension)
    return found


setup(ext_modules=extensions())
