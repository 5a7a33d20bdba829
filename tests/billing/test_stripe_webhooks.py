"""Which deliveries are believed: the table of what Stripe's own library lets through, and more."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from billing import stripe_webhooks
from billing.errors import InvalidEventError, SignatureError
from server.integrations.stripe_fake.fake import StripeFake

WALL = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
SECRET, OLD = "whsec_new", "whsec_old"
EVENT = {
    "id": "evt_1",
    "object": "event",
    "type": "payment_intent.succeeded",
    "created": 1_772_366_400,
    "livemode": False,
    "data": {"object": {"id": "pi_1", "object": "payment_intent", "shipping": {"name": "Ann Lee"}}},
}
BODY = msgspec.json.encode(EVENT)


def sign(body: bytes = BODY, *, secret: str = SECRET, at: datetime = WALL) -> str:
    mac = hmac.new(secret.encode(), f"{int(at.timestamp())}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={int(at.timestamp())},v1={mac}"


def read(
    body: bytes = BODY, header: str | None = None, *, secrets: tuple[str, ...] = (SECRET, OLD)
) -> stripe_webhooks.Event:
    return stripe_webhooks.read(body, sign(body) if header is None else header, secrets=secrets, wall=WALL)


def test_a_signed_event_is_read() -> None:
    event = read()

    assert (event.id, event.type, event.object_id, event.is_live) == (
        "evt_1",
        "payment_intent.succeeded",
        "pi_1",
        False,
    )
    assert event.created_at == datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert event.digest == hashlib.sha256(BODY).digest()


def test_an_event_of_the_second_api_names_its_object() -> None:
    body = msgspec.json.encode(
        {
            "id": "evt_2",
            "object": "v2.core.event",
            "type": "v2.core.account.updated",
            "created": "2026-03-01T14:00:00.000+02:00",
            "livemode": False,
            "related_object": {"id": "acct_1", "type": "v2.core.account", "url": "/v2/core/accounts/acct_1"},
        }
    )

    event = read(body)

    assert (event.object_id, event.created_at) == ("acct_1", datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
    assert event.created_at.tzinfo is UTC


def test_either_of_two_secrets_may_have_signed() -> None:
    assert read(header=sign(secret=OLD)).id == read(header=sign()).id == "evt_1"


def test_one_right_signature_among_several_is_enough() -> None:
    header = f"{sign(secret='whsec_other')},{sign().partition(',')[2]}"

    assert read(header=header).id == "evt_1"


@pytest.mark.parametrize(
    ("fields", "account", "object_id"),
    [
        ({"account": "acct_1"}, "acct_1", "pi_1"),
        ({"context": "acct_2"}, "acct_2", "pi_1"),
        ({"data": None}, None, None),
    ],
)
def test_an_event_names_its_account_and_its_object_or_nothing(
    fields: dict[str, object], account: str | None, object_id: str | None
) -> None:
    event = read(msgspec.json.encode({**EVENT, **fields}))

    assert (event.account, event.object_id) == (account, object_id)


def test_an_id_and_a_header_may_be_just_so_long() -> None:
    body = msgspec.json.encode({**EVENT, "id": "e" * 255})
    signed = sign(body)
    more = ",v0=" + "a" * 252
    header = signed + more * 15
    header += ",v0=" + "a" * (4_096 - len(header) - 4)

    assert read(body, header).id == "e" * 255


@pytest.mark.parametrize("minutes", [-5, 5])
def test_five_minutes_are_not_too_old(minutes: int) -> None:
    assert read(header=sign(at=WALL + timedelta(minutes=minutes))).id == "evt_1"


T = int(WALL.timestamp())
MAC = sign().partition("v1=")[2]
MALFORMED = "its header is malformed"
STALE = "it is too old, or from the future"
FOREIGN = "it is not ours"
BAD_SIGNATURES: dict[str, tuple[str | None, str]] = {
    "none": ("", "it is missing"),
    "of somebody else": (sign(secret="whsec_other"), FOREIGN),
    "of another body": (sign(b"{}"), FOREIGN),
    "of another time": (f"t={T + 1},v1={MAC}", FOREIGN),
    "too old": (sign(at=WALL - timedelta(seconds=301)), STALE),
    "ahead of us": (sign(at=WALL + timedelta(seconds=301)), STALE),
    "ten years ahead": (sign(at=WALL + timedelta(days=3650)), STALE),
    "of the first scheme only": (f"t={T},v0={MAC}", FOREIGN),
    "cut short": (f"t={T},v1={MAC[:-1]}", FOREIGN),
    "upper case": (f"t={T},v1={MAC.upper()}", MALFORMED),
    "without a time": (f"v1={MAC}", MALFORMED),
    "with two times": (f"t=1,t={T},v1={MAC}", MALFORMED),
    "with a time that is no number": (f"t=now,v1={MAC}", MALFORMED),
    "with a time below zero": (f"t=-1,v1={MAC}", MALFORMED),
    "with a time of other digits": (f"t=\u0661\u0667,v1={MAC}", MALFORMED),
    "with a time beyond the calendar": (f"t={'9' * 12},v1={MAC}", FOREIGN),
    "with letters that are not ASCII": (f"t={T},v1=é", MALFORMED),
    "with a NUL": (f"t={T},v1=\0", MALFORMED),
    "with a line end": (sign() + "\n", MALFORMED),
    "with spaces": (f"t={T}, v1={MAC}", MALFORMED),
    "empty": (f"t={T},v1=", MALFORMED),
    "a word": ("signature", MALFORMED),
    "longer than 4 KiB": (f"t={T}" + f",v1={MAC}" * 64, MALFORMED),
}


@pytest.mark.parametrize("name", BAD_SIGNATURES)
def test_a_bad_signature_is_refused(name: str) -> None:
    header, why = BAD_SIGNATURES[name]

    with pytest.raises(SignatureError, match=f": {why}\\.$"):
        stripe_webhooks.read(BODY, header, secrets=[SECRET, OLD], wall=WALL)


@pytest.mark.parametrize("secrets", [(), ("",)])
def test_without_a_secret_nobody_is_believed(secrets: tuple[str, ...]) -> None:
    header = sign(secret="")

    with pytest.raises(SignatureError):
        read(header=header, secrets=secrets)


BAD_BODIES: dict[str, bytes] = {
    "empty": b"",
    "not UTF-8": b'{"id": "\xff"}',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "nested without end": b"[" * 100_000,
    "nested inside": b'{"data":' * 50_000,
    "cut": BODY[:-1],
    "followed by more": BODY + b"{}",
    "without an id": msgspec.json.encode({**EVENT, "id": None}),
    "with an empty id": msgspec.json.encode({**EVENT, "id": ""}),
    "with a long id": msgspec.json.encode({**EVENT, "id": "e" * 256}),
    "with a NUL in its id": msgspec.json.encode({**EVENT, "id": "evt\0"}),
    "without a type": msgspec.json.encode({**EVENT, "type": None}),
    "with a type that is a list": msgspec.json.encode({**EVENT, "type": []}),
    "without a mode": msgspec.json.encode({**EVENT, "livemode": "no"}),
    "with a time beyond the calendar": msgspec.json.encode({**EVENT, "created": 10**15}),
    "with a time that is no number": msgspec.json.encode({**EVENT, "created": "soon"}),
    "with an object that is a text": msgspec.json.encode({**EVENT, "data": {"object": "pi_1"}}),
    "with a long account": msgspec.json.encode({**EVENT, "account": "a" * 256}),
    "with a long context": msgspec.json.encode({**EVENT, "context": "a" * 256}),
    "with a NUL in its object": msgspec.json.encode({**EVENT, "data": {"object": {"id": "pi\0"}}}),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_signed_body_that_is_no_event_is_refused(name: str) -> None:
    with pytest.raises(InvalidEventError, match=r"^The delivery cannot be read: the body is no event\.$"):
        read(BAD_BODIES[name])


def test_the_fake_signs_as_stripe_does() -> None:
    fake = StripeFake(key="sk_test_x", secret=SECRET)

    assert read(header=fake.sign(BODY, at=WALL)).id == "evt_1"
