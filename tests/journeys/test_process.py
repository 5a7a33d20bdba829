"""The life of a server process: drain, restart on the same data, and a second one that is refused."""

import asyncio
from pathlib import Path

import pytest

from tests.journeys.people import story, town
from tests.journeys.product import Product

pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]


async def test_sigterm_sends_sockets_elsewhere_and_a_restart_knows_everything(tmp_path: Path) -> None:
    product = Product(tmp_path)
    with product:
        async with town(product) as people:
            host, guest = await people.mint(2)
            made = await host.call("POST", "/api/v1/talks", {"title": "Before and after", "language": "en"})
            room = f"room:{made['room_id']}"
            for person in (host, guest):
                await person.connect()
                await person.join(made["room_id"])
            sub = (await guest.join(made["room_id"]))["sub"]
            await host.ask("chat.send", {"text": "before"}, ch=room)
            travelled = await people.advance(hours=1)

            second = await asyncio.to_thread(product.command, "serve", "--port", "0", "--time-travel")
            assert second.returncode == 1
            assert second.stdout == ""
            assert "fourtalk: " in second.stderr
            assert str(tmp_path / "data") in second.stderr

            assert await asyncio.to_thread(product.stop) == 0
            assert [await person.device.closed() for person in (host, guest)] == [4200, 4200]

        product.start()
        async with story(product) as people:
            assert await people.now() >= travelled
            since = [{"ch": room, **sub}]
            back = await people.open_socket()
            connected = await back.connect(guest.token, since=since)
            recovered = connected["subs"][room]
            assert recovered["recovered"] is True
            assert "before" in [event["d"].get("text") for event in recovered["events"]]
            seat = (await back.ask("room.join", {"room_id": made["room_id"]}))["seat"]
            assert seat["no"] == 2
        assert product.stop() == 0


def test_unusable_settings_stop_the_start_and_name_the_variable(tmp_path: Path) -> None:
    for name, value in (("FOURTALK_NONSENSE", "1"), ("RATE_LIMITS", "maybe"), ("SECRET_KEY", "short")):
        done = Product(tmp_path, environment={name: value}).command("serve", "--port", "0")

        assert done.returncode == 1
        assert name in done.stderr


def test_time_does_not_travel_in_a_configured_database(tmp_path: Path) -> None:
    product = Product(tmp_path, environment={"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})

    done = product.command("serve", "--port", "0", "--time-travel")

    assert done.returncode == 1
    assert "--time-travel" in done.stderr
