"""The README's first command: the main job from nothing."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

# The demo has its own limit; the test's must not come before it.
pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]


def test_demo_plays_the_main_job_and_every_claim_holds(
    root: Path, record_property: Callable[[str, object], None], *, full: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "server", "demo", "--json"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    report = msgspec.json.decode(done.stdout.splitlines()[-1])
    assert report["ok"] is True
    record_property("figures", f"{report['took_s']} s")
    # PROTOCOL 1 promises it to people, not to a machine that runs other tests beside it.
    assert report["took_s"] < 60 or not full
    money = [(row["tutor"], row["platform"], row["refunded"]) for row in report["attendance_and_money"]]
    assert money == [(3000, 7000, 0), (7000, 3000, 0), (0, 0, 10000)]
    # LiveKit's clock shows whole seconds, and a busy machine needs some of them between two steps.
    attended = [row["attended_s"] for row in report["attendance_and_money"]]
    assert all(0 <= seen - true <= 5 for seen, true in zip(attended, [4800, 4800, 900], strict=True))
    assert len(report["claims"]) >= 11
