"""The whole ledger as lines of JSON that prove each other, offline. Pure.

A line is the one encoding of what it says, and ends with a newline:

    {"line":"ledger","version":1}
    {"line":"journal","id":…,"xid":…,…,"transfers":[[leg, debit, credit, currency, amount, hold],…]}   by xid, then id
    {"line":"seal","number":…,…,"sha256":"…"}                           after the last journal that it covers
    {"line":"journal",…}                                                that no seal covers yet
    {"line":"account","id":…,"kind":…,…,"balance":…}                    by id
    {"line":"end","journals":…,"seals":…,"accounts":…,"sha256":"…"}     over every byte before

A seal's hash is SHA-256 over: the hash of the seal before (32 zero bytes before the first), the lines of its journals,
and its own line with an empty `sha256`. So the newest seal stands for every journal there ever was, and whoever wrote
it down elsewhere can tell later whether any of them was changed, removed, added or moved.
"""

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

# Before the first seal.
NOTHING = bytes(32)
# A course of a hundred sessions for a hundred people makes a journal of some MB; what is larger is none of ours.
LINE_MOST = 64 * 1024 * 1024

Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class LedgerFileError(Exception):
    """A file does not prove what it says; the message says why and where."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"This ledger proves nothing: line {number}: {why}.")


class Transfer(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One debit and one credit."""

    leg: int
    debit: int
    credit: int
    currency: str
    amount: Annotated[int, Meta(gt=0)]
    hold_id: UUID | None


class Head(msgspec.Struct, frozen=True, tag_field="line", tag="ledger", forbid_unknown_fields=True):
    """Says what the file is."""

    version: Literal[1] = 1


class Journal(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="journal", forbid_unknown_fields=True
):
    """One indivisible movement with all that is known of it."""

    id: int
    xid: int
    kind: str
    actor: str
    reason: str | None
    ref_type: str
    ref_id: UUID
    at: datetime
    recorded_at: datetime
    transfers: tuple[Transfer, ...]


class Seal(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="seal", forbid_unknown_fields=True
):
    """A link of the chain; `billing.models.Seal` has the meaning of its fields."""

    number: int
    since_xid: int
    upto_xid: int
    journals: int
    first_id: int
    last_id: int
    sealed_at: datetime
    sha256: Sha256 | Literal[""]


class Account(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="account", forbid_unknown_fields=True
):
    """What is where, after all journals."""

    id: int
    kind: str
    owner_id: UUID
    currency: str
    shard: int
    balance: int


class End(msgspec.Struct, frozen=True, kw_only=True, tag_field="line", tag="end", forbid_unknown_fields=True):
    """Says that nothing is missing."""

    journals: int
    seals: int
    accounts: int
    sha256: Sha256


Line = Head | Journal | Seal | Account | End


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """What a good file says."""

    journals: int
    transfers: int
    seals: int
    accounts: int
    unsealed: int
    """Journals that were newer than the last seal: only the end of the file stands for them."""
    sums: dict[str, int]
    """Of all balances, by currency; zeros."""
    head: str
    """Hash of the newest seal; empty where nothing is sealed."""
    pinned: int | None
    """Number of the seal whose hash was known from elsewhere."""


def encode(line: Line) -> bytes:
    """Return the one encoding of a line."""
    return msgspec.json.encode(line) + b"\n"


