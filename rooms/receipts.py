"""Receipts: everything that decided a settled hold, signed, so that anybody can judge it again without our database.

A receipt carries the raw evidence about its student and its tutor with the source of each fact, and each ruling (the
settlement, then corrections by late evidence) with the moment up to which evidence counted. `verify` measures the
attendance anew and divides the money anew; nothing in the receipt is believed but evidence, window, price and terms,
and for those stands the signature (Ed25519).

A receipt is bytes, not a document: the one encoding of its content, so that no byte of it can differ unnoticed.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from billing import facts, policy
from billing.errors import HoldNotFoundError
from billing.facts import Interval
from billing.models import Cause, FactsRow, Hold, PresenceRow, Settlement, SourceKind
from billing.money import BPS_WHOLE, split
from billing.settlement import FROZEN
from rooms import attendance
from rooms.errors import NotSettledError
from rooms.messages import Evidence, EvidenceMode, Identity
from rooms.models import EvidenceRow, Room

# What the signature covers besides the bytes: a signature of something else of ours is none of a receipt.
CONTEXT = b"fourtalk receipt 1\n"
# Information for HKDF: from one secret, a key for each purpose.
PURPOSE = b"fourtalk receipts"
# A receipt of a lesson of hours with a poll every 30 s stays below 1 MB; what is larger is none of ours.
BYTES_MOST = 8 * 1024 * 1024
# Of what is made now; version 1 is still proven, and still made of what its rule decided.
VERSION = 2


class ReceiptError(Exception):
    """A receipt does not prove what it says; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"This receipt proves nothing: {why}.")


