"""A lesson with many paid students ends: how many holds are settled a second, and is each settled once?

The tutor and everybody sit there from before the start; business time then moves to the end, and on to the moment at
which the room is finished. That last step is measured: it returns when everything due has run.
"""

import argparse
import json  # noqa: TID251 - no package but the standard library
import time
from datetime import timedelta

import product
from bench import EVENTS, Result, Stage, number

SMALL = ["--students", "10"]
# A lesson whose tutor does not end it is over 5 minutes after its end, and stays open for late evidence for 90 s.
OVER = timedelta(minutes=5, seconds=90)
MARGIN = timedelta(seconds=30)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add this scenario's options."""
    # Each buys with three calls first: some 20 s for 200 on a quiet core, and minutes for 500 on a busy one.
    parser.add_argument("--students", type=int, default=200, help="who paid (default 200)")


def run(stage: Stage) -> Result:
    """Measure it."""
    with product.running(stage, flags=["--time-travel"]) as ours:
        stage.say(f"{stage.options.students} students buy their lesson and take their seats")
        tutor, admin = ours.create("tutor"), ours.create("admin")
        students = ours.mint(stage.options.students)
        lesson = ours.lessons(admin, [[tutor, *students]])[0]
        group = stage.engine.group(EVENTS["room.send"])
        product.fill(stage, ours, group, {lesson.room_id: [tutor, *students]}, "room.send")
        stage.say("the lesson takes place")
        ours.set_clock(lesson.ends_at + OVER - MARGIN)
        held = int(
            ours.sql("select count(*) from hold where id not in (select hold_id from hold_settlement)")
        )
        stage.say("and is settled")
        usage, began = ours.server.usage(), time.monotonic()
        ours.set_clock(lesson.ends_at + OVER + MARGIN)
        seconds = time.monotonic() - began
        cpu = ours.server.usage().since(usage)
        stage.say("the books are checked")
        settled = json.loads(
            ours.sql("select json_build_array(count(*), count(distinct hold_id)) from hold_settlement")
        )
        causes = ours.sql(
            "select coalesce(json_object_agg(cause, n), '{}') from (select cause, count(*) n from hold_settlement group by 1) x"
        )
        proof = json.loads(ours.command("check", "--json"))
    failures = [str(violation) for violation in proof["violations"]]
    if held != len(students) or settled != [len(students), len(students)]:
        failures.append(f"{held} were held, {settled[0]} settlements were made, of {settled[1]} holds")
    data = {
        "students": len(students),
        "settled": settled[1],
        "seconds": seconds,
        "per_s": settled[1] / seconds,
        "own_us": cpu.own * 1e6 / len(students),
        "with_stores_us": (cpu.own + cpu.stores) * 1e6 / len(students),
        "causes": json.loads(causes),
        "ledger_sum": proof["ledger_sum"],
    }
    row = [
        str(len(students)),
        str(settled[1]),
        str(settled[0] - settled[1]),
        number(seconds),
        f"{data['per_s']:,.0f}",
        number(data["own_us"], 0),
        number(data["with_stores_us"], 0),
        causes,
    ]
    columns = ["held", "settled", "twice", "seconds", "holds/s", "CPU us / hold", "with stores us", "causes"]
    return Result("a full lesson is settled", columns, [row], data, (), failures)
