"""Domain events of money, recorded in the outbox with the movement they tell of."""

from datetime import datetime
from uuid import UUID

import msgspec

from billing.models import (
    CardDisputeStatus,
    Cause,
    DisputeReason,
    DisputeStatus,
    HoldId,
    OwnerId,
    PaymentReason,
    SourceKind,
    TopUpStatus,
)
from billing.money import Money


class HoldEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What each event of a hold says: which hold, whose, for what."""

    hold_id: HoldId
    student_id: OwnerId
    tutor_id: OwnerId
    lesson_id: UUID | None
    source_kind: SourceKind
    source_id: UUID
    amount: Money


class HoldPlaced(HoldEvent, frozen=True, kw_only=True, tag="hold.placed"):
    """Money was set aside."""


class HoldReleased(HoldEvent, frozen=True, kw_only=True, tag="hold.released"):
    """Money was paid out by the split."""

    tutor_share: Money
    platform_share: Money
    cause: Cause


class HoldRefunded(HoldEvent, frozen=True, kw_only=True, tag="hold.refunded"):
    """Money was given back."""

    cause: Cause
    reason: str | None = None


class HoldAdjusted(HoldEvent, frozen=True, kw_only=True, tag="hold.adjusted"):
    """Late evidence changed where the money of a settled hold is; the three parts are the new ones."""

    tutor_share: Money
    platform_share: Money
    refunded: Money


class HoldGivenBack(HoldEvent, frozen=True, kw_only=True, tag="hold.given_back"):
    """Money of a released hold went back to its student."""

    given: Money
    from_tutor: Money
    """Of it, what was the tutor's."""
    owed: Money
    """Of the tutor's part, what they had been paid out: it comes off their next earnings."""
    rest: Money
    """What can still be given back."""
    cause: Cause
    reason: str


class DisputeEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What each event of a dispute says."""

    dispute_id: UUID
    hold_id: HoldId
    student_id: OwnerId
    tutor_id: OwnerId
    reason: DisputeReason


class DisputeOpened(DisputeEvent, frozen=True, kw_only=True, tag="dispute.opened"):
    """A student does not agree with a settlement, or we do not."""

    frozen: Money
    """Of the tutor's share."""


class DisputeResolved(DisputeEvent, frozen=True, kw_only=True, tag="dispute.resolved"):
    """It is decided."""

    status: DisputeStatus
    refunded: Money
    notes: str


class CardDisputeChanged(msgspec.Struct, frozen=True, kw_only=True, tag="card_dispute.changed"):
    """A payer's bank asks for a payment back, takes it, or is done with it."""

    card_dispute_id: UUID
    owner_id: OwnerId
    amount: Money
    status: CardDisputeStatus
    dispute: str
    """Stripe's id: that is where evidence is given."""


class GoodwillGiven(msgspec.Struct, frozen=True, kw_only=True, tag="goodwill.given"):
    """We gave somebody credit."""

    owner_id: OwnerId
    amount: Money
    why: str
    """Code of the reason."""


class WalletChanged(msgspec.Struct, frozen=True, tag="wallet.changed"):
    """A balance of somebody changed: wallet, held, or earnings."""

    owner_id: OwnerId
    currency: str


class TopUpEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What each event of a top-up says."""

    top_up_id: UUID
    owner_id: OwnerId
    amount: Money


class TopUpSucceeded(TopUpEvent, frozen=True, kw_only=True, tag="top_up.succeeded"):
    """The money is in the wallet."""


class TopUpFailed(TopUpEvent, frozen=True, kw_only=True, tag="top_up.failed"):
    """It did not come, and will not: declined, or nobody paid in time."""

    status: TopUpStatus
    reason: str | None


class WithdrawalEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What each event of a withdrawal says."""

    withdrawal_id: UUID
    tutor_id: OwnerId
    amount: Money


class WithdrawalRequested(WithdrawalEvent, frozen=True, kw_only=True, tag="withdrawal.requested"):
    """A tutor wants their earnings; the money is reserved."""


class WithdrawalApproved(WithdrawalEvent, frozen=True, kw_only=True, tag="withdrawal.approved"):
    """It will be paid out."""


class WithdrawalCompleted(WithdrawalEvent, frozen=True, kw_only=True, tag="withdrawal.completed"):
    """The money has left."""

    reference: str


