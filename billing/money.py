"""Amounts of money and the two divisions that lose no cent. Pure, integers only."""

import msgspec

BPS_WHOLE = 10_000

# ISO 4217: how many digits of the minor unit stand behind the point. A currency that is missing here is refused.
EXPONENTS = {"USD": 2, "EUR": 2, "VND": 0}


class Money(msgspec.Struct, frozen=True):
    """An amount in minor units of one currency; negative where it leaves somebody."""

    amount: int
    currency: str = "USD"

    def __str__(self) -> str:
        """Write the amount for people: `12.50 USD`, `-0.05 USD`, `20000 VND`."""
        exponent = EXPONENTS[self.currency]
        sign = "-" if self.amount < 0 else ""
        major, minor = divmod(abs(self.amount), 10**exponent)
        digits = f"{major}.{minor:0{exponent}}" if exponent else str(major)
        return f"{sign}{digits} {self.currency}"


def split(amount: int, bps: int) -> tuple[int, int]:
    """Divide an amount between tutor and platform.

    The tutor gets `bps` ten-thousandths, cut to a whole minor unit, and the platform the rest
    (DESIGN §4 Cents: 3,333 at 3,000 bps → 999 + 2,334).
    """
    assert amount >= 0, "only what is there can be divided"
    assert 0 <= bps <= BPS_WHOLE, "a share lies between nothing and the whole"
    tutor = amount * bps // BPS_WHOLE
    return tutor, amount - tutor


def slices(amount: int, n: int) -> list[int]:
    """Cut a course price into `n` equal slices; remainder cents go to the last ones (1,000 by 3 → 333, 333, 334)."""
    assert n >= 1, "a course has at least one session"
    each, remainder = divmod(amount, n)
    return [each] * (n - remainder) + [each + 1] * remainder
