"""The front door of the load tests: `uv run python load-tests/run.py SCENARIO [options]`. See README.md."""

import argparse
import importlib
import json  # noqa: TID251 - no package but the standard library
import signal
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import peers
import processes
from bench import Result, Stage
from engine import Engine

SCENARIOS = [
    "small_rooms",
    "big_room",
    "hot_rooms",
    "echo",
    "durable",
    "idle",
    "churn",
    "reconnect_storm",
    "slow_readers",
    "webhook_storm",
    "settlement",
    "last_seat",
    "two_nodes",
    "drain",
]


def main() -> int:
    """Run one scenario, or all of them small; exit 1 if anything was found that must not be."""
    # A polite kill ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = _parser()
    options = parser.parse_args()
    if options.scenario != "all":
        return _run(options, options.module)
    failed = []
    for name in SCENARIOS:
        small = parser.parse_args([name, *_module(name).SMALL])
        for option in ("server_cores", "client_core", "stores_core", "workers"):
            setattr(small, option, getattr(options, option))
        if _run(small, small.module):
            failed.append(name)
    print(f"\n{len(SCENARIOS) - len(failed)} of {len(SCENARIOS)} scenarios passed", *failed)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--server-cores", type=_cores, default=[0], help="cores of the server (default 0)")
    common.add_argument(
        "--client-core", type=int, default=1, help="core of this client, at best its own (default 1)"
    )
    common.add_argument(
        "--stores-core",
        type=int,
        default=1,
        help="core of PostgreSQL and Valkey (default 1, with the client)",
    )
    common.add_argument("--workers", type=int, help="processes of the server (`fourtalk serve --workers`)")
    parser = argparse.ArgumentParser(description=__doc__)
    scenarios = parser.add_subparsers(dest="scenario", metavar="SCENARIO", required=True)
    for name in SCENARIOS:
        module = _module(name)
        help_ = str(module.__doc__).splitlines()[0]
        scenario = scenarios.add_parser(name, help=help_, description=module.__doc__, parents=[common])
        scenario.add_argument("--json", type=Path, help="write the result to this file too")
        module.arguments(scenario)
        scenario.set_defaults(module=module)
    scenarios.add_parser("all", help="every scenario, small: does each still work?", parents=[common])
    return parser


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"scenarios.{name}")


def _run(options: argparse.Namespace, module: ModuleType) -> int:
    for peer in getattr(options, "compare", []):
        if peer not in peers.names():
            raise SystemExit(f"there is no peer {peer}; there are: {', '.join(peers.names())}")
    engine = Engine()
    with tempfile.TemporaryDirectory(prefix="load-") as folder, processes.pinned(options.client_core):
        try:
            result: Result = module.run(Stage(options, Path(folder), engine))
        finally:
            engine.close()
    _print(result)
    if options.json is not None:
        options.json.write_text(json.dumps(_data(options, result), indent=1, default=str) + "\n")
    return 1 if result.failures else 0


def _print(result: Result) -> None:
    print(f"\n## {result.title}\n")
    widths = [max(map(len, column)) for column in zip(result.columns, *result.rows, strict=True)]
    for row in (result.columns, ["-" * width for width in widths], *result.rows):
        print(f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |")
    print()
    for note in result.notes:
        print(note)
    for failure in result.failures:
        print(f"! {failure}")


def _data(options: argparse.Namespace, result: Result) -> dict[str, Any]:
    return {
        "scenario": options.scenario,
        "title": result.title,
        "options": {name: value for name, value in vars(options).items() if name not in {"json", "module"}},
        "columns": result.columns,
        "rows": result.rows,
        "notes": result.notes,
        "failures": result.failures,
        **result.data,
    }


def _cores(text: str) -> list[int]:
    return [int(core) for core in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
