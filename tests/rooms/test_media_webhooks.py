"""Webhooks are believed only when signed over their very bytes, and never break the reader."""

import base64
import hashlib
import hmac
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import given, strategies as st

from rooms import media
from rooms.media import Webhook, WebhookMalformedError, WebhookSignatureError

KEY, SECRET = "fourtalk", "a secret of more than thirty-two characters"
KEYS = {KEY: SECRET}
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ROOM_ID = uuid.UUID(int=7)
# As a real server sent it, but for names and numbers.
JOINED: dict[str, Any] = {
    "event": "participant_joined",
    "room": {
        "sid": "RM_1",
        "name": media.room_name(ROOM_ID, 2),
        "emptyTimeout": 120,
        "creationTime": "1772442000",
        "turnPassword": "hush",
    },
    "participant": {
        "sid": "PA_1",
        "identity": "mai",
        "state": "ACTIVE",
        "joinedAt": "1772442001",
        "joinedAtMs": "1772442001250",
        "permission": {"canSubscribe": True, "canPublish": True},
    },
    "id": "EV_1",
    "createdAt": "1772442002",
}


def sign(raw: bytes, *, secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    told = {
        "iss": KEY,
        "nbf": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 300,
        "sha256": base64.b64encode(hashlib.sha256(raw).digest()).decode(),
        **claims,
    }
    kept = {name: value for name, value in told.items() if value is not None}
    return jwt.encode(kept, secret, algorithm=algorithm)


def decode(body: object, **claims: Any) -> Webhook:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return media.decode_webhook(raw, sign(raw, **claims), KEYS, NOW)


def changed(**fields: Any) -> dict[str, Any]:
    return {**JOINED, **fields}


def test_a_webhook_is_read() -> None:
    webhook = decode(JOINED)

    assert (webhook.event_id, webhook.type, webhook.identity, webhook.participant_sid) == (
        "EV_1",
        "participant_joined",
        "mai",
        "PA_1",
    )
    assert (webhook.room_id, webhook.generation, webhook.room_sid) == (ROOM_ID, 2, "RM_1")
    assert webhook.created_at == datetime.fromtimestamp(1772442002, UTC)
    assert webhook.joined_at == datetime.fromtimestamp(1772442001.25, UTC)
    assert webhook.counted
    assert webhook.reason is None


def test_the_turn_password_is_not_kept() -> None:
    assert "hush" not in str(decode(JOINED))


def test_nul_characters_are_not_kept() -> None:
    webhook = decode(changed(participant={"sid": "PA_1", "identity": "mai", "name": "M\x00ai"}))

    assert webhook.body["participant"]["name"] == "Mai"


@pytest.mark.parametrize(
    ("participant", "counted"),
    [
        ({"identity": "a"}, True),
        ({"identity": "a", "kind": "SIP"}, True),
        ({"identity": "a", "kind": "AGENT"}, False),
        ({"identity": "a", "kind": "EGRESS"}, False),
        ({"identity": "a", "permission": {"agent": True}}, False),
        ({"identity": "a", "permission": {"recorder": True}}, False),
    ],
)
def test_machines_take_no_seat(participant: dict[str, Any], counted: bool) -> None:
    assert decode(changed(participant=participant)).counted is counted


# Time ------------------------------------------------------------------------------------------------------------


def test_nothing_happened_after_we_heard_of_it() -> None:
    webhook = decode(JOINED)
    received_at = datetime.fromtimestamp(1772442000, UTC)

    assert webhook.time(received_at=received_at) == received_at


def test_a_late_webhook_keeps_its_time() -> None:
    webhook = decode(JOINED)

    assert webhook.time(received_at=NOW + timedelta(days=1)) == webhook.created_at


def test_a_webhook_without_a_time_happened_when_we_heard_of_it() -> None:
    webhook = decode({name: value for name, value in JOINED.items() if name != "createdAt"})

    assert webhook.time(received_at=NOW) == NOW


def test_wall_time_can_be_turned_into_business_time() -> None:
    webhook, shift = decode(JOINED), timedelta(days=3)
    assert webhook.created_at is not None

    assert webhook.time(received_at=NOW + timedelta(days=9), shift=shift) == webhook.created_at + shift


# Signatures ------------------------------------------------------------------------------------------------------


def test_a_changed_body_is_refused() -> None:
    raw = msgspec.json.encode(JOINED)

    with pytest.raises(WebhookSignatureError):
        media.decode_webhook(raw.replace(b"mai", b"eve"), sign(raw), KEYS, NOW)


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"secret": SECRET[::-1]}, id="another secret"),
        pytest.param({"iss": "stranger"}, id="unknown issuer"),
        pytest.param({"iss": None}, id="no issuer"),
        pytest.param({"algorithm": "HS512"}, id="another algorithm"),
        pytest.param({"sha256": None}, id="no digest"),
        pytest.param({"sha256": "%%%"}, id="a digest that is no base64"),
        pytest.param({"sha256": "MTIz"}, id="another digest"),
        pytest.param({"exp": None}, id="no end"),
        pytest.param({"exp": "soon"}, id="an end that is no number"),
        pytest.param({"exp": int(NOW.timestamp()) - 61}, id="over"),
        pytest.param({"nbf": int(NOW.timestamp()) + 61}, id="not yet"),
    ],
)
@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_a_signature_that_does_not_hold_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(WebhookSignatureError):
        decode(JOINED, **claims)


