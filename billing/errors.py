"""What can go wrong with money.

BillingError
├── InvalidAmountError        invalid     amount is zero, negative or too big for the ledger
├── InvalidKeyError           invalid     idempotency key is empty or longer than 255
├── UnknownCurrencyError      invalid
├── ReasonTooShortError       invalid     an admin must say why in at least ten characters
├── InsufficientFundsError    conflict    an account would fall below zero; says what is missing
├── BalanceLimitError         conflict    an account would have more than any may, after millions of the largest sums
├── IdempotencyMismatchError  invalid     the key was used with another request
├── HoldNotFoundError         not_found
├── HoldNotHeldError          conflict    the hold was released or refunded already
├── HoldNotSettledError       conflict    the hold is still held: nobody got its money yet
├── RefundTooLargeError       conflict    more than is left of a hold; says what is left
├── ReviewNotFoundError       not_found   there is none, or its evidence agrees with the settlement by now
├── ReviewClosedError         conflict    somebody has looked at it already
├── DisputeNotFoundError      not_found
├── AlreadyDisputedError      conflict    a hold is disputed once
├── DisputeTooLateError       conflict    says until when it could be disputed
├── NothingToDisputeError     conflict    everything was given back
├── DisputeStateError         conflict    the dispute is decided
├── AlreadyHeldError          conflict    the student has an open hold for this lesson
├── LessonOverError           conflict    the lesson's attendance is frozen; nothing can be held for it
├── LessonNotSettledError     conflict    only what was settled can be reconsidered
├── PolicyInvalidError        invalid     values that the terms cannot have; names each, with a code of its own
├── PolicyUnchangedError      conflict    the new terms are the old ones
├── PolicyMovedError          conflict    somebody else made newer terms meanwhile
├── PolicyPastError           invalid     terms come into force from now on, never before
├── PolicyFarError            invalid     terms come into force within a year
├── PolicyOrderError          conflict    terms that were made earlier come into force later
├── OptionNotFoundError       not_found   no such pricing option is on sale
├── PackageNotFoundError      not_found
├── PackageExhaustedError     conflict    nothing of the package is left
├── PackageOverError          conflict    the package has expired, or its rest was given back
├── PackageRefundError        conflict    its student cannot have the rest back any more
├── LessonNotTakenError       conflict    nobody took this lesson of a package: it goes back with the package's rest
├── JournalNotFoundError      not_found
├── NotReversibleError        conflict    such a journal has its own way back
├── AlreadyReversedError      conflict    a journal is undone at most once
├── EntryNotFoundError        not_found   an account has no such movement
├── StatementTooLongError     invalid     says how many movements one statement takes
├── SealingStoppedError       unavailable the database counts its transactions anew: it was made from a dump
├── LeaseLostError            conflict    a job took longer than its lease, or was called off
├── JobNotFoundError          not_found   no such job was given up
├── SealBrokenError           unavailable bank data was sealed under another secret, or changed
├── NoPayoutAccountError      conflict    a tutor did not say where their money is to go
├── PayoutAccountFrozenError  conflict    the payout account was changed lately; says when it can be paid to
├── WithdrawalTooSmallError   invalid     says the least
├── WithdrawalNotFoundError   not_found
├── WithdrawalStateError      conflict    the withdrawal's status does not allow this
├── WithdrawalHeldError       conflict    an administrator stopped it; says why
├── SecondPersonError         conflict    somebody else must do this: another administrator, or not the tutor themself
├── PayoutUnderWayError       conflict    the money may be on its way
├── TopUpNotFoundError        not_found
├── TopUpRangeError           invalid     less or more than one top-up may bring
├── MethodNotFoundError       not_found   the person has no such saved card
├── PaymentMismatchError      conflict    Stripe's payment is not the one that was asked for; somebody must look
├── UnsettledPaymentError     unavailable money of the payment is on its way, to Stripe's balance or back to the card
├── PaymentNotFoundError      not_found   no payment has this id
├── PaymentStateError         conflict    the payment's state does not allow this
├── RefundTooLargeError       conflict    more than is left of a hold; says what is left
├── NotByCardError            conflict    the money did not come from a card, so it cannot go back to one
├── SignatureError            unauthenticated  a webhook is not Stripe's, or too old
├── InvalidEventError         invalid     a webhook that says nothing we could read
└── StripeError                           what Stripe answered; `retryable` says whether the same call may succeed later
    ├── CardDeclinedError     conflict    the bank said no; has Stripe's code
    ├── StripeRefusedError    conflict    Stripe will not do this, however often it is asked
    └── StripeAwayError       unavailable no answer, or Stripe cannot now; what was asked may have happened
"""

