"""Statements, tables and papers over HTTP."""

import asyncio
import csv
import hashlib
import io
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from uuid import uuid4

import pytest
from fontTools.ttLib import TTFont
from sqlalchemy import select, text, update

from billing import explanation
from billing.models import Paper
from billing.money import Money
from server import spreadsheet, texts
from server.features.accounts.models import User
from server.features.wallet import statements
from server.integrations import pdf
from server.integrations.sheet import Sheet
from tests.server.school import START, School
from tests.server.test_wallet import adjustment
from tests.server.world import Person

SHEET = Sheet(
    language="vi",
    issuer="fourtalk",
    title="Sao kê tài khoản",
    facts=(("Họ tên", "Nguyễn Thị Ánh"), ("Lý do", "Một lý do rất dài. " * 30)),
    heading=("Ngày", "Nội dung", "Lý do", "Số tiền", "Số dư sau"),
    rows=tuple((f"2026-01-{day:02}", "Nạp tiền", "dài " * 40, "1,00 USD", "2,00 USD") for day in range(1, 30))
    * 3,
    widths=(30, 38, 50, 28, 28),
    numbers=2,
    notes=("Số tiền có dấu trừ là tiền ra.",),
    issued_at=datetime(2026, 3, 1, 12, tzinfo=UTC),
)


async def spender(school: School) -> Person:
    """Somebody who was given 100.00 and spent all of it on a session, some of which came back."""
    (student,) = await school.students(1, cents=10_000)
    course = await school.course()
    bought = await school.buy(student, course, course["sessions"][0])
    await school.do("POST", f"/purchases/{bought['id']}/cancel", student)
    return student


