"""Connected accounts, transfers to them and back, payouts to banks, and balances."""

from server.integrations.stripe_fake.machine import (
    DAY_S,
    OURS,
    Expiries,
    Machine,
    Object,
    Params,
    Refusal,
    Table,
    allow,
    iso,
    need,
    whole,
)

# Banks in the United States get it the next day.
ARRIVES_AFTER_S = DAY_S
LINK_S = 300
CAPABILITY_CHANGED = "v2.core.account[configuration.recipient].capability_status_updated"


def create_account(machine: Machine, params: Params) -> Object:
    """POST /v2/core/accounts."""
    allow(
        params,
        "contact_email",
        "dashboard",
        "identity",
        "configuration",
        "defaults",
        "metadata",
        "include",
        "display_name",
    )
    asked = (
        params.get("configuration", {}).get("recipient", {}).get("capabilities", {}).get("stripe_balance", {})
    )
    pending = {
        "status": "restricted",
        "status_details": [{"code": "requirements_past_due", "resolution": "provide_info"}],
    }
    recipient = {
        "applied": True,
        "capabilities": {"stripe_balance": {name: dict(pending) for name in sorted({*asked, "payouts"})}},
    }
    fields = {
        "applied_configurations": ["recipient"],
        "configuration": {"customer": None, "merchant": None, "recipient": recipient},
        "contact_email": params.get("contact_email"),
        "created": iso(machine.now),
        "dashboard": params.get("dashboard"),
        "defaults": params.get("defaults"),
        "display_name": params.get("display_name"),
        "identity": params.get("identity"),
        "metadata": dict(params.get("metadata", {})),
        "requirements": {"entries": [{"description": "external_account"}], "summary": None},
    }
    made = machine.add("v2.core.account", "acct", fields)
    machine.tell_thin("v2.core.account.created", made, f"/v2/core/accounts/{made['id']}")
    return made


def get_account(machine: Machine, _: Params, account: str) -> Object:
    """GET /v2/core/accounts/{}."""
    return machine.find("v2.core.account", account)


def create_link(machine: Machine, params: Params) -> Object:
    """POST /v2/core/account_links."""
    allow(params, "account", "use_case")
    need(params, "account", "use_case")
    account = machine.find("v2.core.account", params["account"])
    machine.returns[account["id"]] = params["use_case"]["account_onboarding"]["return_url"]
    return {
        "object": "v2.core.account_link",
        "account": account["id"],
        "created": iso(machine.now),
        "expires_at": iso(machine.now + LINK_S),
        "livemode": False,
        "url": f"{machine.pages}/{account['id']}/onboarding",
        "use_case": dict(params["use_case"]),
    }


def onboard(machine: Machine, params: Params, account: str) -> Object:
    """A tutor tells Stripe who they are; or Stripe restricts what they may do (`status`)."""
    found = machine.find("v2.core.account", account)
    status = str(params.get("status", "active"))
    balance = found["configuration"]["recipient"]["capabilities"]["stripe_balance"]
    for name in balance:
        balance[name] = {"status": status, "status_details": []}
    found["requirements"]["entries"] = (
        [] if status == "active" else [{"description": "identity.verification"}]
    )
    machine.tell_thin(CAPABILITY_CHANGED, found, f"/v2/core/accounts/{account}")
    return found


