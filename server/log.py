"""Structured log: constant text, ids and numbers as fields, and nothing that names a patient (G8).

Callers pass ids. What slips in anyway is caught by field name (`PRIVATE_FIELDS`)
and by shape (long random text, JSON web tokens) in one processor at the end of
the chain, for our own lines and those of the libraries alike.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from server.metrics import HTTP_REFUSALS

PRIVATE = "<private>"
PRIVATE_FIELDS = frozenset(
    {
        "address", "auth", "authorization", "birth_date", "body", "code", "cookie", "guest", "identifier",
        "identifiers", "login", "mrn", "name", "name_latin", "password", "patient_name", "phone", "secret", "title",
        "token", "url",
    }
)  # fmt: skip
_TOKEN = re.compile(r"[A-Za-z0-9_-]{40,}(\.[A-Za-z0-9_-]+)*|(?<=#)[A-Za-z0-9_-]{16,}")
"""Tokens are 43 characters and more; our ids are at most 32."""
PUBLIC_FIELDS = frozenset({"head_hash"})
"""Looks like a token and is meant to be read: the anchor of the audit chain."""
_MAX_TEXT = 2_000


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: blank private fields and anything that looks like a token."""
    for key, value in event.items():
        if key not in PUBLIC_FIELDS:
            event[key] = PRIVATE if key.lower() in PRIVATE_FIELDS else _clean(value)
    return event


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _TOKEN.sub(PRIVATE, value[:_MAX_TEXT])
    if isinstance(value, dict):
        return {k: PRIVATE if str(k).lower() in PRIVATE_FIELDS else _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


class BadHttp(logging.Filter):
    """Keeps requests that are not HTTP out of the log: a stranger's flood is answered 400 and counted."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, (HttpProcessingError, RequestPayloadError, ConnectionError)):
            return True
        HTTP_REFUSALS.labels("bad_http").inc()
        return False


def configure_log(*, json: bool, level: int = logging.INFO) -> None:
    """Send our log and that of every library through the same chain to stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Access lines hold paths; ours are counted as metrics instead.
    logging.getLogger("aiohttp.server").addFilter(BadHttp())
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    for noisy in ("engineio", "socketio", "alembic", "aioice", "aiortc"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
