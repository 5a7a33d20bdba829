"""What stands on a paper, without the library that draws it."""

from datetime import datetime

import msgspec


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """What stands on a paper."""

    language: str
    issuer: str
    title: str
    facts: tuple[tuple[str, str], ...]
    """What, and what of it."""
    heading: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    widths: tuple[int, ...] = ()
    """Of the columns, in mm; 174 in all. The last ones that `numbers` counts are amounts and stand on the right."""
    numbers: int = 0
    notes: tuple[str, ...] = ()
    issued_at: datetime
