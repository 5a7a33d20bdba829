"""Banks that take payments back, and how it ends."""

from server.integrations.stripe_fake.machine import (
    DAY_S,
    Machine,
    Object,
    Params,
    Refusal,
    Table,
    whole,
)

# What a dispute costs in the United States; it stays taken, whoever wins.
FEE = 1_500
OPEN = ("needs_response", "under_review")
INQUIRIES = ("warning_needs_response", "warning_under_review")


def get_dispute(machine: Machine, _: Params, dispute: str) -> Object:
    """GET /v1/disputes/{}."""
    return machine.find("dispute", dispute)


def open_dispute(machine: Machine, params: Params, payment: str) -> Object:
    """A cardholder complains; an `inquiry` only asks and moves no money."""
    found = machine.find("payment_intent", payment)
    if found["status"] != "succeeded":
        raise Refusal("charge_not_found", "Only what was paid can be disputed.")
    charge = machine.objects[found["latest_charge"]]
    is_inquiry = bool(params.get("inquiry"))
    fields = {
        "amount": whole(params, "amount") if "amount" in params else charge["amount_captured"],
        "balance_transactions": [],
        "charge": charge["id"],
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {},
        "evidence_details": {
            "due_by": machine.now + 7 * DAY_S,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": is_inquiry,
        "metadata": {},
        "payment_intent": payment,
        "reason": str(params.get("reason", "fraudulent")),
        "status": "warning_needs_response" if is_inquiry else "needs_response",
    }
    made = machine.add("dispute", "dp", fields)
    machine.tell("charge.dispute.created", made)
    if not is_inquiry:
        _withdraw(machine, made)
    return made


def escalate(machine: Machine, _: Params, dispute: str) -> Object:
    """An inquiry becomes a dispute."""
    found = machine.find("dispute", dispute)
    if found["status"] not in INQUIRIES:
        raise Refusal("dispute_unexpected_state", f"This dispute is {found['status']}.")
    found.update(status="needs_response", is_charge_refundable=False)
    machine.tell("charge.dispute.updated", found)
    _withdraw(machine, found)
    return found


def decide(machine: Machine, params: Params, dispute: str) -> Object:
    """The bank decides (`won` or `lost`), or an inquiry is given up."""
    found = machine.find("dispute", dispute)
    if found["status"] in INQUIRIES:
        found["status"] = "warning_closed"
    elif found["status"] in OPEN:
        found["status"] = "won" if params.get("won") else "lost"
    else:
        raise Refusal("dispute_unexpected_state", f"This dispute is {found['status']}.")
    if found["status"] == "won":
        movement = machine.move(
            "adjustment",
            found["amount"],
            source=dispute,
            category="dispute_reversal",
            currency=found["currency"],
        )
        found["balance_transactions"].append(movement)
        machine.tell("charge.dispute.funds_reinstated", found)
    machine.tell("charge.dispute.closed", found)
    return found


def _withdraw(machine: Machine, found: Object) -> None:
    movement = machine.move(
        "adjustment",
        -found["amount"],
        source=found["id"],
        category="dispute",
        currency=found["currency"],
        fee=FEE,
    )
    found["balance_transactions"].append(movement)
    machine.objects[found["charge"]]["disputed"] = True
    machine.tell("charge.dispute.funds_withdrawn", found)


TABLE: Table = {
    ("GET", "/v1/disputes/{}"): get_dispute,
    ("ACT", "/payments/{}/dispute"): open_dispute,
    ("ACT", "/disputes/{}/escalate"): escalate,
    ("ACT", "/disputes/{}/decide"): decide,
}
