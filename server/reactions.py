"""TABLE: committed event → what follows. One file shows all of it; each reaction may run twice.

The order of the features is the order of their reactions to the same event: first what changes, then who is told.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from server.features.bookings.reactions import REACTIONS as BOOKINGS
from server.features.courses.reactions import REACTIONS as COURSES, TOGETHER as COURSES_TOGETHER
from server.features.disputes.reactions import REACTIONS as DISPUTES
from server.features.earnings.reactions import REACTIONS as EARNINGS
from server.features.lessons.reactions import REACTIONS as LESSONS
from server.features.notifications.reactions import REACTIONS as NOTIFICATIONS
from server.features.packages.reactions import REACTIONS as PACKAGES
from server.features.referrals.reactions import REACTIONS as REFERRALS
from server.features.talks.reactions import REACTIONS as TALKS, TOGETHER as TALKS_TOGETHER
from server.features.top_ups.reactions import REACTIONS as TOP_UPS
from server.features.tutors.reactions import REACTIONS as TUTORS
from server.features.wallet.reactions import REACTIONS as WALLET, TOGETHER as WALLET_TOGETHER
from server.reaction import Reaction, Together

FEATURES = (
    TALKS,
    COURSES,
    BOOKINGS,
    LESSONS,
    WALLET,
    DISPUTES,
    EARNINGS,
    TOP_UPS,
    PACKAGES,
    REFERRALS,
    TUTORS,
    NOTIFICATIONS,
)

R = TypeVar("R")


def joined(
    features: Sequence[Mapping[type[msgspec.Struct], Sequence[R]]],
) -> dict[type[msgspec.Struct], tuple[R, ...]]:
    """Return one table of several, in their order."""
    table: dict[type[msgspec.Struct], tuple[R, ...]] = {}
    for feature in features:
        for event, reactions in feature.items():
            table[event] = (*table.get(event, ()), *reactions)
    return table


TABLE: Mapping[type[msgspec.Struct], Sequence[Reaction]] = joined(FEATURES)

TOGETHER: Mapping[type[msgspec.Struct], Sequence[Together]] = joined(
    (TALKS_TOGETHER, COURSES_TOGETHER, WALLET_TOGETHER)
)
"""What comes before all of that, once for many events of a type."""
