"""Turn the JSON files of run.py into Markdown for the README, and into a chart.

    uv run python load-tests/report.py small.json big.json … [--chart load-tests/chart.svg]

Prints one table of what a delivered message costs, a row for each server in each work that was measured, and then the
table of every other file as it is. The chart has the same figures as bars.
"""

import argparse
import json  # noqa: TID251 - no package but the standard library
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

OURS = "fourtalk"
# A peer that needs more than so many times ours would make every other bar a stroke: its bar is cut, and says so.
CUT_AT = 8.0

WIDTH, NAMES, FIGURES, BAR, GAP, TITLE = 1000, 440, 130, 16, 6, 40
OWN_COLOUR, PEER_COLOUR, INK, PAPER = "#2f6fde", "#9aa7b8", "#1f2933", "#ffffff"
FONT = "Helvetica, Arial, DejaVu Sans, sans-serif"


class Cost(NamedTuple):
    """What a server needs for a delivered message in one kind of work."""

    work: str
    server: str
    own_us: float
    ratio: float | None
    figures: dict[str, Any]


def main() -> int:
    """Print the tables and write the chart."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--chart", type=Path, help="write the chart (SVG) to this file")
    options = parser.parse_args()
    reports = [json.loads(file.read_text()) for file in options.files]
    costs = [cost for report in reports for cost in _costs(report)]
    if costs:
        print(_cost_table(costs))
    for report in reports:
        if "loads" not in report:
            print(f"\n**{report['title']}**\n")
            print(_table(report["columns"], report["rows"]))
    if options.chart is not None:
        if not costs:
            raise SystemExit("none of these files says what a delivered message costs")
        options.chart.write_text(_chart(costs))
    return 1 if any(report["failures"] for report in reports) else 0


def _costs(report: dict[str, Any]) -> list[Cost]:
    return [
        Cost(f"{report['title']}, {load['load']}", name, figures["own_us"], figures["ratio"], figures)
        for load in report.get("loads", [])
        for name, figures in load["servers"].items()
    ]


def _cost_table(costs: Sequence[Cost]) -> str:
    rows = [
        [
            cost.work,
            f"**{cost.server}**" if cost.ratio is None else cost.server,
            f"{cost.own_us:.1f}",
            "1" if cost.ratio is None else f"{cost.ratio:.2f}",
            f"{cost.figures['deliveries_per_s']:,.0f}",
            " / ".join(_ms(cost.figures[f"p{percent}_ms"]) for percent in (50, 95, 99)),
            str(cost.figures["lost"]),
        ]
        for cost in costs
    ]
    columns = [
        "work",
        "server",
        "CPU us / delivery",
        f"x {OURS}",
        "deliveries/s",
        "p50 / p95 / p99 ms",
        "lost",
    ]
    return _table(columns, rows)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _chart(costs: Sequence[Cost]) -> str:
    """Return the bars: a block for each kind of work, each with its own scale."""
    works = list(dict.fromkeys(cost.work for cost in costs))
    parts: list[str] = []
    y = 34
    for work in works:
        of = sorted((cost for cost in costs if cost.work == work), key=lambda cost: cost.own_us)
        ours = next((cost.own_us for cost in of if cost.server == OURS), of[0].own_us)
        longest = min(of[-1].own_us, CUT_AT * ours)
        y += TITLE
        parts.append(f'<text x="16" y="{y - 10}" font-weight="600">{escape(work)}</text>')
        for cost in of:
            parts += _bar(cost, y, longest)
            y += BAR + GAP
    head = "Server CPU per delivered message, microseconds (less is better)"
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 16}" role="img" '
                f'aria-label="{head}" font-family="{FONT}" font-size="12" fill="{INK}">'
            ),
            f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>',
            f'<text x="16" y="28" font-size="15" font-weight="600">{head}</text>',
            *parts,
            "</svg>\n",
        ]
    )


def _bar(cost: Cost, y: int, longest: float) -> list[str]:
    room = WIDTH - NAMES - FIGURES
    is_cut = cost.own_us > longest
    width = room if is_cut else max(2.0, room * cost.own_us / longest)
    colour = OWN_COLOUR if cost.server == OURS else PEER_COLOUR
    ratio = "" if cost.ratio is None else f" ({cost.ratio:.1f} x)"
    base = y + BAR - 4
    parts = [
        f'<text x="{NAMES - 8}" y="{base}" text-anchor="end">{escape(cost.server)}</text>',
        f'<rect x="{NAMES}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<text x="{NAMES + width + 8:.1f}" y="{base}">{cost.own_us:.1f}{ratio}</text>',
    ]
    if is_cut:
        # A white stroke through the bar: it goes on for longer than there is room.
        x = NAMES + width - 24
        parts.append(f'<path d="M{x} {y + BAR + 2} l8 -{BAR + 4} h6 l-8 {BAR + 4} z" fill="{PAPER}"/>')
    return parts


if __name__ == "__main__":
    sys.exit(main())
