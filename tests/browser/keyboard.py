"""A page without a mouse: Tab, Enter, Space and Escape, with the focus always somewhere and always to be seen."""

from playwright.async_api import Locator, Page, expect

# More than any page has.
STEPS = 80
# Round the address bar of the browser the focus is on the page itself for a moment; a control that is drawn by its label shows it there,
# and a link that stands for its whole card round the card.
# Seen is what looks otherwise than the same without the focus: a copy beside it, without a name that would take its choice away.
REACHED = """async wanted => {
    const has = document.activeElement;
    const ring = ({ boxShadow, outlineStyle, outlineColor }) => `${boxShadow} ${outlineColor === "rgba(0, 0, 0, 0)" ? "none" : outlineStyle}`;
    const look = one => ["", "::after"].map(part => ring(getComputedStyle(one, part))).join();
    const differs = one => {
        const copy = one.cloneNode(true);
        for (const named of [copy, ...copy.querySelectorAll("[name]")]) named.removeAttribute("name");
        one.after(copy);
        const without = look(copy);
        copy.remove();
        return look(one) !== without;
    };
    let isSeen = has === document.body;
    // It may fade in.
    for (let frame = 0; frame < 30 && !isSeen; frame++) {
        isSeen = [has, has?.closest("label"), ...(has?.labels ?? [])].filter(Boolean).some(differs);
        if (!isSeen) await new Promise(requestAnimationFrame);
    }
    return { isSeen, isThere: has === wanted, html: has?.outerHTML.slice(0, 120) };
}"""


async def to(wanted: Locator) -> None:
    """Press Tab until something has the focus."""
    await expect(wanted).to_be_visible()
    element = await wanted.element_handle()
    for _ in range(STEPS):
        await wanted.page.keyboard.press("Tab")
        reached = await wanted.page.evaluate(REACHED, element)
        assert reached["isSeen"], f"nobody sees that this has the focus: {reached['html']}"
        if reached["isThere"]:
            return
    raise AssertionError(f"not reached by Tab: {wanted}")


async def press(wanted: Locator, key: str = "Enter") -> None:
    """Go to something and press it."""
    await to(wanted)
    await wanted.page.keyboard.press(key)


async def type_in(wanted: Locator, text: str) -> None:
    """Go to a field and fill it."""
    await to(wanted)
    await wanted.page.keyboard.insert_text(text)


async def shut(page: Page) -> None:
    """Leave a dialog with Escape; the focus is not lost with it."""
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await keeps_focus(page)


async def keeps_focus(page: Page) -> None:
    """Wait until something in the page has the focus."""
    await page.wait_for_function("() => document.activeElement !== document.body")
