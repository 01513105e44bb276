"""Real records from public databases, where this machine has them.

They have licences of their own and are not part of the project. They lie in ``shared/data`` beside the checkout,
or where CONSILIUM_SHARED_DATA says; a test that needs one that is not there is skipped and says so.
"""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("CONSILIUM_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")


def shared(name: str) -> Path:
    """Path of a shared file or folder; skips the test where there is none."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"needs the public record {name}; set CONSILIUM_SHARED_DATA to a folder that has it")
    return path
