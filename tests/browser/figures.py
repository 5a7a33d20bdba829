"""What the long form measures: one row per figure, shown as a table and kept as JSON."""

import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One thing that was measured."""

    what: str
    unit: str
    values: tuple[float, ...]
    """In the order in which they were measured."""

    @property
    def median(self) -> float:
        """Return the middle of the values."""
        return statistics.median(self.values)

    @property
    def p95(self) -> float:
        """Return the smallest value that 95 % do not exceed."""
        return sorted(self.values)[math.ceil(0.95 * len(self.values)) - 1]


class Figures:
    """Collects rows."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, what: str, unit: str, values: Sequence[float]) -> Row:
        """Note what was measured."""
        row = Row(what, unit, tuple(round(value, 3) for value in values))
        self.rows.append(row)
        return row

    def table(self) -> str:
        """Return the rows as people read them."""
        lines: list[tuple[str, ...]] = [("", "rounds", "median", "p95", "least", "most", "")]
        for row in self.rows:
            numbers = (row.median, row.p95, min(row.values), max(row.values))
            lines.append(
                (
                    row.what,
                    str(len(row.values)),
                    *(f"{n:,.0f}" if n >= 1_000 else f"{n:.4g}" for n in numbers),
                    row.unit,
                )
            )
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                [line[0].ljust(widths[0])]
                + [cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:-1], strict=True)]
                + [line[-1]]
            )
            for line in lines
        )

    def write(self, path: Path, *, browser: str) -> None:
        """Keep the rows, with what they were measured on."""
        load, _, _ = os.getloadavg()
        rows = [
            {"what": row.what, "unit": row.unit, "median": row.median, "p95": row.p95, "values": row.values}
            for row in self.rows
        ]
        found = {"browser": browser, "cores": os.cpu_count(), "load_at_the_end": round(load, 2), "rows": rows}
        path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return by how much the second of each pair grows for one more of the first (least squares)."""
    return statistics.linear_regression(*zip(*points, strict=True)).slope
