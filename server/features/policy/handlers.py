"""The commands of the terms (B-10, ED-106)."""

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from billing import back_test, policy
from billing.policy import Enacted
from server import audit, pages
from server.context import Command, Context
from server.errors import BadRequestError, FieldError
from server.features.accounts.models import names_of
from server.features.policy import words
from server.features.policy.messages import (
    GetPolicy,
    ListPolicies,
    PolicyPage,
    PolicyPreview,
    PolicyVersion,
    PolicyView,
    PreviewPolicy,
    SetPolicy,
)

# What the owner looks at without saying when (B-26).
SHOWN = timedelta(days=30)
# A longer period than this is no preview: it would read every settlement there ever was.
SPAN_MOST = timedelta(days=366)


async def get_policy(ctx: Context, _: GetPolicy) -> PolicyView:
    """Return the terms in force: what the code uses, and the same in words."""
    found = await policy.in_force(ctx.session, ctx.now)
    return PolicyView(
        terms=found.policy,
        effective_from=found.effective_from,
        next_change_at=await policy.next_change(ctx.session, ctx.now),
        rules=words.rules(found.policy),
    )


async def list_policies(ctx: Context, command: ListPolicies) -> PolicyPage:
    """Return every version of the terms with who made it and why, the newest first."""
    found = await policy.history(ctx.session, limit=command.limit + 1, before=command.cursor)
    shown, more = pages.cut(found, command.limit, lambda one: one.policy.version)
    names = await names_of(ctx.session, [maker for one in shown if (maker := _maker(one)) is not None])
    return PolicyPage(tuple(_version(one, names) for one in shown), more)


async def set_policy(ctx: Context, command: SetPolicy) -> PolicyVersion:
    """Make new terms; what is bought before they are in force keeps the old ones.

    Raises:
        PolicyMovedError: They are not made from the newest version.
        PolicyInvalidError: A value is none that the terms can have; names each of them.
        PolicyUnchangedError: Nothing is different.
        PolicyPastError: They would be in force before now.
        PolicyFarError: They would be in force in more than a year.
        PolicyOrderError: The version before comes into force later, and is not to be replaced.
    """
    before = await policy.newest(ctx.session)
    enacted = await policy.enact(
        ctx.session,
        command.changes,
        base_version=command.base_version,
        effective_from=command.effective_from or ctx.now,
        actor=f"admin:{ctx.user.user_id}",
        reason=command.reason,
        replace_planned=command.replace_planned,
        now=ctx.now,
    )
    old, new = (msgspec.to_builtins(terms) for terms in (before, enacted.policy))
    changed = [name for name in new if new[name] != old[name]]
    audit.record(
        ctx,
        "policy.set",
        # Versions are numbers; what the audit log names are ids.
        UUID(int=enacted.policy.version),
        before={name: old[name] for name in changed},
        after={name: new[name] for name in changed}
        | {"effective_from": msgspec.to_builtins(enacted.effective_from)},
        reason=command.reason,
    )
    return _version(enacted, await names_of(ctx.session, [ctx.user.user_id]))


async def preview_policy(ctx: Context, command: PreviewPolicy) -> PolicyPreview:
    """Say what a period would have been under changed terms; nothing is written.

    Raises:
        PolicyInvalidError: A value is none that the terms can have; names each of them.
        PolicyUnchangedError: Nothing is different.
        BadRequestError: The period is empty or longer than a year.
    """
    since, until = _span(command, ctx.now)
    base = await policy.newest(ctx.session)
    terms = policy.amended(base, command.changes)
    newest = await back_test.run(ctx.session, base, since=since, until=until)
    report = await back_test.run(ctx.session, terms, since=since, until=until)
    return PolicyPreview(base_version=base.version, terms=terms, under_newest=newest.would_be, report=report)


def _span(command: PreviewPolicy, now: datetime) -> tuple[datetime, datetime]:
    until = command.until or now
    since = command.since or until - SHOWN
    if not timedelta() < until - since <= SPAN_MOST:
        message = f"must be before `until`, by at most {SPAN_MOST.days} days"
        raise BadRequestError("That is no period.", (FieldError("since", message),))
    return since, until


def _version(found: Enacted, names: dict[UUID, str]) -> PolicyVersion:
    maker = _maker(found)
    return PolicyVersion(
        terms=found.policy,
        effective_from=found.effective_from,
        made_by=maker,
        made_by_name=None if maker is None else names.get(maker),
        reason=found.reason,
        is_replaced=found.is_replaced,
    )


def _maker(found: Enacted) -> UUID | None:
    """Return who made a version; nobody made what a migration brought."""
    kind, _, name = found.actor.partition(":")
    return UUID(name) if kind == "admin" else None


COMMANDS = (
    Command("policy.get", GetPolicy, get_policy, guard="public", method="GET", path="/policy"),
    Command(
        "policy.list", ListPolicies, list_policies, guard="admin", method="GET", path="/admin/policy/versions"
    ),
    Command(
        "policy.set",
        SetPolicy,
        set_policy,
        guard="owner",
        method="POST",
        path="/admin/policy",
        status=201,
        idempotent=True,
    ),
    Command(
        "policy.preview",
        PreviewPolicy,
        preview_policy,
        guard="owner",
        method="POST",
        path="/admin/policy/preview",
    ),
)
