"""Bounds on what is read, and one door for the errors of libraries.

Files come from strangers. Their size is bounded before anything reads them, and
whatever a library stumbles over becomes the one typed error of this package.
"""

import contextlib
import re
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Final

from media.sources.errors import SourceError, SourceErrorCode

MAX_FILE_BYTES: Final = 64 << 20
"""Bounds the work a file can cause: an hour of 12 leads at 500 Hz in int16 is 43 MB."""
MAX_TEXT_BYTES: Final = 16 << 20
"""XML and JSON, which cost many times their size."""
MAX_CHANNELS: Final = 128
SIMULATED: Final = "SIMULATED"
"""How a text begins that says that a recording is not from a person (W9)."""
EARLIEST, LATEST = 1900, 2200


def bounded(data: bytes, limit: int = MAX_FILE_BYTES) -> bytes:
    """The same bytes.

    Raises:
        SourceError: too many, or none.
    """
    if len(data) > limit:
        raise SourceError(SourceErrorCode.TOO_LARGE, f"{len(data)} bytes; {limit} are allowed")
    if not data:
        raise SourceError(SourceErrorCode.TRUNCATED, "no bytes")
    return data


@contextlib.contextmanager
def library(what: str) -> Iterator[None]:
    """Turn whatever a parser raises over hostile bytes into `SourceError`; its warnings go nowhere."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SourceError:
        raise
    except MemoryError:
        raise SourceError(SourceErrorCode.TOO_LARGE, what) from None
    except EOFError as error:
        raise SourceError(SourceErrorCode.TRUNCATED, f"{what}: {error}") from error
    except Exception as error:  # libraries raise what they like; which one says nothing to a person
        raise SourceError(SourceErrorCode.MALFORMED, f"{what}: {type(error).__name__}: {error}") from error


def unix_us(moment: datetime) -> int | None:
    """Microseconds since 1970 (UTC where no zone is given), or None when it is no plausible time."""
    if not EARLIEST <= moment.year <= LATEST:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int((aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000 + 0.5)


_NUMBER: Final = re.compile(r"^[+-]?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,2})?$", re.ASCII)


def exact(value: object) -> Fraction:
    """A decimal number of a file, exactly.

    `Fraction` by itself would take "1e999999999" and compute for hours.

    Raises:
        SourceError: it is no number of a sane length.
    """
    text = str(value).strip()
    if _NUMBER.match(text) is None:
        raise SourceError(SourceErrorCode.MALFORMED, f"{text[:24]!r} is no number")
    return Fraction(text)
