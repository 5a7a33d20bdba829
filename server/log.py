"""structlog: one JSON object a line on stderr, or colours where a person watches."""

import logging
import sys
from typing import Any

import msgspec
import structlog


def configure(*, level: str = "info", colours: bool | None = None) -> None:
    """Set up logging once per process; results go to stdout, logs to stderr (PROTOCOL 1)."""
    colours = sys.stderr.isatty() if colours is None else colours
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if colours
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    # Libraries that use the standard library's logging speak only when something is wrong.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(name)s: %(message)s")
    # uvicorn warns of each request that is none: whoever sends thousands would fill the disk. They are counted.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def _json(event: dict[str, Any], **_: object) -> str:
    """Return one object; what JSON has no word for stands as Python shows it."""
    return msgspec.json.encode(event, enc_hook=repr).decode()