class Digest:
    """The hash of a file that is being written."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, line: bytes) -> bytes:
        """Add a line, and return it."""
        self._hash.update(line)
        return line

    def hex(self) -> str:
        """Return the hash of the lines so far."""
        return self._hash.hexdigest()


class Chain:
    """The hash of the seal that is being made."""

    def __init__(self, before: bytes = NOTHING) -> None:
        self._hash = hashlib.sha256(before)
        self._count = 0
        self._first_id = 2**63
        self._last_id = -1

    @property
    def count(self) -> int:
        """Return how many journals were added."""
        return self._count

    @property
    def ids(self) -> tuple[int, int]:
        """Return the smallest and the largest id among them."""
        return self._first_id, self._last_id

    def add(self, journal: Journal, line: bytes) -> None:
        """Add the next journal and its line."""
        self._hash.update(line)
        self._count += 1
        self._first_id = min(self._first_id, journal.id)
        self._last_id = max(self._last_id, journal.id)

    def close(self, seal: Seal) -> bytes:
        """Return the hash of the seal that covers what was added."""
        self._hash.update(encode(msgspec.structs.replace(seal, sha256="")))
        return self._hash.digest()


def verify(lines: Iterable[bytes], *, pin: str | None = None) -> Proven:
    """Compute a whole ledger anew: its chain of hashes, and every balance from nothing.

    Args:
        lines: With their ends; none longer than `LINE_MOST`.
        pin: Hash of any seal, known from elsewhere. Without it the file proves that it is whole and agrees with
            itself, and who made it could have made another.

    Raises:
        LedgerFileError: A byte is not as it must be.
    """
    reader = _Reader(pin)
    for number, line in enumerate(lines, 1):
        try:
            reader.read(line)
        except _WrongError as wrong:
            raise LedgerFileError(number, str(wrong)) from wrong
    return reader.proven()


class _WrongError(Exception):
    """What is wrong with a line."""


_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


class _Reader:
    """What was read so far."""

    def __init__(self, pin: str | None) -> None:
        self._pin = pin
        self._pinned: int | None = None
        self._whole = Digest()
        self._chain = Chain()
        self._last: Line | None = None
        self._place = (-1, -1)
        self._seal: Seal | None = None
        self._balances: dict[int, tuple[str, int]] = {}
        self._sums: dict[str, int] = {}
        self._journals = self._transfers = self._accounts = self._lines = 0

    def read(self, line: bytes) -> None:
        """Take the next line."""
        try:
            said: Line = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise _WrongError(f"it cannot be read ({error})") from error
        if encode(said) != line:
            raise _WrongError("it is not written as it must be")
        if isinstance(self._last, End):
            raise _WrongError("the end was before it")
        if (self._last is None) != isinstance(said, Head):
            raise _WrongError("the file begins with its head, once")
        match said:
            case Head():
                pass
            case Journal():
                self._read_journal(said, line)
            case Seal():
                self._read_seal(said)
            case Account():
                self._read_account(said)
            case End():
                self._read_end(said)
        self._whole.add(line)
        self._last = said
        self._lines += 1

    def proven(self) -> Proven:
        """Return what the file says, once all of it was read."""
        if not isinstance(self._last, End):
            raise LedgerFileError(self._lines + 1, "the end is missing")
        if self._pin is not None and self._pinned is None:
            raise LedgerFileError(self._lines, "no seal has the hash that is known")
        return Proven(
            journals=self._journals,
            transfers=self._transfers,
            seals=self._seal.number if self._seal else 0,
            accounts=self._accounts,
            unsealed=self._chain.count,
            sums=self._sums,
            head=self._seal.sha256 if self._seal else "",
            pinned=self._pinned,
        )

    def _read_journal(self, journal: Journal, line: bytes) -> None:
        if not isinstance(self._last, Head | Journal | Seal):
            raise _WrongError("a journal comes after the accounts")
        place = (journal.xid, journal.id)
        if place <= self._place or (self._seal and journal.xid < self._seal.upto_xid):
            raise _WrongError("a journal is not in its place")
        self._place = place
        if [transfer.leg for transfer in journal.transfers] != [*range(1, len(journal.transfers) + 1)]:
            raise _WrongError("the legs of a journal are not all there")
        for transfer in journal.transfers:
            self._move(transfer.debit, transfer.currency, -transfer.amount)
            self._move(transfer.credit, transfer.currency, transfer.amount)
        self._chain.add(journal, line)
        self._journals += 1
        self._transfers += len(journal.transfers)

    def _move(self, account: int, currency: str, amount: int) -> None:
        known, balance = self._balances.get(account, (currency, 0))
        if known != currency:
            raise _WrongError(f"account {account} has two currencies")
        self._balances[account] = (currency, balance + amount)

    def _read_seal(self, seal: Seal) -> None:
        if not isinstance(self._last, Journal):
            raise _WrongError("a seal covers no journals")
        number, since = (self._seal.number, self._seal.upto_xid) if self._seal else (0, 0)
        if (seal.number, seal.since_xid) != (number + 1, since) or self._place[0] >= seal.upto_xid:
            raise _WrongError("a seal does not follow the one before")
        if (seal.journals, seal.first_id, seal.last_id) != (self._chain.count, *self._chain.ids):
            raise _WrongError("a seal covers other journals")
        digest = self._chain.close(seal)
        if seal.sha256 != digest.hex():
            raise _WrongError(f"the hash of seal {seal.number} does not fit")
        if seal.sha256 == self._pin:
            self._pinned = seal.number
        self._seal, self._chain = seal, Chain(digest)

    def _read_account(self, account: Account) -> None:
        if isinstance(self._last, Account) and account.id <= self._last.id:
            raise _WrongError("an account is not in its place")
        if self._balances.pop(account.id, (account.currency, 0)) != (account.currency, account.balance):
            raise _WrongError(f"the balance of account {account.id} is not what its transfers say")
        self._sums[account.currency] = self._sums.get(account.currency, 0) + account.balance
        self._accounts += 1

    def _read_end(self, end: End) -> None:
        if self._balances:
            raise _WrongError(f"account {min(self._balances)} is missing")
        seals = self._seal.number if self._seal else 0
        if (end.journals, end.seals, end.accounts) != (self._journals, seals, self._accounts):
            raise _WrongError("something was left out or put in")
        if end.sha256 != self._whole.hex():
            raise _WrongError("the hash of the file does not fit")
