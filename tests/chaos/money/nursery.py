"""Lets lives begin: one process that has imported everything forks one for each plan that it reads.

Plans come as lines of JSON with a number before them; each is answered by its number and how its process ended.
"""

import os
import select
import signal
import sys
import traceback

import msgspec

from billing import crashpoints
from server import embedded
from tests.chaos.money import lives
from tests.chaos.money.life import Plan


def main() -> None:
    """Go on until there is nobody who would read the answers."""
    embedded.die_with_parent(signal.SIGKILL)
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(tell)
    numbers: dict[int, bytes] = {}
    # Without a buffer: a second plan in it would not wake us.
    plans = open(sys.stdin.fileno(), "rb", buffering=0)  # noqa: PTH123, SIM115 - for as long as we live
    while True:
        ready, _, _ = select.select([plans.fileno(), told], [], [])
        if told in ready:
            os.read(told, 1024)
            _answer(numbers)
        if plans.fileno() in ready:
            line = plans.readline()
            if not line:
                return
            number, _, plan = line.partition(b" ")
            _take(number, msgspec.json.decode(plan, type=Plan), numbers)


def _take(number: bytes, plan: Plan, numbers: dict[int, bytes]) -> None:
    if plan.counts is None:
        numbers[_begin(plan)] = number
    else:
        # A life in peace is lived here: what it teaches this process, the children need not learn.
        lives.live(plan)
        crashpoints.arm(None)
        _tell(number, lives.DONE)


def _tell(number: bytes, code: int) -> None:
    sys.stdout.buffer.write(number + f" {code}\n".encode())
    sys.stdout.buffer.flush()


def _answer(numbers: dict[int, bytes]) -> None:
    while numbers:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _tell(numbers.pop(pid), os.waitstatus_to_exitcode(status))


def _begin(plan: Plan) -> int:
    pid = os.fork()
    if pid:
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = lives.FAILED
    try:
        embedded.die_with_parent(signal.SIGKILL)
        lives.live(plan)
        code = lives.DONE
    except SystemExit as end:
        code = int(str(end.code))
    except BaseException:  # noqa: BLE001 - told, and it is the end of the process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
