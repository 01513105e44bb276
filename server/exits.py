"""Exit codes of the ``consilium`` command; scripts and service managers rely on them."""

from enum import IntEnum


class Exit(IntEnum):
    """0 means done; 1 is what Python itself uses for a crash."""

    OK = 0
    SETTINGS = 2
    """A setting cannot be used (also what the shell uses for wrong arguments)."""
    PORT_IN_USE = 3
    DATA_DIR = 4
    """The data folder cannot be made or written."""
    DATABASE = 5
    """The database cannot be reached or has the wrong schema."""
    AUDIT_BROKEN = 6
    TLS = 7
    CHECK_FAILED = 8
    """`consilium doctor` found something that does not work."""
    MEDIA = 9
    """The media worker does not start."""
    SOURCE = 10
    """`consilium bedside` cannot read its device."""
    REFUSED = 11
    """The hub does not let this device in."""


class StartError(Exception):
    """The server cannot start; the text is a sentence for the administrator."""

    def __init__(self, exit_code: Exit, sentence: str) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code
