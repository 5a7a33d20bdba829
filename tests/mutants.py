"""A sample of the mutants of the modules that speak with the database, and how many of those that ran were noticed."""

import argparse
import math
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

# The same mutants for everybody who draws as many.
SEED = 20261127
LEAST = 8
# What mutmut notes of a mutant that no test noticed: they passed, or none goes there.
PASSED = (0, 5, 33)
# Of the normal distribution: nineteen times of twenty, the truth lies in the interval.
Z = 1.96


class Noted(msgspec.Struct):
    """What mutmut keeps of the mutants of one module."""

    exit_code_by_key: dict[str, int | None]


def modules() -> dict[str, dict[str, int | None]]:
    """Return the modules that use SQLAlchemy, each with its mutants and what came of them."""
    found = {}
    for source in sorted(Path("billing").glob("*.py")):
        kept = Path("mutants", f"{source}.meta")
        if "\nfrom sqlalchemy" in source.read_text() and kept.exists():
            noted = msgspec.json.decode(kept.read_bytes(), type=Noted).exit_code_by_key
            if noted:
                found[source.stem] = noted
    return found


def draw(size: int) -> list[str]:
    """Return the names of about so many mutants: of each module in proportion, and of the small ones `LEAST`."""
    known = modules()
    of_all = sum(map(len, known.values()))
    rng = random.Random(SEED)
    drawn: list[str] = []
    for noted in known.values():
        share = max(LEAST, round(size * len(noted) / of_all))
        drawn += rng.sample(sorted(noted), min(len(noted), share))
    return drawn


def score(noticed: int, ran: int) -> str:
    """Say which part was noticed, with Wilson's interval."""
    part = noticed / ran
    middle = (part + Z * Z / 2 / ran) / (1 + Z * Z / ran)
    reach = Z * math.sqrt(part * (1 - part) / ran + Z * Z / 4 / ran / ran) / (1 + Z * Z / ran)
    return f"{noticed} of {ran}: {part:.1%} ({middle - reach:.1%} to {middle + reach:.1%})"


def report(names: Iterable[str]) -> None:
    """Print the score of those of these mutants that ran, by module and in all, and who was not noticed."""
    ran, noticed = Counter[str](), Counter[str]()
    wanted = set(names)
    for module, noted in modules().items():
        for name, code in sorted(noted.items()):
            if name in wanted and code is not None:
                ran[module] += 1
                if code in PASSED:
                    print(f"{name} was not noticed")
                else:
                    noticed[module] += 1
    for module in sorted(ran):
        print(f"{module:20} {noticed[module]:4} of {ran[module]}")
    if ran:
        print(score(noticed.total(), ran.total()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", type=int, help="how many mutants to draw")
    parser.add_argument("--score", action="store_true", help="say what came of them, instead of their names")
    args = parser.parse_args()
    names = draw(args.size)
    if args.score:
        report(names)
    else:
        print(*names, sep="\n")


if __name__ == "__main__":
    main()