from datetime import datetime
from typing import ClassVar, Literal
from uuid import UUID

import msgspec

from billing.money import Money

Kind = Literal["invalid", "unauthenticated", "not_found", "conflict", "unavailable"]


class BillingError(Exception):
    """Base of this tree. `kind` is for the edge, `code` for programs, `facts` are shown with both."""

    kind: ClassVar[Kind]
    code: ClassVar[str]

    @property
    def facts(self) -> dict[str, object]:
        """Return what the error knows, ready for the wire."""
        return vars(self)


class InvalidAmountError(BillingError):
    """The amount cannot be moved."""

    kind = "invalid"
    code = "invalid_amount"

    def __init__(self, money: Money) -> None:
        super().__init__(f"{money.amount} {money.currency} minor units cannot be moved.")
        self.money = money


class InvalidKeyError(BillingError):
    """The idempotency key is empty or too long."""

    kind = "invalid"
    code = "invalid_idempotency_key"

    def __init__(self) -> None:
        super().__init__("An idempotency key has 1 to 255 characters.")


class UnknownCurrencyError(BillingError):
    """No wallet has this currency."""

    kind = "invalid"
    code = "unknown_currency"

    def __init__(self, currency: str) -> None:
        super().__init__(f"{currency!r} is not a currency of this ledger.")
        self.currency = currency


class ReasonTooShortError(BillingError):
    """An admin moved money without saying why."""

    kind = "invalid"
    code = "reason_too_short"

    def __init__(self, least: int) -> None:
        super().__init__(f"Say why in at least {least} characters.")
        self.least = least


class InsufficientFundsError(BillingError):
    """An account would fall below zero."""

    kind = "conflict"
    code = "insufficient_funds"

    def __init__(self, shortfall: Money) -> None:
        super().__init__(f"{shortfall} are missing.")
        self.shortfall = shortfall


class BalanceLimitError(BillingError):
    """An account would pass the edge of what is kept of money, whoever's it is."""

    kind = "conflict"
    code = "balance_limit"

    def __init__(self) -> None:
        super().__init__("With so much an account would have more than any may have.")


class IdempotencyMismatchError(BillingError):
    """The key belongs to another request."""

    kind = "invalid"
    code = "idempotency_mismatch"

    def __init__(self) -> None:
        super().__init__("This idempotency key was used with another request.")


class HoldNotFoundError(BillingError):
    """No hold has this id."""

    kind = "not_found"
    code = "hold_not_found"

    def __init__(self, hold_id: UUID) -> None:
        super().__init__("There is no such hold.")
        self.hold_id = hold_id


class HoldNotHeldError(BillingError):
    """The hold left `held` before."""

    kind = "conflict"
    code = "hold_not_held"

    def __init__(self, hold_id: UUID, status: str) -> None:
        super().__init__(f"This hold is {status}.")
        self.hold_id = hold_id
        self.status = status


class HoldNotSettledError(BillingError):
    """The hold is still held."""

    kind = "conflict"
    code = "hold_not_settled"

    def __init__(self, hold_id: UUID) -> None:
        super().__init__("This hold is not settled yet.")
        self.hold_id = hold_id


class RefundTooLargeError(BillingError):
    """More than is left of a hold, or of another currency."""

    kind = "conflict"
    code = "refund_too_large"

    def __init__(self, rest: Money) -> None:
        super().__init__(f"No more than {rest} can be given back.")
        self.rest = rest


class ReviewNotFoundError(BillingError):
    """No review has this id."""

    kind = "not_found"
    code = "review_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such review.")


class ReviewClosedError(BillingError):
    """Somebody has looked at it already."""

    kind = "conflict"
    code = "review_closed"

    def __init__(self) -> None:
        super().__init__("This review is closed.")


class DisputeNotFoundError(BillingError):
    """No dispute has this id."""

    kind = "not_found"
    code = "dispute_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such dispute.")


class AlreadyDisputedError(BillingError):
    """The hold was disputed before."""

    kind = "conflict"
    code = "already_disputed"

    def __init__(self, dispute_id: UUID) -> None:
        super().__init__("This was disputed before; it can be disputed once.")
        self.dispute_id = dispute_id


