"""The `fourtalk` command (PROTOCOL 1). Results go to stdout, logs to stderr."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from billing import ledger_file, seals
from billing.money import Money
from rooms import receipts
from server import checks, config, log, run, seed
from server.clock import Clock
from server.context import Role
from server.embedded import DataDirBusyError, EmbeddedError
from server.errors import ServerError
from server.features.accounts import registration
from server.http import contract
from server.web import wire

# One a core; more is a slip. Each takes up to 60 database connections.
WORKERS_MAX = 64
# The parts of a check that take longest: who wants all of them asks for JSON.
SLOWEST_SHOWN = 3

Run = Callable[[config.Settings, argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 refused or failed, 2 wrong usage."""
    options = parser().parse_args(arguments)
    try:
        settings = config.from_env(
            data_dir=options.data_dir, port=getattr(options, "port", config.DEFAULT_PORT)
        )
        log.configure(level=settings.log_level)
        command: Run = options.run
        return command(settings, options)
    except (config.ConfigError, DataDirBusyError, EmbeddedError, ServerError) as error:
        print(f"fourtalk: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; `serve --help` lists the variables of the environment."""
    top = argparse.ArgumentParser(prog="fourtalk", description="Live rooms that settle money.")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    serve = _command(commands, "serve", _serve, "migrate, start what is not configured, and serve")
    serve.epilog = "environment:\n" + "\n".join(
        f"  {variable.name:26} {variable.meaning} [{variable.default}]" for variable in config.VARIABLES
    )
    serve.formatter_class = argparse.RawDescriptionHelpFormatter
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=config.DEFAULT_PORT)
    serve.add_argument(
        "--workers",
        type=_count,
        default=1,
        help="processes that share the port; one a core",
    )
    serve.add_argument(
        "--time-travel", action="store_true", help="let POST /api/v1/dev/clock move business time"
    )

    demo = _command(commands, "demo", _demo, "play the main job from nothing, in under a minute")
    demo.add_argument("--json", action="store_true", help="end with one JSON object on the last line")

    user = commands.add_parser("user", help="accounts").add_subparsers(metavar="COMMAND", required=True)
    create = _command(user, "create", _create_user, "make one account")
    create.add_argument("--email", required=True)
    create.add_argument("--password", required=True)
    create.add_argument("--role", choices=[role.value for role in Role], required=True)
    create.add_argument("--approved", action="store_true", help="a tutor who may teach at once")
    mint = _command(user, "mint", _mint_users, "make many accounts; one JSON object with a token a line")
    mint.add_argument("--count", type=int, required=True)
    mint.add_argument("--role", choices=[role.value for role in Role], default=Role.STUDENT.value)
    mint.add_argument("--ttl-s", type=int, default=3600)

    _command(commands, "seed", _seed, "make a demo world; doing it again changes nothing")
    _proofs(commands)
    _command(commands, "migrate", _migrate, "bring the database to head")
    benches = commands.add_parser("bench", help="what the work itself costs").add_subparsers(
        metavar="COMMAND", required=True
    )
    money = _command(benches, "money", _bench_money, "purchases and settlements, on a database of its own")
    money.add_argument("--rounds", type=_count, default=5, help="interleaved with those of the ORM baseline")
    money.add_argument("--purchases", type=int, default=1_000, help="of a round")
    money.add_argument("--json", action="store_true")
    schema = _command(commands, "schema", _schema, "write openapi.json, asyncapi.json and wire.ts")
    schema.add_argument("names", metavar="NAME", nargs="*", help="only these files")
    schema.add_argument("--out", type=Path, default=Path(), help="folder of the files")
    return top


