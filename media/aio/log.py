"""Log lines of the worker process: ``LEVEL logger text key=value ...`` on standard error.

The worker is a process of its own and imports nothing of the server, so it formats its few lines
itself in the same shape.
"""

import logging
import sys

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class KeyValueFormatter(logging.Formatter):
    """Constant text, then what ``extra`` holds."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback if there is one."""
        fields = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD)
        line = f"{record.levelname} {record.name} {record.getMessage()}"
        if fields:
            line = f"{line} {fields}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def configure_log(level: int = logging.INFO) -> None:
    """Send everything from ``level`` up to standard error; the libraries' chatter only from WARNING."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    logging.basicConfig(level=level, handlers=[handler])
    for library in ("aiortc", "aioice", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)
