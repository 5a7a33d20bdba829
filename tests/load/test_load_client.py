"""The load client against a real server: what it says it counted is what was sent."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]

RUN = Path(__file__).parents[2] / "load-tests" / "run.py"


def test_a_small_load_is_delivered_exactly_once_and_reported(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    # Two workers of the suite share the machine: nothing is pinned to a core of its own.
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    sizes = ["--rooms", "5", "--seconds", "1", "--warmup", "0.2", "--rounds", "1"]

    done = subprocess.run(
        [sys.executable, RUN, "small_rooms", *sizes, "--server-cores", cores, "--json", report],
        capture_output=True,
        text=True,
        check=False,
        timeout=220,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    figures = msgspec.json.decode(report.read_bytes())["loads"][0]["servers"]["fourtalk"]
    assert figures["lost"] == figures["doubled"] == 0
    assert figures["rounds"][0]["delivered"] > 0
    assert figures["own_us"] > 0