def cells(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


async def speak_vietnamese(school: School, person: Person) -> None:
    async with school.world.parts.sessions.begin() as session:
        await session.execute(update(User).where(User.id == person.id).values(locale="vi"))


async def test_a_statement_says_what_was_there_what_moved_and_what_is_there(school: School) -> None:
    student = await spender(school)

    found = await school.do("GET", "/wallet/statement", student)

    assert (found["account"], found["since"], found["until"]) == ("wallet", "2030-01-01", "2030-01-07")
    assert (found["opening"]["amount"], found["closing"]["amount"]) == (0, 10_000)
    moved = [
        (item["kind"], item["amount"]["amount"], item["balance_after"]["amount"]) for item in found["items"]
    ]
    assert moved == [
        ("admin_adjustment", 10_000, 10_000),
        ("purchase", -10_000, 0),
        ("refund", 10_000, 10_000),
    ]
    assert found["items"][1]["title"] == "Purchase"


async def test_a_statement_is_of_a_period_and_a_kind(school: School) -> None:
    student = await spender(school)

    later = await school.do("GET", "/wallet/statement?since=2030-01-08&until=2030-01-31", student)
    purchases = await school.do("GET", "/wallet/statement?kind=purchase", student)
    earnings = await school.do("GET", "/wallet/statement?account=earnings", school.tutor)
    wrong = [
        await school.ask("GET", f"/wallet/statement?{query}", student)
        for query in ("since=2030-02-01&until=2030-01-01", "account=stripe", "until=9999-12-31", "kind=theft")
    ]

    assert (later["opening"]["amount"], later["closing"]["amount"], later["items"]) == (10_000, 10_000, [])
    assert [item["kind"] for item in purchases["items"]] == ["purchase"]
    assert earnings["items"] == []
    assert [answer.status_code for answer in wrong] == [400] * 4


async def test_the_table_is_a_real_file(school: School) -> None:
    student = await spender(school)
    await speak_vietnamese(school, student)

    answer = await school.ask("GET", "/wallet/statement.csv", student)

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="wallet-2030-01-01-2030-01-07.csv"'
    assert answer.headers["cache-control"] == "private, no-store"
    rows = cells(answer.content)
    assert [(row["title"], row["amount"], row["balance_after"]) for row in rows] == [
        ("Điều chỉnh", "100.00", "100.00"),
        ("Mua", "-100.00", "0.00"),
        ("Hoàn tiền", "100.00", "100.00"),
    ]


async def test_what_an_administrator_wrote_is_no_formula(school: School) -> None:
    (student,) = await school.students(1, cents=0)
    body = adjustment(student.id, 5_000, reason='=HYPERLINK("http://x","y")')
    await school.do("POST", "/admin/wallet-adjustments", school.admin, body)

    [row] = cells((await school.ask("GET", "/wallet/statement.csv", student)).content)

    assert row["reason"] == '\'=HYPERLINK("http://x","y")'


@pytest.mark.parametrize("start", ["=1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1"])
def test_no_text_begins_a_formula_and_numbers_stay_numbers(start: str) -> None:
    [row] = cells(spreadsheet.table(("text", "amount"), [(start, Money(-5))]))

    assert row["text"].startswith("'")
    assert (row["text"].replace("'", ""), row["amount"]) == (start, "-0.05")


@pytest.mark.parametrize("text", ["sorry;=1+2;xx", 'a;"=1+2"', "a,b\n@x", ";;\t-1", "x; +1"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_no_cell_begins_a_formula_whatever_separates_cells(text: str, separator: str) -> None:
    file = spreadsheet.table(("id", "text", "amount"), [(7, text, Money(5)), (8, "bien; tout - bien", None)])

    rows = [*csv.reader(io.StringIO(file.decode("utf-8-sig"), newline=""), delimiter=separator)]

    begun = [cell.lstrip()[:1] for row in rows for cell in row]
    assert not set(begun) & set("=+-@")
    assert "bien; tout - bien" in file.decode()


async def test_withdrawals_are_a_real_file_too(school: School) -> None:
    answer = await school.ask("GET", "/withdrawals/export", school.tutor)

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.content.decode("utf-8-sig").startswith("id,requested_at,")


async def paper(school: School, path: str, person: Person | None) -> Any:
    answer = await school.ask("GET", path, person)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-")
    return answer


async def test_papers_have_numbers_and_are_given_again_as_they_were(school: School) -> None:
    student = await spender(school)
    entries = (await school.do("GET", "/wallet/entries", student))["items"]
    hold_id = (await school.do("GET", "/holds", student))["items"][0]["id"]
    paths = [
        f"/wallet/entries/{entries[0]['id']}/receipt.pdf",
        f"/holds/{hold_id}/receipt.pdf",
        "/wallet/statement.pdf",
    ]

    first = [await paper(school, path, student) for path in paths]
    again = [await paper(school, path, student) for path in paths]

    names = [answer.headers["content-disposition"].partition("=")[2] for answer in first]
    assert names == ['"entry-2030-000001.pdf"', '"hold-2030-000002.pdf"', '"statement-2030-000003.pdf"']
    assert [answer.content for answer in again] == [answer.content for answer in first]
    async with school.world.parts.sessions() as session:
        stored = (await session.scalars(select(Paper.pdf_sha256).order_by(Paper.number))).all()
    assert stored == [hashlib.sha256(answer.content).digest() for answer in first]


async def test_papers_are_for_whom_they_are_about(school: School) -> None:
    student = await spender(school)
    (stranger,) = await school.students(1)
    entry = (await school.do("GET", "/wallet/entries", student))["items"][0]["id"]
    hold_id = (await school.do("GET", "/holds", student))["items"][0]["id"]

    codes = {
        path: [(await school.ask("GET", path, who)).status_code for who in (stranger, school.admin, None)]
        for path in (
            f"/wallet/entries/{entry}/receipt.pdf",
            f"/holds/{hold_id}/receipt.pdf",
            f"/top-ups/{uuid4()}/receipt.pdf",
        )
    }

    foreign, none = [
        await school.ask("GET", f"/holds/{one}/receipt.pdf", stranger) for one in (hold_id, uuid4())
    ]

    assert set(map(tuple, codes.values())) == {(404, 404, 401)}
    assert foreign.json()["code"] == none.json()["code"]
    assert (await school.ask("GET", "/wallet/entries/99-99/receipt.pdf", student)).status_code == 404
    assert (await school.ask("GET", "/wallet/entries/abc/receipt.pdf", student)).status_code == 400


async def test_what_is_not_settled_or_paid_has_no_paper(school: School) -> None:
    (student,) = await school.students(1)
    course = await school.course()
    bought = await school.buy(student, course, course["sessions"][0])

    answer = await school.ask("GET", f"/holds/{bought['holds'][0]['id']}/receipt.pdf", student)

    assert (answer.status_code, answer.json()["code"]) == (409, "not_settled")


async def test_a_paid_top_up_has_a_paper(school: School) -> None:
    (student,) = await school.students(1)
    started = await school.do("POST", "/top-ups", student, {"amount": {"amount": 2_000, "currency": "USD"}})
    early = await school.ask("GET", f"/top-ups/{started['id']}/receipt.pdf", student)
    async with school.world.parts.sessions.begin() as session:
        await session.execute(text("set local session_replication_role = replica"))
        await session.execute(
            text(
                "update top_up set status = 'succeeded', payment_id = 'pi_1', ended_at = :now,"
                " journal_id = (select max(id) from ledger_journal)"
            ),
            {"now": START},
        )

    answer = await paper(school, f"/top-ups/{started['id']}/receipt.pdf", student)

    assert (early.status_code, early.json()["code"]) == (409, "top_up_not_paid")
    assert 'filename="top-up-2030-000001.pdf"' in answer.headers["content-disposition"]


async def test_a_long_period_is_a_table_and_no_paper(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    student = await spender(school)
    monkeypatch.setattr(statements, "PAPER_LINES_MOST", 2)

    answer = await school.ask("GET", "/wallet/statement.pdf", student)

    assert (answer.status_code, answer.json()["code"]) == (400, "statement_too_long")
    assert len(cells((await school.ask("GET", "/wallet/statement.csv", student)).content)) == 3


async def test_an_administrator_undoes_a_journal_and_it_is_audited(school: School) -> None:
    (student,) = await school.students(1, cents=5_000)
    [entry] = (await school.do("GET", "/wallet/entries", student))["items"]
    path = f"/admin/journals/{entry['id'].partition('-')[0]}/reverse"
    body = {"reason": "It was the wrong person."}

    refused = [
        (await school.ask("POST", path, who, body)).status_code for who in (None, student, school.tutor)
    ]
    done = await school.do("POST", path, school.admin, body)
    again = await school.ask("POST", path, school.admin, body)

    assert refused == [401, 403, 403]
    assert (done["reverses"], done["kind"]) == (entry["id"].partition("-")[0], "admin_adjustment")
    assert (again.status_code, again.json()["code"]) == (409, "already_reversed")
    assert await school.balance(student) == 0
    statement = await school.do("GET", "/wallet/statement", student)
    assert [item["title"] for item in statement["items"]] == ["Adjustment", "Reversal"]
    assert await school.violations() == []


# --- The file -------------------------------------------------------------------------------------------------


def test_the_same_sheet_gives_the_same_bytes() -> None:
    assert pdf.render(SHEET) == pdf.render(SHEET)


async def test_the_font_knows_every_letter_that_we_say() -> None:
    said = "".join(explanation.TEXTS["vi"].values())
    for catalogue in (texts.ENTRIES, texts.PAPERS):
        said += "".join(words for entry in catalogue.values() for words in entry.vi)
    said += "".join(vi for _, vi in texts.LABELS.values())

    def known() -> set[int]:
        fonts = resources.files(pdf._FONTS) / "files"
        found: set[int] = set(range(0x110000))
        for name in pdf._FILES.values():
            with resources.as_file(fonts / name) as file:
                found &= set(TTFont(file).getBestCmap())
        return found

    assert {ord(letter) for letter in said} - await asyncio.to_thread(known) == set()


def test_labels_are_said_in_both_languages() -> None:
    assert all(en and vi and en != vi for en, vi in texts.LABELS.values())
