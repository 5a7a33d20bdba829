"""Customers, cards, Checkout, payments and refunds, and what payers and their banks do.

Cards are known by their last four digits, as Stripe's own test numbers: 4242 pays; 0002 is declined, 9995 for want of
money; 3220 asks for 3-D Secure; 0077 pays into the available balance; 5126 fails its refunds; 0000 is a bank debit
that is processed for days.
"""

from typing import Any

from server.integrations.stripe_fake.machine import (
    AVAILABLE_AFTER_S,
    DAY_S,
    FEE_FIXED,
    FEE_PER_MILLE,
    Expiries,
    Machine,
    Object,
    Params,
    Refusal,
    Table,
    allow,
    need,
    whole,
)

DECLINES = {"0002": "generic_decline", "9995": "insufficient_funds"}
AUTHENTICATED, DELAYED, AT_ONCE, UNREFUNDABLE = "3220", "0000", "0077", "5126"
# "Place a hold on a payment method": seven days where the customer was there, for a Visa 4 days and 18 hours where not.
AUTHORISED_S = 7 * DAY_S
AUTHORISED_AWAY_S = 4 * DAY_S + 18 * 3600
# "Checkout Session, expires_at": 30 minutes to 24 hours.
OPEN_S = (30 * 60, DAY_S)
MINIMUM = 50
CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
CANCELLABLE = (*CONFIRMABLE, "requires_capture")


# Customers and cards ---------------------------------------------------------------------------------------------


def create_customer(machine: Machine, params: Params) -> Object:
    """POST /v1/customers."""
    allow(params, "metadata", "email", "name", "description")
    fields = {
        "default_source": None,
        "email": params.get("email"),
        "metadata": dict(params.get("metadata", {})),
        "name": params.get("name"),
        "tax_exempt": "none",
        "test_clock": None,
    }
    made = machine.add("customer", "cus", fields)
    machine.tell("customer.created", made)
    return made


def get_customer(machine: Machine, _: Params, customer: str) -> Object:
    """GET /v1/customers/{}."""
    return machine.find("customer", customer)


def list_methods(machine: Machine, params: Params, customer: str) -> Object:
    """GET /v1/customers/{}/payment_methods."""
    allow(params, "type", "limit", "starting_after")
    machine.find("customer", customer)
    url = f"/v1/customers/{customer}/payment_methods"
    return machine.page("payment_method", {**params, "customer": customer}, url, customer="", type="")


def get_method(machine: Machine, _: Params, method: str) -> Object:
    """GET /v1/payment_methods/{}."""
    return machine.find("payment_method", method)


def detach_method(machine: Machine, params: Params, method: str) -> Object:
    """POST /v1/payment_methods/{}/detach."""
    allow(params)
    found = machine.find("payment_method", method)
    if found["customer"] is None:
        raise Refusal("payment_method_not_attached", "The payment method is not attached to a customer.")
    previous, found["customer"] = found["customer"], None
    machine.tell("payment_method.detached", found, customer=previous)
    return found


def save_card(machine: Machine, params: Params, customer: str) -> Object:
    """Somebody saves a card."""
    machine.find("customer", customer)
    return _card(machine, str(params.get("card", "4242")), customer)


