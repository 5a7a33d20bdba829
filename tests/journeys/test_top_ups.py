"""Money into a wallet with nothing configured: the page of test payments, the webhook that comes of it, and a restart."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.people import Person, Town, story, town, usd
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]

FORM = "application/x-www-form-urlencoded"


async def start(person: Person, amount: int = 2_500, **more: Any) -> Any:
    return await person.call("POST", "/api/v1/top-ups", {"amount": usd(amount), **more})


async def pay(people: Town, url: str, form: bytes = b"") -> Any:
    """Press the button on the page, as a browser does; return where it is sent."""
    path = url.removeprefix(people.product.base)
    assert path.startswith("/test-payments/")
    page = await people.send("GET", path)
    assert page.status == 200
    assert b"no money moves" in page.content
    return await people.send("POST", path, form, **{"Content-Type": FORM})


async def test_a_top_up_is_paid_on_its_page_and_seen_at_once(product: Product) -> None:
    async with story(product) as people:
        [ann] = await people.mint()
        await ann.connect()
        made = await start(ann)
        assert (made["status"], made["test"], made["amount"]) == ("pending", True, usd(2_500))

        await pay(people, made["url"], b"save=true")
        again = await people.send("GET", made["url"].removeprefix(product.base))
        assert (again.status, f"/wallet?top_up={made['id']}".encode() in again.content) == (404, True)

        await ann.saw("top_up.updated", top_up_id=made["id"], status="succeeded")
        await ann.saw("wallet.updated")
        assert (await ann.notified("top_up_succeeded"))["data"]["amount"] == usd(2_500)
        assert await ann.wallet() == (2_500, 0, 0)
        [entry] = (await ann.call("GET", "/api/v1/wallet/entries"))["items"]
        assert (entry["kind"], entry["amount"]) == ("top_up", usd(2_500))
        again = await people.send("GET", made["url"].removeprefix(people.product.base))
        assert again.status == 404


async def test_the_card_that_was_saved_pays_the_next_time(product: Product) -> None:
    async with story(product) as people:
        [ann, eve] = await people.mint(2)
        await pay(people, (await start(ann))["url"], b"save=true")
        listed = await ann.call("GET", "/api/v1/payment-methods")
        [card] = listed["items"]
        assert (card["last4"], listed["test"]) == ("4242", True)

        done = await start(ann, 1_000, way="saved", method_id=card["id"])
        stolen = await eve.send(
            "POST", "/api/v1/top-ups", {"amount": usd(1_000), "way": "saved", "method_id": card["id"]}
        )
        removed = await ann.call("DELETE", f"/api/v1/payment-methods/{card['id']}")

        assert done["status"] == "succeeded"
        assert (stolen.status, stolen.body["code"]) == (404, "payment_method_not_found")
        assert removed == {"id": card["id"], "test": True}
        assert (await ann.call("GET", "/api/v1/payment-methods"))["items"] == []
        assert (await ann.wallet())[0] == 3_500


async def test_a_key_starts_one_top_up(product: Product) -> None:
    async with story(product) as people:
        [ann] = await people.mint()
        body, key = {"amount": usd(700)}, {"Idempotency-Key": "my-top-up"}

        answers = await asyncio.gather(*(ann.send("POST", "/api/v1/top-ups", body, **key) for _ in range(5)))
        # Stripe refuses a second request while the first is being made, which may be repeated.
        first = await ann.send("POST", "/api/v1/top-ups", body, **key)
        other = await ann.send("POST", "/api/v1/top-ups", {"amount": usd(701)}, **key)

        assert {answer.status for answer in answers} <= {201, 503}
        assert first.status == 201
        assert (other.status, other.body["code"]) == (422, "idempotency_mismatch")
        assert [one["id"] for one in (await ann.call("GET", "/api/v1/top-ups"))["items"]] == [
            first.body["id"]
        ]


async def test_what_a_top_up_may_bring_is_what_is_shown(product: Product) -> None:
    async with story(product) as people:
        [ann, eve] = await people.mint(2)
        terms = await ann.call("GET", "/api/v1/top-ups")
        assert (terms["least"], terms["most"], terms["test"]) == (usd(500), usd(1_000_000), True)

        refused = [
            await ann.send("POST", "/api/v1/top-ups", {"amount": usd(amount)}) for amount in (499, 1_000_001)
        ]
        made = await start(ann, 500)
        foreign = await eve.send("GET", f"/api/v1/top-ups/{made['id']}")
        bad = await ann.send("POST", "/api/v1/top-ups", {"amount": usd(500), "way": "saved"})

        assert [(one.status, one.body["code"]) for one in refused] == [(400, "top_up_out_of_range")] * 2
        assert foreign.status == 404
        assert bad.status == 400


async def test_money_is_the_same_after_a_restart(tmp_path: Path) -> None:
    product = Product(tmp_path)
    with product:
        async with town(product) as people:
            [ann] = await people.mint()
            paid, waiting = await start(ann), await start(ann, 1_500)
            await pay(people, paid["url"], b"save=true")
        assert await asyncio.to_thread(product.stop) == 0

        product.start()
        async with story(product) as people:
            # The page that was open still is, the card that was saved still pays, and a refused second payment stays so.
            await pay(people, waiting["url"])
            # What was told of the first payment may have been on its way when the server ended; the payer's return asks.
            before = await ann_of(people, ann).call("GET", f"/api/v1/top-ups/{paid['id']}")
            after = await ann_of(people, ann).call("GET", f"/api/v1/top-ups/{waiting['id']}")
            methods = await ann_of(people, ann).call("GET", "/api/v1/payment-methods")
            closed = await people.send("POST", paid["url"].removeprefix(people.product.base))

            assert (before["status"], after["status"]) == ("succeeded", "succeeded")
            assert len(methods["items"]) == 1
            assert closed.status == 404
            assert (await ann_of(people, ann).wallet())[0] == 4_000
            await people.advance(hours=1)
            assert "stripe_differs" not in product.words
        assert product.violations() == []


def ann_of(people: Town, ann: Person) -> Person:
    """The same person in another town."""
    return Person(people, user_id=ann.id, token=ann.token, email=ann.email)