class Witness(Evidence, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One piece of raw evidence."""

    known_at: datetime
    """When it was stored, by the database's clock."""


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lesson as it was planned, and when it ended."""

    starts_at: datetime
    ends_at: datetime
    ended_at: datetime
    evidence: EvidenceMode
    """What proves presence: the media server, or our sockets where there is none."""


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the evidence that was known by then proves."""

    known_until: datetime
    """Evidence stored later was not looked at."""
    total_s: int
    attended_s: int
    percent: int
    threshold_percent: int
    intervals: tuple[Interval, ...]
    """Of the student, merged and clipped to the window."""
    tutor_attended_s: int
    tutor_threshold_percent: int
    """Of the hold's terms; in version 1 of the terms in force when the lesson ended."""
    tutor_required_s: int


class Ruling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the money went, in minor units of the receipt's currency."""

    number: int
    """0 settled the hold; higher ones are corrections, each with the whole new division."""
    cause: Cause
    reason: str | None
    to_tutor: int
    to_platform: int
    to_student: int
    journal_id: str
    settled_at: datetime
    measured: Measured | None
    """None where nothing measured decided: a cancellation, early or late, or an administrator."""


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The version of the terms under which the hold was placed.

    Spelled out, so that a receipt keeps its shape and its bytes when the terms get another number.
    """

    version: int
    course_platform_bps: int
    course_referral_bps: int
    attendance_percent: int
    min_price: int
    course_risk_days: int
    booking_risk_days: int
    top_up_least: int
    top_up_most: int
    withdrawal_least: int
    withdrawal_two_people_above: int
    payout_freeze_hours: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was bought, who was there, and what became of the money."""

    version: int
    """2, or 1 where one threshold measured the tutor for all holds of the lesson, whatever their terms."""
    hold_id: UUID
    lesson_id: UUID | None
    student_id: UUID
    tutor_id: UUID
    source_kind: SourceKind
    source_id: UUID
    slice_no: int
    amount: int
    currency: str
    tutor_bps: int
    """Ten-thousandths for the tutor."""
    attribution: str
    policy: Terms
    placed_at: datetime
    place_journal: str
    window: Window | None
    evidence: tuple[Witness, ...]
    rulings: tuple[Ruling, ...]


class Signed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A receipt, with whose word it is."""

    receipt: Receipt
    key: str
    """Ed25519 public key, base64."""
    signature: str
    """Over the receipt's bytes, base64."""


class Verified(msgspec.Struct, frozen=True):
    """What a receipt says, once it is proven."""

    receipt: Receipt
    key: str
    is_pinned: bool
    """Whether the reader named the key; otherwise it is only the receipt that names it."""

    @property
    def newest(self) -> Ruling:
        """Return where the money is now."""
        return self.receipt.rulings[-1]


def signing_key(secret: str) -> Ed25519PrivateKey:
    """Return the key of this installation, derived from its secret."""
    seed = HKDF(SHA256(), length=32, salt=None, info=PURPOSE).derive(secret.encode())
    return Ed25519PrivateKey.from_private_bytes(seed)


def public_key(key: Ed25519PrivateKey) -> str:
    """Return the public half, base64."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def sign(receipt: Receipt, key: Ed25519PrivateKey) -> Signed:
    """Return the receipt with a signature of its bytes."""
    signature = key.sign(CONTEXT + msgspec.json.encode(receipt))
    return Signed(receipt, public_key(key), base64.b64encode(signature).decode())


def verify(data: bytes, *, pinned: str | None = None) -> Verified:
    """Prove a receipt: its bytes, its signature, and that the evidence leads to the money it names.

    Args:
        data: The file, whole.
        pinned: The public key that must have signed it, base64.

    Raises:
        ReceiptError: Something does not fit; it says what.
    """
    signed = _read(data)
    if pinned is not None and signed.key != pinned:
        raise ReceiptError("it is signed by another key than the one that was named")
    try:
        Ed25519PublicKey.from_public_bytes(_bytes_of(signed.key, "key")).verify(
            _bytes_of(signed.signature, "signature"), CONTEXT + msgspec.json.encode(signed.receipt)
        )
    except (InvalidSignature, ValueError):
        raise ReceiptError("the signature does not fit") from None
    _judge(signed.receipt)
    return Verified(signed.receipt, signed.key, pinned is not None)


async def build(session: AsyncSession, hold_id: UUID) -> Receipt:
    """Return the receipt of a settled hold.

    Raises:
        HoldNotFoundError: No hold has this id.
        NotSettledError: It is still held.
    """
    hold = await session.get(Hold, hold_id, populate_existing=True)
    if hold is None:
        raise HoldNotFoundError(hold_id)
    query = select(Settlement).where(Settlement.hold_id == hold_id).order_by(Settlement.number)
    settlements = (await session.scalars(query)).all()
    if not settlements:
        raise NotSettledError
    window = await _window(session, hold.lesson_id)
    evidence = await _evidence(session, hold) if window is not None else ()
    terms = (await policy.versions(session, [hold.policy_version]))[hold.policy_version]
    return Receipt(
        version=await _version(session, settlements),
        hold_id=hold.id,
        lesson_id=hold.lesson_id,
        student_id=hold.student_id,
        tutor_id=hold.tutor_id,
        source_kind=SourceKind(hold.source_kind),
        source_id=hold.source_id,
        slice_no=hold.slice_no,
        amount=hold.amount,
        currency=hold.currency,
        tutor_bps=hold.tutor_bps,
        attribution=hold.attribution,
        policy=msgspec.convert(terms, Terms, from_attributes=True),
        placed_at=hold.placed_at,
        place_journal=str(hold.place_journal),
        window=window,
        evidence=evidence,
        rulings=tuple([await _ruling(session, hold, row) for row in settlements]),
    )


# --- Building ---------------------------------------------------------------------------------------------------


async def _version(session: AsyncSession, settlements: Sequence[Settlement]) -> int:
    """Return 1 where facts of once decided, so that a receipt stays what it was."""
    keys = [(row.lesson_id, row.facts_version) for row in settlements if row.facts_version is not None]
    query = select(FactsRow.lesson_id).where(
        tuple_(FactsRow.lesson_id, FactsRow.version).in_(keys), ~FactsRow.is_by_hold
    )
    return 1 if await session.scalar(query.limit(1)) is not None else VERSION


async def _window(session: AsyncSession, lesson_id: UUID | None) -> Window | None:
    """Return the window of a lesson that was given, or was to be given; a cancelled one proves nothing."""
    query = (
        select(Room.starts_at, Room.ends_at, FactsRow.ended_at, FactsRow.evidence["source"].astext)
        .join(FactsRow, FactsRow.lesson_id == Room.id)
        .where(Room.id == lesson_id, FactsRow.version == FROZEN, ~FactsRow.cancelled)
    )
    found = (await session.execute(query)).one_or_none()
    if found is None:
        return None
    starts_at, ends_at, ended_at, source = found
    assert starts_at is not None and ends_at is not None, "a lesson has its times"  # noqa: PT018
    return Window(starts_at, ends_at, ended_at, msgspec.convert(source, EvidenceMode))


async def _evidence(session: AsyncSession, hold: Hold) -> tuple[Witness, ...]:
    """Return what is known about both people and about the room itself; of nobody else."""
    parties = [str(hold.student_id), str(hold.tutor_id)]
    columns = (getattr(EvidenceRow, name) for name in Evidence.__struct_fields__)
    query = (
        select(EvidenceRow.recorded_at.label("known_at"), *columns)
        .where(
            EvidenceRow.room_id == hold.lesson_id,
            or_(EvidenceRow.identity.is_(None), EvidenceRow.identity.in_(parties)),
        )
        .order_by(EvidenceRow.at, EvidenceRow.id)
    )
    return tuple(msgspec.convert(row._asdict(), Witness) for row in await session.execute(query))


async def _ruling(session: AsyncSession, hold: Hold, row: Settlement) -> Ruling:
    return Ruling(
        number=row.number,
        cause=Cause(row.cause),
        reason=row.reason,
        to_tutor=row.to_tutor,
        to_platform=row.to_platform,
        to_student=row.to_student,
        journal_id=str(row.journal_id),
        settled_at=row.settled_at,
        measured=await _measured(session, hold, row),
    )


async def _measured(session: AsyncSession, hold: Hold, row: Settlement) -> Measured | None:
    """Return what the facts behind a ruling say, as they were stored."""
    if row.facts_version is None or row.threshold_percent is None:
        return None
    told = await session.get_one(FactsRow, (row.lesson_id, row.facts_version))
    if told.cancelled:
        return None
    presence = await session.get(PresenceRow, (row.lesson_id, row.facts_version, hold.student_id))
    attended_s = presence.attended_s if presence else 0
    return Measured(
        known_until=told.known_at,
        total_s=told.total_s,
        attended_s=attended_s,
        percent=facts.percent(attended_s, told.total_s),
        threshold_percent=row.threshold_percent,
        intervals=msgspec.convert(presence.intervals, tuple[Interval, ...]) if presence else (),
        tutor_attended_s=told.tutor_attended_s,
        tutor_threshold_percent=told.tutor_percent(row.threshold_percent),
        tutor_required_s=facts.required_s(told.planned_s, told.tutor_percent(row.threshold_percent)),
    )


# --- Proving ----------------------------------------------------------------------------------------------------

_decode = msgspec.json.Decoder(Signed).decode


def _read(data: bytes) -> Signed:
    if len(data) > BYTES_MOST:
        raise ReceiptError("it is too large for a receipt")
    try:
        signed = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReceiptError(f"it is no receipt: {error}") from None
    if signed.receipt.version not in (1, VERSION):
        raise ReceiptError(f"version {signed.receipt.version} is not known here")
    if msgspec.json.encode(signed) != data:
        raise ReceiptError("its bytes are not those that were signed")
    return signed


def _bytes_of(text: str, name: str) -> bytes:
    """Return what base64 says, in its one canonical spelling: spare bits of the last letter count too."""
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ReceiptError(f"the {name} is no base64") from None
    if base64.b64encode(found).decode() != text:
        raise ReceiptError(f"the {name} is not in canonical base64")
    return found


def _judge(receipt: Receipt) -> None:
    """Measure and divide anew."""
    if receipt.amount <= 0 or not 0 <= receipt.tutor_bps <= BPS_WHOLE:
        raise ReceiptError("the price or the split is none")
    if [ruling.number for ruling in receipt.rulings] != list(
        range(len(receipt.rulings))
    ) or not receipt.rulings:
        raise ReceiptError("its rulings are not numbered from 0")
    for ruling in receipt.rulings:
        _judge_one(receipt, ruling)


def _judge_one(receipt: Receipt, ruling: Ruling) -> None:
    if ruling.measured is None:
        if ruling.cause in (Cause.ATTENDANCE, Cause.TUTOR_ABSENT, Cause.OUTCOME):
            raise ReceiptError(f"ruling {ruling.number} names attendance and shows none")
        if ruling.cause is Cause.FORFEITED and ruling.to_student:
            raise ReceiptError(f"ruling {ruling.number}: what is forfeited is paid whole")
        if ruling.cause is Cause.CANCELLED and ruling.to_student != receipt.amount:
            raise ReceiptError(f"ruling {ruling.number}: what is cancelled is given back whole")
        _require(ruling, "the division", _parts(ruling), _division(receipt, ruling.to_student))
        return
    again = _measure(receipt, ruling.measured)
    _require(ruling, "the attendance", ruling.measured, again)
    decision = _decide(receipt, again)
    if ruling.number == 0:
        _require(ruling, "the cause", ruling.cause, decision.cause)
    _require(
        ruling, "the division", _parts(ruling), (decision.to_tutor, decision.to_platform, decision.to_student)
    )


def _decide(receipt: Receipt, measured: Measured) -> facts.Decision:
    """Apply the rule by which the hold was settled, and which corrections keep: by who came, or by attendance."""
    if facts.is_by_outcome(receipt.source_kind, receipt.rulings[0].cause):
        return facts.decide_booking(
            amount=receipt.amount,
            tutor_bps=receipt.tutor_bps,
            attended_s=measured.attended_s,
            total_s=measured.total_s,
            threshold_percent=receipt.policy.attendance_percent,
            tutor_attended_s=measured.tutor_attended_s,
            cancelled=False,
        )
    return facts.decide(
        amount=receipt.amount,
        tutor_bps=receipt.tutor_bps,
        attended_s=measured.attended_s,
        total_s=measured.total_s,
        threshold_percent=receipt.policy.attendance_percent,
        # In fewer seconds than are required: the same as by the threshold, since seconds are whole.
        tutor_absent=measured.total_s == 0 or measured.tutor_attended_s < measured.tutor_required_s,
        cancelled=False,
    )


def _measure(receipt: Receipt, told: Measured) -> Measured:
    """Return what the evidence proves; how far it reaches is taken as told, in version 1 the tutor's threshold too."""
    window = receipt.window
    if window is None:
        raise ReceiptError("attendance without a window")
    known = attendance.Known(witness for witness in receipt.evidence if witness.known_at <= told.known_until)
    found = known.attendance(
        provider=window.evidence,
        starts_at=window.starts_at,
        ends_at=window.ends_at,
        until=window.ended_at,
    )
    student = found.get(Identity(str(receipt.student_id)), attendance.NOT_SEEN)
    tutor = found.get(Identity(str(receipt.tutor_id)), attendance.NOT_SEEN)
    planned_s = attendance.total_s(window.starts_at, window.ends_at, ended_by_tutor_at=None)
    total_s = attendance.total_s(window.starts_at, window.ends_at, ended_by_tutor_at=window.ended_at)
    own_percent = receipt.policy.attendance_percent
    tutor_percent = told.tutor_threshold_percent if receipt.version == 1 else own_percent
    return Measured(
        known_until=told.known_until,
        total_s=total_s,
        attended_s=student.attended_s,
        percent=facts.percent(student.attended_s, total_s),
        threshold_percent=own_percent,
        intervals=tuple(Interval(span.start, span.end, span.sources) for span in student.intervals),
        tutor_attended_s=tutor.attended_s,
        tutor_threshold_percent=tutor_percent,
        tutor_required_s=facts.required_s(planned_s, tutor_percent),
    )


def _parts(ruling: Ruling) -> tuple[int, int, int]:
    return ruling.to_tutor, ruling.to_platform, ruling.to_student


def _division(receipt: Receipt, to_student: int) -> tuple[int, int, int]:
    if not 0 <= to_student <= receipt.amount:
        raise ReceiptError("more is given back than was paid")
    return (*split(receipt.amount - to_student, receipt.tutor_bps), to_student)


def _require(ruling: Ruling, what: str, told: object, found: object) -> None:
    if told != found:
        raise ReceiptError(f"ruling {ruling.number}: {what} is {found}, the receipt says {told}")