@pytest.mark.parametrize("issuer", [None, "", ["fourtalk"], {}, 7], ids=str)
@pytest.mark.parametrize("secret", [b"", b"None", SECRET.encode()], ids=["empty", "word", "right"])
def test_a_token_that_a_library_would_not_write_is_refused(issuer: object, secret: bytes) -> None:
    raw = msgspec.json.encode(JOINED)
    claims = {
        "iss": issuer,
        "exp": int(NOW.timestamp()) + 300,
        "sha256": base64.b64encode(hashlib.sha256(raw).digest()).decode(),
    }
    parts = [b'{"alg":"HS256","typ":"JWT"}', msgspec.json.encode(claims)]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=")

    with pytest.raises(WebhookSignatureError):
        media.decode_webhook(raw, (signed + b"." + signature).decode(), KEYS, NOW)


@pytest.mark.parametrize("seconds", [-59, 300 + 59])
def test_clocks_may_differ_by_a_minute(seconds: int) -> None:
    raw = msgspec.json.encode(JOINED)

    webhook = media.decode_webhook(raw, sign(raw), KEYS, NOW + timedelta(seconds=seconds))

    assert webhook.event_id == "EV_1"


@given(st.text(max_size=200))
def test_any_other_header_is_refused(header: str) -> None:
    with pytest.raises(WebhookSignatureError):
        media.decode_webhook(b"{}", header, KEYS, NOW)


def test_a_header_that_nests_deeply_is_refused() -> None:
    deep = base64.urlsafe_b64encode(b"[" * 20_000).decode().rstrip("=")

    with pytest.raises(WebhookSignatureError):
        media.decode_webhook(b"{}", f"{deep}.{deep}.x", KEYS, NOW)


def test_an_unsigned_token_is_refused() -> None:
    raw = msgspec.json.encode(JOINED)
    claims = {"iss": KEY, "exp": int(NOW.timestamp()) + 300, "sha256": base64.b64encode(raw).decode()}
    token = jwt.encode(claims, "", algorithm="none")

    with pytest.raises(WebhookSignatureError):
        media.decode_webhook(raw, token, KEYS, NOW)


def test_keys_can_be_changed_without_losing_events() -> None:
    raw, newer = msgspec.json.encode(JOINED), SECRET[::-1]
    keys = {**KEYS, "newer": newer}

    old = media.decode_webhook(raw, sign(raw), keys, NOW)
    new = media.decode_webhook(raw, sign(raw, secret=newer, iss="newer"), keys, NOW)

    assert old == new


def test_errors_do_not_say_why() -> None:
    with pytest.raises(
        WebhookSignatureError, match=r"^The signature of the webhook does not hold\.$"
    ) as caught:
        decode(JOINED, iss="stranger")

    assert caught.value.__suppress_context__


# Bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"{", id="half"),
        pytest.param(b'{"id":"\xff\xfe"}', id="not UTF-8"),
        pytest.param(b"[" * 60_000, id="deep"),
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, id="deep and whole"),
        pytest.param(b'{"id":"' + b"x" * 70_000 + b'"}', id="big"),
        pytest.param(b'{"event":"room_started"}', id="no id"),
        pytest.param(b'{"id":"","event":"room_started"}', id="an empty id"),
        pytest.param(b'{"id":"EV_1"}', id="no event"),
        pytest.param(b'{"id":7,"event":"room_started"}', id="an id that is no text"),
        pytest.param(b'{"id":"EV_1","event":"x","room":7}', id="a room that is no room"),
        pytest.param(b'{"id":"EV_1","event":"x","createdAt":"soon"}', id="a time that is none"),
        pytest.param(b'{"id":"EV_1","event":"x","createdAt":"9223372036854775807"}', id="a time far away"),
        pytest.param(b'{"id":"EV_1","event":"x","createdAt":1e999}', id="an endless number"),
    ],
)
def test_a_signed_body_that_is_no_webhook_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookMalformedError):
        decode(body)


@given(st.binary(max_size=300))
def test_no_signed_body_breaks_the_reader(body: bytes) -> None:
    with pytest.raises(WebhookMalformedError):
        decode(body)