def create_transfer(machine: Machine, params: Params) -> Object:
    """POST /v1/transfers."""
    allow(params, "amount", "currency", "destination", "transfer_group", "metadata", "description")
    need(params, "amount", "currency", "destination")
    account = machine.find("v2.core.account", params["destination"])
    amount, currency = whole(params, "amount"), str(params["currency"])
    if not _may(account, "stripe_transfers"):
        raise Refusal(
            "insufficient_capabilities_for_transfer",
            "Your destination account needs to have the `stripe_transfers` capability enabled.",
        )
    if amount > machine.available(OURS, currency):
        raise Refusal("balance_insufficient", "You have insufficient available funds in your Stripe account.")
    fields = {
        "amount": amount,
        "amount_reversed": 0,
        "balance_transaction": None,
        "currency": currency,
        "description": params.get("description"),
        "destination": account["id"],
        "destination_payment": machine.new_id("py"),
        "metadata": dict(params.get("metadata", {})),
        "reversals": {"object": "list", "data": [], "has_more": False, "url": ""},
        "reversed": False,
        "source_transaction": None,
        "source_type": "card",
        "transfer_group": params.get("transfer_group"),
    }
    made = machine.add("transfer", "tr", fields)
    made["reversals"]["url"] = f"/v1/transfers/{made['id']}/reversals"
    movement = machine.move("transfer", -amount, source=made["id"], category="transfer", currency=currency)
    made["balance_transaction"] = movement["id"]
    machine.move(
        "payment",
        amount,
        source=made["destination_payment"],
        category="charge",
        currency=currency,
        account=account["id"],
    )
    machine.tell("transfer.created", made)
    return made


def list_transfers(machine: Machine, params: Params) -> Object:
    """GET /v1/transfers."""
    allow(params, "destination", "transfer_group", "created", "limit", "starting_after")
    return machine.page("transfer", params, "/v1/transfers", destination="", transfer_group="")


def reverse_transfer(machine: Machine, params: Params, transfer: str) -> Object:
    """POST /v1/transfers/{}/reversals."""
    allow(params, "amount", "metadata", "description")
    found = machine.find("transfer", transfer)
    left = found["amount"] - found["amount_reversed"]
    amount = whole(params, "amount") if "amount" in params else left
    if amount > left:
        raise Refusal(
            "amount_too_large", "The reversal is greater than what is left of the transfer.", param="amount"
        )
    if amount > machine.available(found["destination"], found["currency"]):
        raise Refusal("balance_insufficient", "The connected account has insufficient funds.")
    fields = {
        "amount": amount,
        "balance_transaction": None,
        "currency": found["currency"],
        "destination_payment_refund": machine.new_id("pyr"),
        "metadata": dict(params.get("metadata", {})),
        "source_refund": None,
        "transfer": transfer,
    }
    made = machine.add("transfer_reversal", "trr", fields)
    del made["livemode"]
    movement = machine.move(
        "transfer_refund", amount, source=made["id"], category="transfer_reversal", currency=found["currency"]
    )
    made["balance_transaction"] = movement["id"]
    machine.move(
        "payment_refund",
        -amount,
        source=made["destination_payment_refund"],
        category="refund",
        currency=found["currency"],
        account=found["destination"],
    )
    found["amount_reversed"] += amount
    found["reversed"] = found["amount_reversed"] == found["amount"]
    found["reversals"]["data"].insert(0, made)
    machine.tell("transfer.reversed", found)
    return made


def list_reversals(machine: Machine, params: Params, transfer: str) -> Object:
    """GET /v1/transfers/{}/reversals."""
    allow(params, "limit", "starting_after")
    machine.find("transfer", transfer)
    return machine.page(
        "transfer_reversal",
        {**params, "transfer": transfer},
        f"/v1/transfers/{transfer}/reversals",
        transfer="",
    )


def create_payout(machine: Machine, params: Params) -> Object:
    """POST /v1/payouts, of the account that the call names."""
    allow(params, "amount", "currency", "metadata", "method", "description")
    need(params, "amount", "currency")
    amount, currency = whole(params, "amount"), str(params["currency"])
    if amount > machine.available(machine.account, currency):
        raise Refusal(
            "balance_insufficient", "You have insufficient funds in your Stripe account for this transfer."
        )
    fields = {
        "amount": amount,
        "application_fee": None,
        "arrival_date": machine.now + ARRIVES_AFTER_S,
        "automatic": False,
        "balance_transaction": None,
        "currency": currency,
        "destination": machine.new_id("ba"),
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "metadata": dict(params.get("metadata", {})),
        "method": params.get("method", "standard"),
        "original_payout": None,
        "reconciliation_status": "not_applicable",
        "reversed_by": None,
        "source_type": "card",
        "statement_descriptor": None,
        "status": "pending",
        "type": "bank_account",
    }
    made = machine.add("payout", "po", fields)
    movement = machine.move(
        "payout", -amount, source=made["id"], category="payout", currency=currency, account=machine.account
    )
    made["balance_transaction"] = movement["id"]
    machine.accounts[made["id"]] = machine.account
    machine.fall_due(made["arrival_date"], made["id"])
    machine.tell("payout.created", made)
    return made