def _card(machine: Machine, last4: str, customer: str | None) -> Object:
    year = 2000 + (machine.now // (365 * DAY_S) + 1970 + 4) % 100
    card = {
        "brand": "visa",
        "checks": {},
        "country": "US",
        "display_brand": "visa",
        "exp_month": 12,
        "exp_year": year,
        "fingerprint": f"card{last4}",
        "funding": "credit",
        "generated_from": None,
        "last4": last4,
        "networks": {"available": ["visa"], "preferred": None},
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }
    nobody = {"address": None, "email": None, "name": None, "phone": None, "tax_id": None}
    fields = {
        "allow_redisplay": "always",
        "billing_details": nobody,
        "card": card,
        "customer": customer,
        "metadata": {},
        "type": "card",
    }
    made = machine.add("payment_method", "pm", fields)
    if customer is not None:
        machine.tell("payment_method.attached", made)
    return made


# Checkout --------------------------------------------------------------------------------------------------------


def create_checkout(machine: Machine, params: Params) -> Object:
    """POST /v1/checkout/sessions."""
    allow(
        params,
        *(
            "mode",
            "ui_mode",
            "customer",
            "client_reference_id",
            "payment_method_types",
            "line_items",
            "metadata",
        ),
        *(
            "payment_intent_data",
            "saved_payment_method_options",
            "expires_at",
            "success_url",
            "cancel_url",
            "return_url",
        ),
    )
    need(
        params,
        "mode",
        "line_items",
        "success_url" if params.get("ui_mode", "hosted_page") == "hosted_page" else "return_url",
    )
    if "customer" in params:
        machine.find("customer", params["customer"])
    expires_at = int(params.get("expires_at", machine.now + OPEN_S[1]))
    if not OPEN_S[0] <= expires_at - machine.now <= OPEN_S[1]:
        raise Refusal(
            "parameter_invalid",
            "The `expires_at` timestamp must be 30 minutes to 24 hours from now.",
            kept=False,
        )
    prices = [(item["price_data"], whole(item, "quantity")) for item in params["line_items"]]
    total = sum(whole(price, "unit_amount") * quantity for price, quantity in prices)
    currency = prices[0][0]["currency"]
    if total < MINIMUM:
        raise Refusal(
            "amount_too_small", "The Checkout Session's total amount must convert to at least 50 cents."
        )
    hosted = params.get("ui_mode", "hosted_page") == "hosted_page"
    fields = {
        "after_expiration": None,
        "amount_subtotal": total,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "client_secret": None,
        "currency": currency,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": params.get("customer"),
        "customer_creation": None,
        "expires_at": expires_at,
        "invoice": None,
        "locale": None,
        "metadata": dict(params.get("metadata", {})),
        "mode": params["mode"],
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": "if_required",
        "payment_method_types": list(params.get("payment_method_types", ["card"])),
        "payment_status": "unpaid",
        "redirect_on_completion": None if hosted else "always",
        "return_url": params.get("return_url"),
        "saved_payment_method_options": params.get("saved_payment_method_options"),
        "setup_intent": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": params.get("success_url"),
        "ui_mode": params.get("ui_mode", "hosted_page"),
        "url": None,
    }
    made = machine.add("checkout.session", "cs_test", fields)
    if hosted:
        made["url"] = f"{machine.pages}/{made['id']}"
    else:
        made["client_secret"] = f"{made['id']}_secret"
    machine.wishes[made["id"]] = dict(params.get("payment_intent_data", {}))
    machine.fall_due(expires_at, made["id"])
    return made


def get_checkout(machine: Machine, _: Params, checkout: str) -> Object:
    """GET /v1/checkout/sessions/{}."""
    return machine.find("checkout.session", checkout)


def list_checkouts(machine: Machine, params: Params) -> Object:
    """GET /v1/checkout/sessions."""
    allow(params, "customer", "payment_intent", "status", "created", "limit", "starting_after")
    return machine.page(
        "checkout.session", params, "/v1/checkout/sessions", customer="", payment_intent="", status=""
    )


def expire_checkout(machine: Machine, params: Params, checkout: str) -> Object:
    """POST /v1/checkout/sessions/{}/expire."""
    allow(params)
    found = machine.find("checkout.session", checkout)
    if found["status"] != "open":
        raise Refusal(
            "checkout_session_not_open",
            f'Only Checkout Sessions with a status in ["open"] can be expired. This one is {found["status"]}.',
        )
    checkout_is_over(machine, found)
    return found


def checkout_is_over(machine: Machine, found: Object) -> None:
    """Close a session that nobody completed."""
    if found["status"] != "open":
        return
    found.update(status="expired", url=None)
    payment = machine.objects.get(found["payment_intent"] or "")
    if payment is not None and payment["status"] in CONFIRMABLE:
        _cancel(machine, payment, "automatic")
    machine.tell("checkout.session.expired", found)


def pay_checkout(machine: Machine, params: Params, checkout: str) -> Object:
    """A payer pays on the page."""
    found = machine.find("checkout.session", checkout)
    if found["status"] != "open":
        raise Refusal("checkout_session_not_open", f"This page is {found['status']}.")
    saves = str(params.get("save", "")).lower() == "true"
    method = _card(machine, str(params.get("card", "4242")), found["customer"] if saves else None)
    payment = machine.objects.get(found["payment_intent"] or "")
    if payment is None:
        wishes = machine.wishes[checkout]
        payment = _payment(
            machine,
            found["amount_total"],
            found["currency"],
            customer=found["customer"],
            capture=wishes.get("capture_method", "automatic_async"),
            metadata=wishes.get("metadata", {}),
        )
        found["payment_intent"] = payment["id"]
        machine.checkouts[payment["id"]] = checkout
    _confirm(machine, payment, method)
    return found


def _complete(machine: Machine, payment: Object) -> None:
    """Complete the session of a payment, if it has one."""
    checkout = machine.objects.get(machine.checkouts.get(payment["id"], ""))
    if checkout is None:
        return
    if checkout["status"] == "open":
        is_paid = payment["status"] != "processing"
        checkout.update(status="complete", payment_status="paid" if is_paid else "unpaid", url=None)
        machine.tell("checkout.session.completed", checkout)
    elif payment["status"] == "succeeded":
        checkout["payment_status"] = "paid"
        machine.tell("checkout.session.async_payment_succeeded", checkout)
    else:
        machine.tell("checkout.session.async_payment_failed", checkout)


# Payments --------------------------------------------------------------------------------------------------------


def create_payment(machine: Machine, params: Params) -> Object:
    """POST /v1/payment_intents."""
    allow(
        params,
        *(
            "amount",
            "currency",
            "customer",
            "payment_method",
            "payment_method_types",
            "capture_method",
            "confirm",
        ),
        *("metadata", "return_url", "off_session", "setup_future_usage", "description"),
    )
    need(params, "amount", "currency")
    if whole(params, "amount") < MINIMUM:
        raise Refusal(
            "amount_too_small", "Amount must convert to at least 50 cents.", param="amount", kept=False
        )
    payment = _payment(
        machine,
        whole(params, "amount"),
        str(params["currency"]),
        customer=params.get("customer"),
        capture=params.get("capture_method", "automatic_async"),
        metadata=params.get("metadata", {}),
    )
    payment["setup_future_usage"] = params.get("setup_future_usage")
    if _is_true(params.get("confirm")):
        method = machine.find("payment_method", params.get("payment_method", ""))
        if method["customer"] != params.get("customer"):
            raise Refusal("payment_method_invalid", "The payment method is not the customer's.", kept=False)
        _confirm(machine, payment, method, off_session=_is_true(params.get("off_session")))
    return payment


def get_payment(machine: Machine, _: Params, payment: str) -> Object:
    """GET /v1/payment_intents/{}."""
    return machine.find("payment_intent", payment)


def list_payments(machine: Machine, params: Params) -> Object:
    """GET /v1/payment_intents."""
    allow(params, "customer", "created", "limit", "starting_after")
    return machine.page("payment_intent", params, "/v1/payment_intents", customer="")


def capture_payment(machine: Machine, params: Params, payment: str) -> Object:
    """POST /v1/payment_intents/{}/capture."""
    allow(params, "amount_to_capture")
    found = machine.find("payment_intent", payment)
    if found["status"] != "requires_capture":
        _refuse_state(found, "captured", "requires_capture")
    amount = (
        whole(params, "amount_to_capture") if "amount_to_capture" in params else found["amount_capturable"]
    )
    if amount > found["amount_capturable"]:
        raise Refusal(
            "amount_too_large", "Amount to capture exceeds what is capturable.", param="amount_to_capture"
        )
    charge = machine.objects[found["latest_charge"]]
    _take(machine, found, charge, amount)
    machine.tell("charge.captured", charge)
    machine.tell("payment_intent.succeeded", found)
    return found


def cancel_payment(machine: Machine, params: Params, payment: str) -> Object:
    """POST /v1/payment_intents/{}/cancel."""
    allow(params, "cancellation_reason")
    found = machine.find("payment_intent", payment)
    if found["status"] not in CANCELLABLE:
        _refuse_state(found, "canceled", ", ".join(CANCELLABLE))
    if found["id"] in machine.checkouts and found["status"] != "requires_capture":
        raise Refusal(
            "payment_intent_unexpected_state", "Expire the Checkout Session of this PaymentIntent instead."
        )
    _cancel(machine, found, params.get("cancellation_reason"))
    return found


def payment_is_over(machine: Machine, found: Object) -> None:
    """Let go of an authorisation that nobody captured."""
    if found["status"] == "requires_capture":
        _cancel(machine, found, "automatic")


def confirm(machine: Machine, params: Params, payment: str) -> Object:
    """A payer gives a card in Stripe's form, or another one after the first was refused."""
    found = machine.find("payment_intent", payment)
    if found["status"] not in CONFIRMABLE:
        _refuse_state(found, "confirmed", ", ".join(CONFIRMABLE))
    keeps = found["setup_future_usage"] is not None
    method = _card(machine, str(params.get("card", "4242")), found["customer"] if keeps else None)
    _confirm(machine, found, method)
    return found


def authenticate(machine: Machine, params: Params, payment: str) -> Object:
    """A payer answers their bank's question."""
    found = machine.find("payment_intent", payment)
    if found["status"] != "requires_action":
        _refuse_state(found, "authenticated", "requires_action")
    if _is_true(params.get("ok", True)):
        _charge(machine, found, machine.objects[found["payment_method"]])
    else:
        _decline(machine, found, "payment_intent_authentication_failure", None)
    return found


def settle(machine: Machine, params: Params, payment: str) -> Object:
    """A bank debit arrives after days, or does not."""
    found = machine.find("payment_intent", payment)
    if found["status"] != "processing":
        _refuse_state(found, "settled", "processing")
    if _is_true(params.get("ok", True)):
        _charge(machine, found, machine.objects[found["payment_method"]])
    else:
        _decline(machine, found, "payment_intent_payment_attempt_failed", None)
        _complete(machine, found)
    return found


def create_setup(machine: Machine, params: Params) -> Object:
    """POST /v1/setup_intents."""
    allow(params, "customer", "payment_method", "payment_method_types", "usage", "confirm", "metadata")
    fields = {
        "application": None,
        "cancellation_reason": None,
        "client_secret": None,
        "customer": params.get("customer"),
        "latest_attempt": None,
        "mandate": None,
        "metadata": dict(params.get("metadata", {})),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_types": list(params.get("payment_method_types", ["card"])),
        "single_use_mandate": None,
        "status": "requires_payment_method",
        "usage": params.get("usage", "off_session"),
    }
    made = machine.add("setup_intent", "seti", fields)
    made["client_secret"] = f"{made['id']}_secret"
    machine.tell("setup_intent.created", made)
    if _is_true(params.get("confirm")):
        _confirm_setup(machine, made, machine.find("payment_method", params.get("payment_method", "")))
    return made


def get_setup(machine: Machine, _: Params, setup: str) -> Object:
    """GET /v1/setup_intents/{}."""
    return machine.find("setup_intent", setup)


def finish_setup(machine: Machine, params: Params, setup: str) -> Object:
    """A payer gives a card to be charged later, and answers their bank if it asks."""
    found = machine.find("setup_intent", setup)
    last4 = str(params.get("card", "4242"))
    if last4 in DECLINES:
        machine.tell("setup_intent.setup_failed", found)
        raise Refusal("card_declined", "Your card was declined.", status=402, kind="card_error")
    method = found["payment_method"] or _card(machine, last4, found["customer"])["id"]
    found.update(status="succeeded", payment_method=method, next_action=None)
    machine.tell("setup_intent.succeeded", found)
    return found


def _confirm_setup(machine: Machine, setup: Object, method: Object) -> None:
    """Ask a saved card's bank now, so that it need not be asked later."""
    last4 = method["card"]["last4"]
    if last4 in DECLINES:
        machine.tell("setup_intent.setup_failed", setup)
        raise Refusal(
            "card_declined",
            "Your card was declined.",
            status=402,
            kind="card_error",
            decline_code=DECLINES[last4],
            setup_intent=dict(setup),
        )
    setup["payment_method"] = method["id"]
    if last4 == AUTHENTICATED:
        setup.update(status="requires_action", next_action={"type": "use_stripe_sdk"})
        machine.tell("setup_intent.requires_action", setup)
    else:
        setup["status"] = "succeeded"
        machine.tell("setup_intent.succeeded", setup)


def _payment(
    machine: Machine, amount: int, currency: str, *, customer: str | None, capture: str, metadata: Params
) -> Object:
    fields = {
        "amount": amount,
        "amount_capturable": 0,
        "amount_received": 0,
        "application": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": capture,
        "client_secret": None,
        "confirmation_method": "automatic",
        "currency": currency,
        "customer": customer,
        "description": None,
        "last_payment_error": None,
        "latest_charge": None,
        "metadata": dict(metadata),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_types": ["card"],
        "payment_record": None,
        "processing": None,
        "review": None,
        "setup_future_usage": None,
        "source": None,
        "status": "requires_payment_method",
        "transfer_group": None,
    }
    made = machine.add("payment_intent", "pi", fields)
    made["client_secret"] = f"{made['id']}_secret"
    machine.tell("payment_intent.created", made)
    return made


def _confirm(machine: Machine, payment: Object, method: Object, *, off_session: bool = False) -> None:
    last4 = method["card"]["last4"]
    payment.update(payment_method=method["id"], last_payment_error=None)
    if last4 in DECLINES:
        _fail(machine, payment, "card_declined", DECLINES[last4])
    if last4 == AUTHENTICATED and off_session:
        _fail(machine, payment, "authentication_required", "authentication_required")
    if last4 == AUTHENTICATED:
        url = f"{machine.pages}/{payment['id']}/3ds"
        action = {"type": "redirect_to_url", "redirect_to_url": {"url": url, "return_url": None}}
        payment.update(status="requires_action", next_action=action)
        machine.tell("payment_intent.requires_action", payment)
    elif last4 == DELAYED:
        payment["status"] = "processing"
        machine.tell("payment_intent.processing", payment)
        _complete(machine, payment)
    else:
        _charge(machine, payment, method, authorised_s=AUTHORISED_AWAY_S if off_session else AUTHORISED_S)


def _fail(machine: Machine, payment: Object, code: str, decline_code: str) -> None:
    _decline(machine, payment, code, decline_code)
    raise Refusal(
        code,
        "Your card was declined.",
        status=402,
        kind="card_error",
        decline_code=decline_code,
        payment_intent=dict(payment),
    )


def _decline(machine: Machine, payment: Object, code: str, decline_code: str | None) -> None:
    error = {"type": "card_error", "code": code, "message": "Your card was declined."}
    payment.update(
        status="requires_payment_method",
        next_action=None,
        payment_method=None,
        last_payment_error=error | ({"decline_code": decline_code} if decline_code else {}),
    )
    machine.tell("payment_intent.payment_failed", payment)


def _charge(machine: Machine, payment: Object, method: Object, *, authorised_s: int = AUTHORISED_S) -> None:
    is_manual = payment["capture_method"] == "manual"
    card: Object = {"brand": "visa", "last4": method["card"]["last4"], "capture_before": None}
    if is_manual:
        card["capture_before"] = machine.now + authorised_s
    fields = {
        "amount": payment["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "captured": False,
        "currency": payment["currency"],
        "customer": payment["customer"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": None,
        "metadata": dict(payment["metadata"]),
        "on_behalf_of": None,
        "paid": True,
        "payment_intent": payment["id"],
        "payment_method": method["id"],
        "payment_method_details": {"type": "card", "card": card},
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "source": None,
        "source_transfer": None,
        "status": "succeeded",
        "transfer": None,
        "transfer_group": None,
    }
    charge = machine.add("charge", "ch", fields)
    payment.update(latest_charge=charge["id"], next_action=None)
    if is_manual:
        payment.update(status="requires_capture", amount_capturable=payment["amount"])
        machine.fall_due(machine.now + authorised_s, payment["id"])
        machine.tell("payment_intent.amount_capturable_updated", payment)
    else:
        _take(machine, payment, charge, payment["amount"])
        machine.tell("charge.succeeded", charge)
        machine.tell("payment_intent.succeeded", payment)
    _complete(machine, payment)


def _take(machine: Machine, payment: Object, charge: Object, amount: int) -> None:
    last4 = charge["payment_method_details"]["card"]["last4"]
    movement = machine.move(
        "charge",
        amount,
        source=charge["id"],
        category="charge",
        currency=payment["currency"],
        fee=(amount * FEE_PER_MILLE + 500) // 1000 + FEE_FIXED,
        after_s=0 if last4 == AT_ONCE else AVAILABLE_AFTER_S,
    )
    charge.update(captured=True, amount_captured=amount, balance_transaction=movement["id"])
    payment.update(status="succeeded", amount_received=amount, amount_capturable=0)


def _cancel(machine: Machine, payment: Object, reason: Any) -> None:
    payment.update(
        status="canceled",
        canceled_at=machine.now,
        cancellation_reason=reason,
        amount_capturable=0,
        next_action=None,
    )
    machine.tell("payment_intent.canceled", payment)


def _refuse_state(found: Object, verb: str, wanted: str) -> None:
    raise Refusal(
        "payment_intent_unexpected_state",
        f"This PaymentIntent could not be {verb} because it has a status of {found['status']}; needed: {wanted}.",
        payment_intent=dict(found),
    )


# Refunds ---------------------------------------------------------------------------------------------------------


def create_refund(machine: Machine, params: Params) -> Object:
    """POST /v1/refunds."""
    allow(params, "payment_intent", "charge", "amount", "reason", "metadata")
    charge = _charge_of(machine, params)
    left = charge["amount_captured"] - charge["amount_refunded"]
    if charge["disputed"]:
        raise Refusal(
            "charge_disputed", f"Charge {charge['id']} has been charged back; cannot issue a refund."
        )
    if left == 0:
        raise Refusal("charge_already_refunded", f"Charge {charge['id']} has already been refunded.")
    amount = whole(params, "amount") if "amount" in params else left
    if amount > left:
        raise Refusal(
            "amount_too_large",
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            param="amount",
        )
    fields = {
        "amount": amount,
        "balance_transaction": None,
        "charge": charge["id"],
        "currency": charge["currency"],
        "customer": charge["customer"],
        "failure_balance_transaction": None,
        "metadata": dict(params.get("metadata", {})),
        "payment_intent": charge["payment_intent"],
        "payment_method": charge["payment_method"],
        "pending_reason": None,
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "succeeded",
        "transfer_reversal": None,
    }
    made = machine.add("refund", "re", fields)
    del made["livemode"]
    movement = machine.move(
        "refund", -amount, source=made["id"], category="refund", currency=charge["currency"]
    )
    made["balance_transaction"] = movement["id"]
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount_captured"]
    machine.tell("refund.created", made)
    machine.tell("charge.refunded", charge)
    if charge["payment_method_details"]["card"]["last4"] == UNREFUNDABLE:
        machine.fall_due(machine.now + DAY_S, made["id"])
    return made


def get_refund(machine: Machine, _: Params, refund: str) -> Object:
    """GET /v1/refunds/{}."""
    return machine.find("refund", refund)


def list_refunds(machine: Machine, params: Params) -> Object:
    """GET /v1/refunds."""
    allow(params, "payment_intent", "charge", "created", "limit", "starting_after")
    return machine.page("refund", params, "/v1/refunds", payment_intent="", charge="")


def fail_refund(machine: Machine, _: Params, refund: str) -> Object:
    """A bank does not take a refund: the money comes back to us."""
    found = machine.find("refund", refund)
    if found["status"] != "succeeded":
        raise Refusal("refund_unexpected_state", f"This refund is {found['status']}.")
    movement = machine.move(
        "refund_failure",
        found["amount"],
        source=refund,
        category="refund_failure",
        currency=found["currency"],
    )
    found.update(
        status="failed",
        failure_reason="unknown",
        failure_balance_transaction=movement["id"],
    )
    charge = machine.objects[found["charge"]]
    charge["amount_refunded"] -= found["amount"]
    charge["refunded"] = False
    machine.tell("refund.failed", found)
    machine.tell("charge.refund.updated", found)
    return found


def refund_is_over(machine: Machine, found: Object) -> None:
    """Let the refund of a card fail that takes none."""
    if found["status"] == "succeeded":
        fail_refund(machine, {}, found["id"])


def _charge_of(machine: Machine, params: Params) -> Object:
    if "charge" in params:
        return machine.find("charge", params["charge"])
    payment = machine.find("payment_intent", params.get("payment_intent", ""))
    if payment["status"] != "succeeded":
        raise Refusal(
            "payment_intent_unexpected_state",
            f"This PaymentIntent ({payment['status']}) does not have a successful charge to refund.",
        )
    return machine.objects[payment["latest_charge"]]


def get_charge(machine: Machine, _: Params, charge: str) -> Object:
    """GET /v1/charges/{}."""
    return machine.find("charge", charge)


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"


TABLE: Table = {
    ("POST", "/v1/customers"): create_customer,
    ("GET", "/v1/customers/{}"): get_customer,
    ("GET", "/v1/customers/{}/payment_methods"): list_methods,
    ("GET", "/v1/payment_methods/{}"): get_method,
    ("POST", "/v1/payment_methods/{}/detach"): detach_method,
    ("POST", "/v1/checkout/sessions"): create_checkout,
    ("GET", "/v1/checkout/sessions"): list_checkouts,
    ("GET", "/v1/checkout/sessions/{}"): get_checkout,
    ("POST", "/v1/checkout/sessions/{}/expire"): expire_checkout,
    ("POST", "/v1/payment_intents"): create_payment,
    ("GET", "/v1/payment_intents"): list_payments,
    ("GET", "/v1/payment_intents/{}"): get_payment,
    ("POST", "/v1/payment_intents/{}/capture"): capture_payment,
    ("POST", "/v1/payment_intents/{}/cancel"): cancel_payment,
    ("POST", "/v1/setup_intents"): create_setup,
    ("GET", "/v1/setup_intents/{}"): get_setup,
    ("POST", "/v1/refunds"): create_refund,
    ("GET", "/v1/refunds"): list_refunds,
    ("GET", "/v1/refunds/{}"): get_refund,
    ("GET", "/v1/charges/{}"): get_charge,
    ("ACT", "/customers/{}/save"): save_card,
    ("ACT", "/checkout/{}/pay"): pay_checkout,
    ("ACT", "/payments/{}/confirm"): confirm,
    ("ACT", "/payments/{}/authenticate"): authenticate,
    ("ACT", "/payments/{}/settle"): settle,
    ("ACT", "/setups/{}/finish"): finish_setup,
    ("ACT", "/refunds/{}/fail"): fail_refund,
}
EXPIRIES: Expiries = {
    "checkout.session": checkout_is_over,
    "payment_intent": payment_is_over,
    "refund": refund_is_over,
}
