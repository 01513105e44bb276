"""A one-time enrolment code: what it looks like, how long it lives, what of it is kept.

Sixty random bits in twelve letters that nobody mistakes on paper, read over a telephone in three groups. Kept is
only a hash; whoever reads the database within the code's quarter of an hour would have to try 2**60 codes.
"""

import hashlib

from server.identity.core.rules import CODE_ALPHABET, Throttle

CODE_LETTERS = 12
CODE_BYTES = 8
CODE_MS = 15 * 60_000
ENROL = Throttle(name="enrol", attempts=10, window_s=300)
"""Per address, failures and successes alike."""
ENROL_ALL = Throttle(name="enrol_all", attempts=200, window_s=300)
"""All addresses together: codes are guessed from many machines."""
NEW_CODE = Throttle(name="enrol_code", attempts=30, window_s=300)


def enrolment_code(random: bytes) -> str:
    """A code as it is shown, ``XXXX-XXXX-XXXX``, from eight or more random bytes."""
    assert len(random) >= CODE_BYTES, "60 bits are needed"
    value = int.from_bytes(random[:CODE_BYTES], "big")
    letters = "".join(CODE_ALPHABET[(value >> (5 * place)) & 31] for place in range(CODE_LETTERS))
    return "-".join(letters[start : start + 4] for start in range(0, CODE_LETTERS, 4))


def read_enrolment_code(typed: str) -> str | None:
    """A code as somebody typed it: any case, spaces and dashes ignored; None when it cannot be one."""
    letters = typed.upper().replace(" ", "").replace("-", "")
    if len(letters) != CODE_LETTERS or not all(letter in CODE_ALPHABET for letter in letters):
        return None
    return "-".join(letters[start : start + 4] for start in range(0, CODE_LETTERS, 4))


def code_hash(code: str) -> str:
    """What is stored and looked up."""
    return hashlib.sha256(b"consilium enrolment code\0" + code.encode()).hexdigest()
