"""QR codes of share links."""

import io
from functools import lru_cache

import segno

# Drawing takes 10 ms of the loop, trying every mask as the standard asks; one that is kept takes 2 KB.
KEPT = 4_096


@lru_cache(KEPT)
def svg(text: str) -> str:
    """Draw a text as a QR code: one SVG element that stands alone or inside a page."""
    drawn = io.BytesIO()
    # Level M survives a crumpled print; four pixels a module can be scanned from a screen at arm's length.
    segno.make(text, error="m", micro=False).save(drawn, kind="svg", scale=4, xmldecl=False, nl=False)
    return drawn.getvalue().decode()