def get_payout(machine: Machine, _: Params, payout: str) -> Object:
    """GET /v1/payouts/{}."""
    found = machine.find("payout", payout)
    if machine.accounts[payout] != machine.account:
        raise Refusal("resource_missing", f"No such payout: '{payout}'", status=404)
    return found


def list_payouts(machine: Machine, params: Params) -> Object:
    """GET /v1/payouts."""
    allow(params, "status", "created", "limit", "starting_after")
    return machine.page("payout", params, "/v1/payouts", status="")


def payout_is_over(machine: Machine, found: Object) -> None:
    """Let a payout arrive."""
    if found["status"] == "pending":
        found["status"] = "paid"
        machine.tell("payout.paid", found, account=machine.accounts[found["id"]])


def fail_payout(machine: Machine, params: Params, payout: str) -> Object:
    """A bank does not take a payout, also days after it was `paid`: the money is back on the account."""
    found = machine.find("payout", payout)
    account = machine.accounts[payout]
    if found["status"] not in ("pending", "paid"):
        raise Refusal("payout_unexpected_state", f"This payout is {found['status']}.")
    movement = machine.move(
        "payout_failure",
        found["amount"],
        source=payout,
        category="payout_reversal",
        currency=found["currency"],
        account=account,
    )
    found.update(
        status="failed",
        failure_code=str(params.get("code", "account_closed")),
        failure_balance_transaction=movement["id"],
    )
    machine.tell("payout.failed", found, account=account)
    return found


def get_balance(machine: Machine, _: Params) -> Object:
    """GET /v1/balance."""
    return machine.balance(machine.account)


def list_movements(machine: Machine, params: Params) -> Object:
    """GET /v1/balance_transactions."""
    allow(params, "created", "source", "type", "payout", "currency", "limit", "starting_after")
    return machine.page(
        "balance_transaction", params, "/v1/balance_transactions", source="", type="", currency=""
    )


def movement_is_over(_: Machine, found: Object) -> None:
    """Make money available."""
    found["status"] = "available"


def charge_us(machine: Machine, params: Params) -> Object:
    """Stripe takes a fee of its own, e.g. for an active account."""
    return machine.move(
        "stripe_fee", -whole(params, "amount"), source=machine.new_id("fee"), category="fee", currency="usd"
    )


def pay_us_out(machine: Machine, params: Params) -> Object:
    """Stripe sends our own balance to our bank, as it does every day."""
    return create_payout(machine, {"amount": whole(params, "amount"), "currency": "usd"})


def _may(account: Object, capability: str) -> bool:
    states = account["configuration"]["recipient"]["capabilities"]["stripe_balance"]
    return bool(states.get(capability, {}).get("status") == "active")


TABLE: Table = {
    ("POST", "/v2/core/accounts"): create_account,
    ("GET", "/v2/core/accounts/{}"): get_account,
    ("POST", "/v2/core/account_links"): create_link,
    ("POST", "/v1/transfers"): create_transfer,
    ("GET", "/v1/transfers"): list_transfers,
    ("POST", "/v1/transfers/{}/reversals"): reverse_transfer,
    ("GET", "/v1/transfers/{}/reversals"): list_reversals,
    ("POST", "/v1/payouts"): create_payout,
    ("GET", "/v1/payouts"): list_payouts,
    ("GET", "/v1/payouts/{}"): get_payout,
    ("GET", "/v1/balance"): get_balance,
    ("GET", "/v1/balance_transactions"): list_movements,
    ("ACT", "/accounts/{}/onboard"): onboard,
    ("ACT", "/payouts/{}/fail"): fail_payout,
    ("ACT", "/fee"): charge_us,
    ("ACT", "/payout"): pay_us_out,
}
EXPIRIES: Expiries = {"payout": payout_is_over, "balance_transaction": movement_is_over}