class WithdrawalRejected(WithdrawalEvent, frozen=True, kw_only=True, tag="withdrawal.rejected"):
    """The money is back in the earnings."""

    answer: str


class PayoutFailed(WithdrawalEvent, frozen=True, kw_only=True, tag="payout.failed"):
    """Stripe could not pay; the money stays reserved until an administrator tries again or gives it back."""

    failure: str


class PayoutAccountChanged(msgspec.Struct, frozen=True, kw_only=True, tag="payout_account.changed"):
    """A tutor's money goes somewhere else from now on."""

    tutor_id: OwnerId
    usable_from: datetime


class PaymentMoved(msgspec.Struct, frozen=True, kw_only=True):
    """What each event of a booking's payment says."""

    payment_id: UUID
    """The booking's."""
    lesson_id: UUID
    student_id: OwnerId
    tutor_id: OwnerId
    amount: Money
    """The whole price."""
    reason: PaymentReason


class PaymentAuthorized(PaymentMoved, frozen=True, kw_only=True, tag="payment.authorized"):
    """The tutor agreed, and the money is there."""


class PaymentCaptured(PaymentMoved, frozen=True, kw_only=True, tag="payment.captured"):
    """It was paid out by the split."""


class PaymentVoided(PaymentMoved, frozen=True, kw_only=True, tag="payment.voided"):
    """It was let go; whatever was held is back."""


class PaymentRefunded(PaymentMoved, frozen=True, kw_only=True, tag="payment.refunded"):
    """Some of what was captured went back to the student."""

    refunded: Money
    """This time."""
    to_card: bool


class AuthorizationNeeded(PaymentMoved, frozen=True, kw_only=True, tag="payment.authorization_needed"):
    """A bank wants to see the student, or does not take the card: without them there will be no lesson."""

    until: datetime
    """When the payment is given up."""


class CardRefundFailed(PaymentMoved, frozen=True, kw_only=True, tag="card_refund.failed"):
    """The bank did not take money back, so it is in the wallet; or it stays with us, as far as we bore its dispute."""

    refunded: Money
    """What is in the wallet."""
    kept: Money | None = None
    """What their bank had given the student already, if anything: it stays with us."""


class PackageEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What each event of a package says."""

    package_id: UUID
    student_id: OwnerId
    tutor_id: OwnerId
    title: str


class PackageBought(PackageEvent, frozen=True, kw_only=True, tag="package.bought"):
    """A student paid for lessons to come."""

    price: Money
    sessions: int


class PackageEnding(PackageEvent, frozen=True, kw_only=True, tag="package.ending"):
    """The package will expire, and something of it is left."""

    expires_at: datetime
    remaining: int


class PackageExpired(PackageEvent, frozen=True, kw_only=True, tag="package.expired"):
    """What nobody took in time is settled."""

    amount: Money
    """Of the lessons that were left."""
    lessons: int
    is_released: bool
    """Paid out to the tutor by the split, else given back to the student."""


class PackageLessonReturned(PackageEvent, frozen=True, kw_only=True, tag="package.lesson_returned"):
    """A lesson that was paid from the package was not given, so it can be taken again."""

    lesson_id: UUID
    remaining: int


class PackageRefunded(PackageEvent, frozen=True, kw_only=True, tag="package.refunded"):
    """The rest was given back to the student."""

    amount: Money
    lessons: int
    reason: str


Event = (
    HoldPlaced
    | HoldReleased
    | HoldRefunded
    | HoldAdjusted
    | HoldGivenBack
    | DisputeOpened
    | DisputeResolved
    | CardDisputeChanged
    | GoodwillGiven
    | WalletChanged
    | TopUpSucceeded
    | TopUpFailed
    | WithdrawalRequested
    | WithdrawalApproved
    | WithdrawalCompleted
    | WithdrawalRejected
    | PayoutFailed
    | PayoutAccountChanged
    | PaymentAuthorized
    | PaymentCaptured
    | PaymentVoided
    | PaymentRefunded
    | AuthorizationNeeded
    | CardRefundFailed
    | PackageBought
    | PackageEnding
    | PackageExpired
    | PackageLessonReturned
    | PackageRefunded
)
