"""Where an error of our own came from, without its text: an exception may quote the data it stumbled over (G8)."""

import traceback


def where(error: BaseException) -> str:
    """``module.py:line function`` of the innermost frames."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in reversed(frames))
