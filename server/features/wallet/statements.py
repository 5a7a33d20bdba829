"""Statements and receipts of the caller's money: as an answer, as a table, as a paper (B-11)."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import msgspec

from billing import explanation, hold_views, papers, statements, top_ups, wallet
from billing.errors import HoldNotFoundError, StatementTooLongError
from billing.models import AccountKind, HoldId, OwnerId, PaperKind, TopUpStatus
from billing.money import Money
from billing.papers import Issue, Wish
from billing.statements import Line, Statement
from rooms.errors import NotSettledError
from server import spreadsheet, texts
from server.context import Command, Context
from server.download import Csv, Pdf
from server.errors import BadRequestError, ConflictError, FieldError
from server.features.accounts.models import User, user_of
from server.features.wallet.messages import (
    GetEntryPaper,
    GetHoldPaper,
    GetStatement,
    GetStatementPaper,
    GetStatementTable,
    GetTopUpPaper,
    Reference,
    StatementLine,
    StatementView,
)
from server.integrations.sheet import Sheet
from server.texts import label

# Ten years: longer than anybody must keep such papers.
DAYS_MOST = 3_653
# A second of a processor for a paper, while whoever else wants one waits for its number; the table takes more.
PAPER_LINES_MOST = 500

COLUMNS = (
    "id",
    "at",
    "kind",
    "title",
    "amount",
    "currency",
    "balance_before",
    "balance_after",
    "reason",
    "reference_type",
    "reference_id",
)
_HEADING = ("date", "what", "reason", "amount", "after")
_WIDTHS = (30, 38, 50, 28, 28)
_ISSUER = "fourtalk"


class _Asked(msgspec.Struct, frozen=True):
    """A statement, and whose calendar its days are of."""

    user: User
    since: date
    until: date
    statement: Statement


async def get_statement(ctx: Context, command: GetStatement) -> StatementView:
    """Return what happened to one account of the caller in a period.

    Raises:
        StatementTooLongError: Too much happened for one statement.
    """
    asked = await _asked(ctx, command)
    found = asked.statement
    return StatementView(
        account=found.account,
        since=asked.since,
        until=asked.until,
        timezone=asked.user.timezone,
        opening=found.opening,
        closing=found.closing,
        items=tuple(
            StatementLine(
                id=line.entry_id,
                kind=line.kind,
                title=_title(line, asked.user),
                amount=line.amount,
                balance_before=line.before,
                balance_after=line.after,
                reason=_reason(line, asked.user),
                reference=Reference(line.ref_type, line.ref_id),
                at=line.at,
            )
            for line in found.lines
        ),
    )


async def get_statement_table(ctx: Context, command: GetStatementTable) -> Csv:
    """Return the same as a table for a spreadsheet.

    Raises:
        StatementTooLongError: Too much happened for one statement.
    """
    asked = await _asked(ctx, command)
    rows = (
        (
            line.entry_id,
            line.at,
            line.kind.value,
            _title(line, asked.user),
            line.amount,
            line.amount.currency,
            line.before,
            line.after,
            _reason(line, asked.user),
            line.ref_type,
            line.ref_id,
        )
        for line in asked.statement.lines
    )
    return Csv(f"{_file_name(asked)}.csv", spreadsheet.table(COLUMNS, rows))


async def get_statement_paper(ctx: Context, command: GetStatementPaper) -> Pdf:
    """Return the same as a numbered paper.

    Raises:
        StatementTooLongError: Too much happened for one paper.
    """
    asked = await _asked(ctx, command)
    user, found = asked.user, asked.statement
    if len(found.lines) > PAPER_LINES_MOST:
        raise StatementTooLongError(PAPER_LINES_MOST)
    facts = [
        ("account", label(found.account, user.locale)),
        ("period", f"{asked.since:%Y-%m-%d} … {asked.until:%Y-%m-%d}"),
        ("opening", texts.money(found.opening, user.locale)),
        ("closing", texts.money(found.closing, user.locale)),
    ]
    zone = ZoneInfo(user.timezone)
    rows = tuple(
        (
            f"{line.at.astimezone(zone):%Y-%m-%d %H:%M}",
            _title(line, user),
            _reason(line, user),
            texts.money(line.amount, user.locale),
            texts.money(line.after, user.locale),
        )
        for line in found.lines
    )
    # The days end where the caller's do, so the same days elsewhere are another paper; facts say so by the zone.
    subject = f"{_file_name(asked)}:{command.kind or 'all'}"
    return await _paper(ctx, user, PaperKind.STATEMENT, subject, facts, rows=rows, timezone=user.timezone)


async def get_entry_paper(ctx: Context, command: GetEntryPaper) -> Pdf:
    """Return the paper of one movement of the caller's money.

    Raises:
        EntryNotFoundError: There is none.
    """
    user = await user_of(ctx.session, ctx.user.user_id)
    # Nineteen digits may pass 64 bits, and nothing has those.
    journal_id, account_id = (min(int(part), wallet.ID_MOST) for part in command.entry_id.split("-"))
    account, line = await statements.entry(ctx.session, OwnerId(user.id), journal_id, account_id)
    facts = [
        ("what", _title(line, user)),
        ("account", label(account, user.locale)),
        ("amount", texts.money(line.amount, user.locale)),
        ("before", texts.money(line.before, user.locale)),
        ("after", texts.money(line.after, user.locale)),
        ("reason", _reason(line, user)),
        ("reference", f"{line.ref_type} {line.ref_id}"),
        ("date", _moment(line.at)),
    ]
    return await _paper(ctx, user, PaperKind.ENTRY, command.entry_id, facts)


async def get_hold_paper(ctx: Context, command: GetHoldPaper) -> Pdf:
    """Return the paper of a hold that was settled, for its student or its tutor.

    Raises:
        HoldNotFoundError: There is none that the caller may know of.
        NotSettledError: It is still held.
    """
    user = await user_of(ctx.session, ctx.user.user_id)
    hold = await hold_views.view(ctx.session, HoldId(command.hold_id))
    if user.id not in (hold.student_id, hold.tutor_id):
        raise HoldNotFoundError(hold.id)
    if hold.settled_at is None:
        raise NotSettledError
    now = hold.adjustments[-1] if hold.adjustments else hold
    facts = [
        ("amount", texts.money(hold.amount, user.locale)),
        ("tutor_share", texts.money(now.tutor_share, user.locale)),
        ("platform_share", texts.money(now.platform_share, user.locale)),
        ("refunded", texts.money(now.refunded, user.locale)),
        ("placed", _moment(hold.placed_at)),
        ("settled", _moment(hold.settled_at)),
        ("reference", f"hold {hold.id}"),
    ]
    said = explanation.explain(hold, "vi" if user.locale == "vi" else "en")
    return await _paper(ctx, user, PaperKind.HOLD, str(hold.id), facts, explanation=said)


async def get_top_up_paper(ctx: Context, command: GetTopUpPaper) -> Pdf:
    """Return the paper of a top-up of the caller that succeeded.

    Raises:
        TopUpNotFoundError: There is none.
        ConflictError: It was not paid.
    """
    user = await user_of(ctx.session, ctx.user.user_id)
    paid = await top_ups.get(ctx.session, OwnerId(user.id), command.top_up_id)
    if paid.status != TopUpStatus.SUCCEEDED or paid.ended_at is None:
        raise ConflictError("This top-up was not paid.", code="top_up_not_paid")
    facts = [
        ("amount", texts.money(Money(paid.amount, paid.currency), user.locale)),
        ("date", _moment(paid.ended_at)),
        ("payment", paid.payment_id or ""),
        ("reference", f"top_up {paid.id}"),
    ]
    return await _paper(ctx, user, PaperKind.TOP_UP, str(paid.id), facts)


async def _asked(ctx: Context, command: GetStatement) -> _Asked:
    user = await user_of(ctx.session, ctx.user.user_id)
    zone = ZoneInfo(user.timezone)
    until = command.until or ctx.now.astimezone(zone).date()
    since = command.since or until.replace(day=1)
    if not timedelta() <= until - since <= timedelta(days=DAYS_MOST) or until == date.max:
        raise BadRequestError("That is no period.", (FieldError("since", f"at most {DAYS_MOST} days"),))
    found = await statements.statement(
        ctx.session,
        OwnerId(user.id),
        AccountKind(command.account),
        since=_midnight(since, zone),
        until=_midnight(until + timedelta(days=1), zone),
        kinds=() if command.kind is None else (command.kind,),
    )
    return _Asked(user, since, until, found)


async def _paper(
    ctx: Context,
    user: User,
    kind: PaperKind,
    subject: str,
    facts: Sequence[tuple[str, str]],
    *,
    rows: tuple[tuple[str, ...], ...] = (),
    **said: str,
) -> Pdf:
    """Issue a paper, or give it again."""
    text = texts.fill(texts.PAPERS[kind], user.locale, **said)

    async def write(issue: Issue) -> bytes:
        heads = [("number", str(issue)), ("issued", _moment(issue.issued_at)), ("name", user.name)]
        sheet = Sheet(
            language=user.locale,
            issuer=_ISSUER,
            title=text.title,
            facts=tuple((label(name, user.locale), value) for name, value in [*heads, *facts]),
            heading=tuple(label(name, user.locale) for name in _HEADING),
            rows=rows,
            widths=_WIDTHS,
            numbers=2,
            notes=(text.body,),
            issued_at=issue.issued_at,
        )
        return await asyncio.to_thread(_draw, sheet)

    wish = Wish(
        owner_id=OwnerId(user.id),
        kind=kind,
        subject=subject,
        facts=(user.locale, user.name, text, facts, rows),
    )
    issue, content = await papers.issue(ctx.session, wish, write, now=ctx.now)
    return Pdf(f"{kind.replace('_', '-')}-{issue}.pdf", content)


def _draw(sheet: Sheet) -> bytes:
    # The library brings Pillow, fontTools and NumPy: a fifth of the start of every process, for what few ask for.
    from server.integrations import pdf

    return pdf.render(sheet)


def _title(line: Line, user: User) -> str:
    return texts.fill(texts.ENTRIES[line.kind], user.locale).title


def _reason(line: Line, user: User) -> str:
    return line.reason or texts.fill(texts.ENTRIES[line.kind], user.locale).body


def _file_name(asked: _Asked) -> str:
    account = asked.statement.account.replace("_", "-")
    return f"{account}-{asked.since:%Y-%m-%d}-{asked.until:%Y-%m-%d}"


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


COMMANDS = (
    Command("wallet.statement", GetStatement, get_statement, method="GET", path="/wallet/statement"),
    Command(
        "wallet.statement.table",
        GetStatementTable,
        get_statement_table,
        method="GET",
        path="/wallet/statement.csv",
        on_socket=False,
    ),
    Command(
        "wallet.statement.paper",
        GetStatementPaper,
        get_statement_paper,
        method="GET",
        path="/wallet/statement.pdf",
        on_socket=False,
    ),
    Command(
        "wallet.entry.paper",
        GetEntryPaper,
        get_entry_paper,
        method="GET",
        path="/wallet/entries/{entry_id}/receipt.pdf",
        on_socket=False,
    ),
    Command(
        "hold.paper",
        GetHoldPaper,
        get_hold_paper,
        method="GET",
        path="/holds/{hold_id}/receipt.pdf",
        on_socket=False,
    ),
    Command(
        "top_up.paper",
        GetTopUpPaper,
        get_top_up_paper,
        method="GET",
        path="/top-ups/{top_up_id}/receipt.pdf",
        on_socket=False,
    ),
)
