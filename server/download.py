"""Answers that are files: the HTTP door gives them as they are, to be kept under a name."""

from typing import ClassVar

import msgspec


class Download(msgspec.Struct, frozen=True):
    """A file. Who it is for has just shown a token, so nothing on the way may keep it."""

    type: ClassVar[str]

    name: str
    """Of ASCII letters, digits, dots and dashes: ours, never anybody's words."""
    content: bytes

    @property
    def headers(self) -> dict[str, str]:
        """Return what the answer says of it."""
        return {
            "Content-Disposition": f'attachment; filename="{self.name}"',
            "Cache-Control": "private, no-store",
        }


class Csv(Download, frozen=True):
    """A table of `server/spreadsheet.py`."""

    type = "text/csv"


class Pdf(Download, frozen=True):
    """A paper."""

    type = "application/pdf"
