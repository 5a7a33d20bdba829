"""The same talk where the server has a media server: people see each other through it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Enter
from tests.browser.test_talk import come, member, sees_moving, start
from tests.journeys.product import Product
from tests.livekit.conftest import livekit_bin

__all__ = ["livekit_bin"]


@pytest.fixture
def with_media(livekit_bin: Path, product: Product, tmp_path: Path) -> Iterator[Product]:
    """A server with a LiveKit beside it; it serves the client that `product` has made."""
    with Product(tmp_path, environment={"FOURTALK_LIVEKIT_BIN": str(livekit_bin)}) as found:
        yield found


@pytest.mark.timeout(180)
async def test_two_see_each_other_through_a_media_server(enter: Enter, with_media: Product) -> None:
    an, link = await start(enter, "An", base_url=with_media.base)
    binh = await come(enter, "Binh", link, base_url=with_media.base)
    for page in (an, binh):
        await sees_moving(page, 1)

    await binh.get_by_role("button", name="Camera").click()
    await expect(an.locator(".tile", has_text="Binh Tran").locator("video.dark")).to_have_count(1)
    await binh.get_by_role("button", name="Camera").click()
    await sees_moving(an, 1)

    assert await asyncio.to_thread(with_media.violations) == []


@pytest.mark.timeout(600)
async def test_four_see_each_other_through_a_media_server_and_a_fifth_waits(
    enter: Enter, with_media: Product, full: bool
) -> None:
    if not full:
        pytest.skip("five people's video takes both cores: --full")
    base = with_media.base
    an, link = await start(enter, "An", base_url=base)
    binh, chi, dung = [await come(enter, name, link, base_url=base) for name in ("Binh", "Chi", "Dung")]
    for page in (an, binh, chi, dung):
        await sees_moving(page, 3)

    em = await member(enter, "Em", link, base_url=base)
    await em.get_by_role("button", name="Wait for a seat").click()
    await expect(em.get_by_text("You are the next in line.")).to_be_visible()
    await chi.get_by_role("button", name="Leave", exact=True).click()
    await em.get_by_role("button", name="Take the seat").click()
    for page in (an, binh, dung, em):
        await sees_moving(page, 3)
