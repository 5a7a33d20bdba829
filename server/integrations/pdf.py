"""Papers as PDF files; the only importer of fpdf2. The same sheet gives the same bytes."""

from bisect import bisect_right
from collections.abc import Sequence
from importlib import resources

from fpdf import FPDF

from server.integrations.sheet import Sheet

# A4, in mm and points.
_MARGIN = 18
_TEXT, _SMALL, _TITLE = 9, 8, 17
_LINE_HEIGHT = 5.5
_LABEL_WIDTH = 45
_GREY = (110, 110, 110)
_FONT = "Be Vietnam Pro"
# Knows the letters of Vietnamese; of the rest of Unicode a PDF shows empty boxes.
_FONTS = "fontpkg_be_vietnam_pro"
_FILES = {"": "BeVietnamPro-Regular.ttf", "B": "BeVietnamPro-Bold.ttf"}


class _Paper(FPDF):
    """Pages with their number at the foot, and the heading of the table on each."""

    def __init__(self, sheet: Sheet) -> None:
        super().__init__(format="A4")
        self._sheet = sheet
        self._in_table = False

    def header(self) -> None:
        """Repeat the heading of the table on its further pages."""
        if self._in_table:
            self.write_heading()

    def footer(self) -> None:
        """Write who issued it, and which page it is."""
        self.set_y(-14)
        self.set_font(_FONT, size=_SMALL)
        self.set_text_color(*_GREY)
        self.cell(0, 5, f"{self._sheet.issuer} · {self.page_no()}/{{nb}}", align="C")
        self.set_text_color(0)

    def write_table(self) -> None:
        """Write the rows; a long cell is cut."""
        self.write_heading()
        self._in_table = True
        self.set_font(_FONT, size=_SMALL)
        for row in self._sheet.rows:
            self.write_row(row)
        self._in_table = False

    def write_heading(self) -> None:
        """Write the names of the columns."""
        self.set_font(_FONT, "B", _SMALL)
        self.write_row(self._sheet.heading)
        self.set_font(_FONT, size=_SMALL)

    def write_row(self, row: Sequence[str]) -> None:
        """Write one line of the table."""
        texts = len(row) - self._sheet.numbers
        for place, (cell, width) in enumerate(zip(row, self._sheet.widths, strict=True)):
            self.cell(
                width, _LINE_HEIGHT, self._cut(cell, width), border="B", align="L" if place < texts else "R"
            )
        self.ln()

    def _cut(self, text: str, width: int) -> str:
        room = width - 2 * self.c_margin
        if self.get_string_width(text) <= room:
            return text
        fits = bisect_right(
            range(1, len(text)), room, key=lambda length: self.get_string_width(f"{text[:length]}…")
        )
        return f"{text[:fits]}…"


def render(sheet: Sheet) -> bytes:
    """Return the file. Costs some 100 ms of a processor, most of it for reading the font: not for the loop."""
    paper = _Paper(sheet)
    paper.set_creation_date(sheet.issued_at)
    paper.set_title(sheet.title)
    paper.set_author(sheet.issuer)
    paper.set_lang(sheet.language)
    paper.set_margin(_MARGIN)
    paper.set_auto_page_break(auto=True, margin=_MARGIN)
    fonts = resources.files(_FONTS) / "files"
    for style, name in _FILES.items():
        with resources.as_file(fonts / name) as file:
            paper.add_font(_FONT, style, file)
    paper.add_page()
    paper.set_font(_FONT, "B", _TITLE)
    paper.cell(0, 10, sheet.title, new_x="LMARGIN", new_y="NEXT")
    paper.ln(2)
    for label, value in sheet.facts:
        paper.set_font(_FONT, size=_TEXT)
        paper.set_text_color(*_GREY)
        paper.cell(_LABEL_WIDTH, _LINE_HEIGHT, label)
        paper.set_text_color(0)
        paper.multi_cell(0, _LINE_HEIGHT, value, align="L", new_x="LMARGIN", new_y="NEXT")
    if sheet.rows:
        paper.ln(4)
        paper.write_table()
    for note in sheet.notes:
        paper.ln(3)
        paper.set_font(_FONT, size=_TEXT)
        paper.multi_cell(0, _LINE_HEIGHT, note, align="L", new_x="LMARGIN", new_y="NEXT")
    return bytes(paper.output())
