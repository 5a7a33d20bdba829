"""Tables of money, and the words for what they hold.

Invalid states cannot be stored: each rule below is a constraint, or a trigger of the migrations (append-only tables,
the one writer of the ledger, the life of a hold).
"""

from billing.models.base import (
    NAMING_CONVENTION,
    PLATFORM,
    REASON_LEAST,
    Base,
    HoldId,
    Outbox,
    OwnerId,
    one_of,
)
from billing.models.holds import (
    Cause,
    Due,
    FactsRow,
    Hold,
    HoldStatus,
    PresenceRow,
    Review,
    Settlement,
    SourceKind,
)
from billing.models.jobs import JobRow
from billing.models.ledger import FLOORLESS, Account, AccountKind, Journal, JournalKind, Request, Transfer
from billing.models.papers import Paper, PaperCount, PaperKind
from billing.models.payouts import (
    ATTEMPT_ARROWS,
    NOTE_MOST,
    WITHDRAWAL_ARROWS,
    AttemptStatus,
    Maturing,
    PayoutAccount,
    PayoutAttempt,
    PayoutMethod,
    Withdrawal,
    WithdrawalStatus,
)
from billing.models.seals import Reversal, Seal
from billing.models.stripe import (
    FindingOutcome,
    StripeCustomer,
    StripeEntry,
    StripeEvent,
    StripeFinding,
    TopUp,
    TopUpStatus,
    TopUpWay,
)
from billing.models.terms import PolicyRow

__all__ = [
    "ATTEMPT_ARROWS",
    "FLOORLESS",
    "NAMING_CONVENTION",
    "NOTE_MOST",
    "PLATFORM",
    "REASON_LEAST",
    "WITHDRAWAL_ARROWS",
    "Account",
    "AccountKind",
    "AttemptStatus",
    "Base",
    "Cause",
    "Due",
    "FactsRow",
    "FindingOutcome",
    "Hold",
    "HoldId",
    "HoldStatus",
    "JobRow",
    "Journal",
    "JournalKind",
    "Maturing",
    "Outbox",
    "OwnerId",
    "Paper",
    "PaperCount",
    "PaperKind",
    "PayoutAccount",
    "PayoutAttempt",
    "PayoutMethod",
    "PolicyRow",
    "PresenceRow",
    "Request",
    "Reversal",
    "Review",
    "Seal",
    "Settlement",
    "SourceKind",
    "StripeCustomer",
    "StripeEntry",
    "StripeEvent",
    "StripeFinding",
    "TopUp",
    "TopUpStatus",
    "TopUpWay",
    "Transfer",
    "Withdrawal",
    "WithdrawalStatus",
    "one_of",
]