def _proofs(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands that prove something."""
    check = _command(commands, "check", _check, "prove every invariant against the database")
    check.add_argument("--json", action="store_true")
    check.add_argument(
        "--deep", action="store_true", help="compute every seal of the ledger anew, instead of the newest"
    )
    ledger = commands.add_parser("ledger", help="the whole ledger as a file").add_subparsers(
        metavar="COMMAND", required=True
    )
    export = _command(ledger, "export", _export_ledger, "write every journal, seal and balance into a file")
    export.add_argument("file", type=Path)
    judge = _command(ledger, "verify", _verify_ledger, "compute a file's seals and balances anew, offline")
    judge.add_argument("file", type=Path)
    judge.add_argument(
        "--seal", help="the hash of a seal that is known from elsewhere: it must be among them"
    )
    receipt = commands.add_parser("receipt", help="proofs of settlements").add_subparsers(
        metavar="COMMAND", required=True
    )
    verify = _command(
        receipt, "verify", _verify_receipt, "judge a settlement again from its receipt, offline"
    )
    verify.add_argument("file", type=Path)
    verify.add_argument("--key", help="the public key that must have signed it (GET /api/v1/receipts/key)")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, run_: Run, help_: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=help_, description=help_)
    command.add_argument("--data-dir", type=Path, help="folder of the embedded servers and the secret")
    command.set_defaults(run=run_)
    return command


def _serve(settings: config.Settings, options: argparse.Namespace) -> int:
    return run.serve(
        settings,
        host=options.host,
        port=options.port,
        workers=options.workers,
        time_travel=options.time_travel,
    )


def _demo(_: config.Settings, options: argparse.Namespace) -> int:
    from server.demo import play

    return play.play(as_json=options.json)


def _create_user(settings: config.Settings, options: argparse.Namespace) -> int:
    user = run.in_transaction(
        settings,
        lambda session: registration.create_user(
            session,
            email=options.email,
            password=options.password,
            role=Role(options.role),
            approved=options.approved,
            now=Clock().wall(),
        ),
    )
    _print_json({"user_id": user.id, "email": user.email, "role": user.role})
    return 0


def _mint_users(settings: config.Settings, options: argparse.Namespace) -> int:
    minted = run.in_transaction(
        settings,
        lambda session: registration.mint(
            session, count=options.count, role=Role(options.role), ttl_s=options.ttl_s, settings=settings
        ),
    )
    for user in minted:
        _print_json(user)
    return 0


def _seed(settings: config.Settings, _: argparse.Namespace) -> int:
    planted = run.in_database(settings, lambda sessions: seed.plant(sessions, settings))
    print("The demo world was there already." if planted.existed else "The demo world is made.")
    print(f"Log in with the password {planted.password} as one of: {', '.join(planted.accounts)}")
    return 0


def _check(settings: config.Settings, options: argparse.Namespace) -> int:
    proof = run.in_transaction(
        settings, lambda session: checks.prove(session, every_room=True, deep=options.deep)
    )
    if options.json:
        _print_json(proof)
    else:
        for violation in proof.violations:
            print(f"{violation.name}: {violation.detail}")
            for row in violation.rows:
                print(f"  {row}")
        for currency, total in proof.ledger_sum.items():
            print(f"the ledger's sum is {Money(total, currency)}")
        slowest = ", ".join(f"{name} {ms} ms" for name, ms in [*proof.parts_ms.items()][:SLOWEST_SHOWN])
        print(f"{proof.transfers} transfers in {proof.took_ms} ms (longest: {slowest})")
        print("every invariant holds" if proof.ok else f"{len(proof.violations)} invariants are broken")
    return 0 if proof.ok else 1


def _bench_money(_: config.Settings, options: argparse.Namespace) -> int:
    from server import bench

    return bench.money(rounds=options.rounds, purchases=options.purchases, as_json=options.json)


def _verify_receipt(_: config.Settings, options: argparse.Namespace) -> int:
    try:
        proven = receipts.verify(options.file.read_bytes(), pinned=options.key)
    except (receipts.ReceiptError, OSError) as error:
        print(error)
        return 1
    receipt, ruling = proven.receipt, proven.newest
    print(f"hold {receipt.hold_id} is proven: {ruling.cause}, {receipt.currency} in minor units")
    parts = (receipt.amount, ruling.to_tutor, ruling.to_platform, ruling.to_student)
    for name, amount in zip(("amount", "tutor", "platform", "refund"), parts, strict=True):
        print(f"{name} {amount}")
    if not proven.is_pinned:
        print(f"the key is not pinned: the receipt itself says that {proven.key} signed it")
    return 0


def _export_ledger(settings: config.Settings, options: argparse.Namespace) -> int:
    async def write(session: AsyncSession) -> int:
        await session.execute(text("set transaction isolation level repeatable read, read only"))
        lines = 0
        with options.file.open("wb") as file:
            async for line in seals.export(session):
                file.write(line)
                lines += 1
        return lines

    print(f"{run.in_transaction(settings, write)} lines in {options.file}")
    return 0


def _verify_ledger(_: config.Settings, options: argparse.Namespace) -> int:
    try:
        with options.file.open("rb") as file:
            lines = iter(lambda: file.readline(ledger_file.LINE_MOST), b"")
            proven = ledger_file.verify(lines, pin=options.seal)
    except (ledger_file.LedgerFileError, OSError) as error:
        print(error)
        return 1
    print(f"{proven.journals} journals with {proven.transfers} transfers are as they were written")
    for currency, total in proven.sums.items():
        print(f"the sum of {proven.accounts} accounts is {Money(total, currency)}")
    print(f"seal {proven.seals} is {proven.head}" if proven.seals else "nothing is sealed")
    if proven.unsealed:
        print(f"{proven.unsealed} journals are newer than the last seal")
    if proven.pinned is None:
        print("no seal is pinned: the file agrees with itself, and only it says who wrote it")
    else:
        print(f"seal {proven.pinned} is the one that was known")
    return 0


def _migrate(settings: config.Settings, _: argparse.Namespace) -> int:
    with run.database(settings):
        print("the database is at head")
    return 0


def _schema(_: config.Settings, options: argparse.Namespace) -> int:
    files = {**contract.files(), wire.NAME: wire.module()}
    for name, content in files.items():
        if options.names and name not in options.names:
            continue
        (options.out / name).write_bytes(content)
        print(options.out / name)
    return 0


def _count(given: str) -> int:
    if not given.isdecimal() or not 1 <= int(given) <= WORKERS_MAX:
        raise argparse.ArgumentTypeError(f"a number from 1 to {WORKERS_MAX}")
    return int(given)


def _print_json(value: object) -> None:
    print(msgspec.json.encode(value).decode())