class DisputeTooLateError(BillingError):
    """Nobody may dispute the hold any more."""

    kind = "conflict"
    code = "dispute_too_late"

    def __init__(self, until: datetime) -> None:
        super().__init__(f"This could be disputed until {until:%Y-%m-%d %H:%M} UTC.")
        self.until = until


class NothingToDisputeError(BillingError):
    """The student has everything back."""

    kind = "conflict"
    code = "nothing_to_dispute"

    def __init__(self) -> None:
        super().__init__("Everything was given back already.")


class DisputeStateError(BillingError):
    """The dispute's status does not allow this."""

    kind = "conflict"
    code = "dispute_state"

    def __init__(self, status: str) -> None:
        super().__init__(f"This dispute is {status}.")
        self.status = status


class AlreadyHeldError(BillingError):
    """The student holds a place in this lesson."""

    kind = "conflict"
    code = "already_held"

    def __init__(self) -> None:
        super().__init__("A place in this lesson is paid for already.")


class LessonOverError(BillingError):
    """Attendance of the lesson is frozen."""

    kind = "conflict"
    code = "lesson_over"

    def __init__(self) -> None:
        super().__init__("This lesson is over.")


class LessonNotSettledError(BillingError):
    """The lesson has no settlement that could be reconsidered."""

    kind = "conflict"
    code = "lesson_not_settled"

    def __init__(self, lesson_id: UUID) -> None:
        super().__init__("This lesson is not settled yet.")
        self.lesson_id = lesson_id


class Problem(msgspec.Struct, frozen=True):
    """One value that cannot be, and why."""

    field: str
    code: str
    """Stable, for programs."""
    message: str


class PolicyInvalidError(BillingError):
    """Some of the values cannot be terms."""

    kind = "invalid"
    code = "policy_invalid"

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(f"{problem.field} {problem.message}" for problem in problems) + ".")
        self.problems = problems

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return every field that is wrong, as the edge lists them."""
        return self.problems


class PolicyUnchangedError(BillingError):
    """Nothing would be different."""

    kind = "conflict"
    code = "policy_unchanged"

    def __init__(self) -> None:
        super().__init__("These are the terms already.")


class PolicyMovedError(BillingError):
    """The version that somebody wants to change is not the newest."""

    kind = "conflict"
    code = "policy_moved"

    def __init__(self, newest: int) -> None:
        super().__init__(f"The newest terms are version {newest}; look at them first.")
        self.newest = newest


class PolicyPastError(BillingError):
    """Terms would come into force before they were made."""

    kind = "invalid"
    code = "policy_effective_from_past"

    def __init__(self, now: datetime) -> None:
        super().__init__("Terms come into force from now on, not before.")
        self.now = now


class PolicyFarError(BillingError):
    """Terms would come into force in a time that nobody plans for."""

    kind = "invalid"
    code = "policy_effective_from_far"

    def __init__(self, until: datetime) -> None:
        super().__init__(f"Terms come into force until {until:%Y-%m-%d %H:%M} UTC at the latest.")
        self.until = until


class PolicyOrderError(BillingError):
    """Terms would come into force before older ones."""

    kind = "conflict"
    code = "policy_before_planned"

    def __init__(self, planned: datetime) -> None:
        super().__init__(
            f"Terms are planned for {planned:%Y-%m-%d %H:%M} UTC; say that these replace them, or begin then."
        )
        self.planned = planned


class OptionNotFoundError(BillingError):
    """Nobody sells this, or not any more."""

    kind = "not_found"
    code = "option_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such offer.")


class PackageNotFoundError(BillingError):
    """No package that one may know of has this id."""

    kind = "not_found"
    code = "package_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such package.")


class PackageExhaustedError(BillingError):
    """Every lesson of the package is taken."""

    kind = "conflict"
    code = "package_exhausted"

    def __init__(self) -> None:
        super().__init__("Nothing of this package is left.")


class PackageOverError(BillingError):
    """The package is not active."""

    kind = "conflict"
    code = "package_over"

    def __init__(self, status: str) -> None:
        super().__init__(f"This package is {status}.")
        self.status = status


class PackageRefundError(BillingError):
    """The time in which a student may have the rest back is over."""

    kind = "conflict"
    code = "package_refund_over"

    def __init__(self, until: datetime) -> None:
        super().__init__(f"The rest could be given back until {until:%Y-%m-%d %H:%M} UTC.")
        self.until = until


class LessonNotTakenError(BillingError):
    """A lesson of a package that nobody took goes back with the rest of it."""

    kind = "conflict"
    code = "lesson_not_taken"

    def __init__(self, package_id: UUID) -> None:
        super().__init__("Nobody took this lesson of the package; give the rest of the package back instead.")
        self.package_id = package_id


class JournalNotFoundError(BillingError):
    """The ledger has no such journal."""

    kind = "not_found"
    code = "journal_not_found"

    def __init__(self, journal_id: int) -> None:
        super().__init__("There is no such journal.")
        self.journal_id = str(journal_id)


class NotReversibleError(BillingError):
    """A journal of this kind is part of something that would not know of the reversal."""

    kind = "conflict"
    code = "not_reversible"

    def __init__(self, journal_kind: str) -> None:
        super().__init__(
            f"A journal of the kind {journal_kind} is not undone as such; it has its own way back."
        )
        self.journal_kind = journal_kind


class AlreadyReversedError(BillingError):
    """The journal was undone before."""

    kind = "conflict"
    code = "already_reversed"

    def __init__(self, journal_id: int) -> None:
        super().__init__("This journal was undone already.")
        self.journal_id = str(journal_id)


class EntryNotFoundError(BillingError):
    """The account of this person has no such movement."""

    kind = "not_found"
    code = "entry_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such movement.")


class StatementTooLongError(BillingError):
    """The period has more movements than one statement takes."""

    kind = "invalid"
    code = "statement_too_long"

    def __init__(self, most: int) -> None:
        super().__init__(f"A statement has at most {most} movements; choose a shorter period.")
        self.most = most


class SealingStoppedError(BillingError):
    """Transactions have smaller numbers than what is sealed: the database was made from a dump."""

    kind = "unavailable"
    code = "sealing_stopped"

    def __init__(self, sealed: int, now: int) -> None:
        super().__init__(f"Transactions are numbered {now}, and what is sealed goes up to {sealed}.")
        self.sealed = sealed
        self.now = now


class LeaseLostError(BillingError):
    """A job is somebody else's now, or nobody's: it was called off."""

    kind = "conflict"
    code = "lease_lost"

    def __init__(self, job: str, key: str) -> None:
        super().__init__(f"The job {job} of {key} was taken over.")
        self.job = job
        self.key = key


class JobNotFoundError(BillingError):
    """There is no such job, or it was not given up."""

    kind = "not_found"
    code = "job_not_found"

    def __init__(self, job_id: UUID) -> None:
        super().__init__("No such job was given up.")
        self.job_id = job_id


class TopUpNotFoundError(BillingError):
    """No top-up of this person has this id."""

    kind = "not_found"
    code = "top_up_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such top-up.")


class TopUpRangeError(BillingError):
    """The amount is less or more than one top-up may bring."""

    kind = "invalid"
    code = "top_up_out_of_range"

    def __init__(self, least: Money, most: Money) -> None:
        super().__init__(f"A top-up brings {least} to {most}.")
        self.least = least
        self.most = most


class MethodNotFoundError(BillingError):
    """The person has no such saved card."""

    kind = "not_found"
    code = "payment_method_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such saved payment method.")


class PaymentMismatchError(BillingError):
    """A payment at Stripe differs from what was asked for, or belongs to nothing of ours."""

    kind = "conflict"
    code = "payment_mismatch"

    def __init__(self, payment_id: str, what: str) -> None:
        super().__init__(f"The payment {payment_id} differs in its {what}.")
        self.payment_id = payment_id
        self.what = what


class UnsettledPaymentError(BillingError):
    """Money of the payment is on its way, to Stripe's balance or back to the card: it is known in a moment."""

    kind = "unavailable"
    code = "payment_unsettled"

    def __init__(self, payment_id: str) -> None:
        super().__init__(f"Money of the payment {payment_id} is on its way.")
        self.payment_id = payment_id


class PaymentNotFoundError(BillingError):
    """No payment has this id."""

    kind = "not_found"
    code = "payment_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such payment.")


class PaymentStateError(BillingError):
    """The payment is somewhere else in its life."""

    kind = "conflict"
    code = "payment_state"

    def __init__(self, state: str, verdict: str | None) -> None:
        super().__init__(f"This payment is {state}.")
        self.state = state
        self.verdict = verdict
        """How it will end, if that is decided and only the card needs a while."""


class NotByCardError(BillingError):
    """There is no card that so much could go back to."""

    kind = "conflict"
    code = "not_paid_by_card"

    def __init__(self) -> None:
        super().__init__("So much was not paid by card.")


class SignatureError(BillingError):
    """A delivery that nobody with our secret has signed in the last minutes."""

    kind = "unauthenticated"
    code = "bad_signature"

    def __init__(self, why: str) -> None:
        super().__init__(f"The signature does not hold: {why}.")


class InvalidEventError(BillingError):
    """A delivery that cannot be read."""

    kind = "invalid"
    code = "invalid_event"

    def __init__(self, why: str) -> None:
        super().__init__(f"The delivery cannot be read: {why}.")


class StripeError(BillingError):
    """Something that Stripe said no to, or did not answer."""

    retryable: ClassVar[bool] = False


class CardDeclinedError(StripeError):
    """The bank declined the card."""

    kind = "conflict"
    code = "card_declined"

    def __init__(self, stripe_code: str, decline_code: str | None, payment_id: str | None) -> None:
        super().__init__("The bank declined this card.")
        self.stripe_code = stripe_code
        self.decline_code = decline_code
        self.payment_id = payment_id
        """The payment that was made and declined, where Stripe names it."""


class StripeRefusedError(StripeError):
    """Stripe will not do this."""

    kind = "conflict"
    code = "stripe_refused"

    def __init__(self, stripe_code: str) -> None:
        super().__init__(f"The payment provider refused this: {stripe_code}.")
        self.stripe_code = stripe_code


class StripeAwayError(StripeError):
    """Stripe did not answer, or cannot now. What was asked may have happened; the same key finds out."""

    kind = "unavailable"
    code = "payments_unavailable"
    retryable = True

    def __init__(self, why: str, *, answered: bool = False) -> None:
        super().__init__("The payment provider does not answer; try again in a moment.")
        self.why = why
        self.answered = answered
        """Stripe keeps its answer under the key, a 500 too: asking again with the same key brings the same answer."""


class SealBrokenError(BillingError):
    """What was sealed cannot be opened."""

    kind = "unavailable"
    code = "seal_broken"

    def __init__(self) -> None:
        super().__init__("The bank data cannot be read; the tutor must give it again.")


class NoPayoutAccountError(BillingError):
    """Nobody said where the money is to go."""

    kind = "conflict"
    code = "no_payout_account"

    def __init__(self) -> None:
        super().__init__("Say first where your money is to go.")


class PayoutAccountFrozenError(BillingError):
    """The payout account is too new."""

    kind = "conflict"
    code = "payout_account_frozen"

    def __init__(self, usable_from: datetime) -> None:
        super().__init__(
            f"Your payout account was changed; it can be paid to from {usable_from:%Y-%m-%d %H:%M} UTC."
        )
        self.usable_from = usable_from


class WithdrawalTooSmallError(BillingError):
    """Less than one withdrawal may be."""

    kind = "invalid"
    code = "withdrawal_too_small"

    def __init__(self, least: Money) -> None:
        super().__init__(f"A withdrawal is at least {least}.")
        self.least = least


class WithdrawalNotFoundError(BillingError):
    """No withdrawal that one may know of has this id."""

    kind = "not_found"
    code = "withdrawal_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such withdrawal.")


class WithdrawalStateError(BillingError):
    """The withdrawal is somewhere else in its life."""

    kind = "conflict"
    code = "withdrawal_state"

    def __init__(self, status: str) -> None:
        super().__init__(f"This withdrawal is {status}.")
        self.status = status


class WithdrawalHeldError(BillingError):
    """An administrator stopped the withdrawal."""

    kind = "conflict"
    code = "withdrawal_held"

    def __init__(self, reason: str) -> None:
        super().__init__(f"This withdrawal is held: {reason}")
        self.reason = reason


class SecondPersonError(BillingError):
    """The same person may not do this."""

    kind = "conflict"
    code = "second_person_needed"

    def __init__(self) -> None:
        super().__init__("Somebody else has to do this.")


class PayoutUnderWayError(BillingError):
    """Stripe may have sent the money already."""

    kind = "conflict"
    code = "payout_under_way"

    def __init__(self) -> None:
        super().__init__("The payout is under way; wait for how it ends.")
