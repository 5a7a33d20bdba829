"""One account at Stripe: its objects, its clock, its money, its events, and the answers it keeps by key. Pure.

Shapes follow Stripe's API reference; what tests compare them with is in `tests/billing/test_stripe_fake.py`.
"""

import copy
import hashlib
import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

VERSION = "2026-10-28.endive"
DAY_S = 86_400
# "The idempotency layer": keys can be removed after they are at least 24 hours old; here they are, at once.
KEYS_KEPT_S = DAY_S
# Cards in the United States: 2.9 % and 30 cents, on the balance pending for two days, available on the third.
FEE_PER_MILLE, FEE_FIXED = 29, 30
AVAILABLE_AFTER_S = 2 * DAY_S

Object = dict[str, Any]
Params = Mapping[str, Any]

# Our own account; connected ones have their ids.
OURS = ""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happens: a request of the API, or an act of people and banks (`method` is "ACT")."""

    at: int
    method: str
    path: str
    params: dict[str, Any] = {}
    key: str | None = None
    account: str = OURS
    breaks: bool = False
    """Stripe breaks after the effect: the answer is a 500, and it is kept."""


class Answer(msgspec.Struct, frozen=True):
    """Status and body of an answer."""

    status: int
    body: Object
    replayed: bool = False


class Refusal(Exception):  # noqa: N818  (an answer, not a fault)
    """An error of the API."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        kept: bool = True,
        **facts: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kept = kept
        """Kept under its key: not where the request did not begin to be executed."""
        self.body: Object = {"error": {"type": kind, "code": code, "message": message, **facts}}


class _Kept(msgspec.Struct, frozen=True):
    """The first answer to a key."""

    at: int
    digest: bytes
    answer: Answer


class Machine:
    """The account; `do` is the only way in."""

    def __init__(self, routes: "Routes", *, pages: str) -> None:
        self.now = 0
        self.pages = pages
        """Where the pages are on which people pay; no slash at the end."""
        self.objects: dict[str, Object] = {}
        self.events: list[Object] = []
        self.delivered: set[str] = set()
        """Ids of events that somebody has taken."""
        self.wishes: dict[str, Object] = {}
        """What a session wants of its payment."""
        self.checkouts: dict[str, str] = {}
        """Payment → its session."""
        self.accounts: dict[str, str] = {}
        """Payout → whose."""
        self.returns: dict[str, str] = {}
        """Account → where its newest onboarding leads back to."""
        self._routes = routes
        self._count = 0
        self._ids: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self._due: list[tuple[int, int, str]] = []
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._account = OURS
        self._request: Object = {"id": None, "idempotency_key": None}

    def do(self, call: Call) -> Answer:
        """Let something happen, after what has fallen due before it. A question (GET) changes nothing, time included."""
        if call.method == "GET":
            return self._execute(call)[0]
        self.now = max(self.now, call.at)
        self._pass_time()
        if call.method != "POST" or call.key is None:
            return self._execute(call)[0]
        place, digest = (call.account, call.key), _digest(call)
        kept = self._kept.get(place)
        if kept is not None and self.now - kept.at < KEYS_KEPT_S:
            if kept.digest != digest:
                return _refused(
                    Refusal(
                        "idempotency_error",
                        "Keys for idempotent requests can only be used with the same parameters they were first used with.",
                        kind="idempotency_error",
                    )
                )
            if not (call.path.startswith("/v2/") and kept.answer.status >= 400):
                return Answer(kept.answer.status, kept.answer.body, replayed=True)
        answer, is_kept = self._execute(call)
        if is_kept:
            self._kept[place] = _Kept(self.now, digest, answer)
        return answer

    def _execute(self, call: Call) -> tuple[Answer, bool]:
        """Return the answer, and whether it is kept under its key."""
        self._account = call.account
        if call.method != "GET":
            self._request = {"id": self.new_id("req"), "idempotency_key": call.key}
        try:
            found = copy.deepcopy(self._routes(self, call))
            for path in call.params.get("expand", ()):
                self._expand(found, path.split("."))
            answer = Answer(200, found)
        except Refusal as refusal:
            if not refusal.kept:
                return _refused(refusal), False
            answer = _refused(refusal)
        if call.breaks:
            answer = _refused(Refusal("api_error", "An unknown error occurred", status=500, kind="api_error"))
        return answer, True

    def _expand(self, found: Object, path: list[str]) -> None:
        """Put an object where only its id stands."""
        name, *rest = path
        value = found.get(name)
        if isinstance(value, list):
            for one in value:
                self._expand(one, rest)
            return
        if isinstance(value, str):
            value = found[name] = copy.deepcopy(self.objects[value])
        if rest and value is not None:
            self._expand(value, rest)

    # Objects ---------------------------------------------------------------------------------------------------

    @property
    def account(self) -> str:
        """Return whose objects the current call is about."""
        return self._account

    def new_id(self, prefix: str) -> str:
        """Return an id; the n-th is always the same."""
        self._count += 1
        return f"{prefix}_{hashlib.sha256(self._count.to_bytes(8)).hexdigest()[:24]}"

    def add(self, kind: str, prefix: str, fields: Object, *, account: str | None = None) -> Object:
        """Make an object; `fields` are what it has beyond what all have."""
        made: Object = {
            "id": self.new_id(prefix),
            "object": kind,
            "created": self.now,
            "livemode": False,
        } | fields
        self.objects[made["id"]] = made
        self._ids[self._account if account is None else account, kind].append(made["id"])
        return made

    def find(self, kind: str, id_: str) -> Object:
        """Return an object.

        Raises:
            Refusal: There is none of this kind.
        """
        found = self.objects.get(id_)
        if found is None or found["object"] != kind:
            raise Refusal("resource_missing", f"No such {kind}: '{id_}'", status=404, param="id")
        return found

    def all(self, kind: str, account: str | None = None) -> list[Object]:
        """Return all objects of a kind, newest first."""
        ids = self._ids[self._account if account is None else account, kind]
        return [self.objects[id_] for id_ in reversed(ids)]

    def page(self, kind: str, params: Params, url: str, **equal: str) -> Object:
        """Return the page of a list that the parameters ask for; of `equal`, those that are given must match."""
        found = self.all(kind)
        for name in equal:
            if name in params:
                found = [one for one in found if one[name] == params[name]]
        created = params.get("created", {})
        found = [one for one in found if _is_between(one["created"], created)]
        if "starting_after" in params:
            ids = [one["id"] for one in found]
            if params["starting_after"] not in ids:
                raise Refusal("resource_missing", "No such object: starting_after", status=404)
            found = found[ids.index(params["starting_after"]) + 1 :]
        limit = int(params.get("limit", 10))
        return {"object": "list", "url": url, "data": found[:limit], "has_more": len(found) > limit}

    # Money -----------------------------------------------------------------------------------------------------

    def move(
        self,
        kind: str,
        amount: int,
        *,
        source: str,
        category: str,
        currency: str,
        fee: int = 0,
        after_s: int = 0,
        account: str = OURS,
    ) -> Object:
        """Write a movement of a balance; the money is available after so many seconds."""
        details = [
            {
                "amount": fee,
                "application": None,
                "currency": currency,
                "description": "Stripe fees",
                "type": "stripe_fee",
            }
        ]
        fields = {
            "amount": amount,
            "available_on": self.now + after_s,
            "balance_type": "payments",
            "currency": currency,
            "description": None,
            "exchange_rate": None,
            "fee": fee,
            "fee_details": details if fee else [],
            "net": amount - fee,
            "reporting_category": category,
            "source": source,
            "status": "pending" if after_s else "available",
            "type": kind,
        }
        made = self.add("balance_transaction", "txn", fields, account=account)
        del made["livemode"]
        if after_s:
            self.fall_due(self.now + after_s, made["id"])
        return made

    def balance(self, account: str) -> Object:
        """Return what an account has."""
        sums: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for one in self.all("balance_transaction", account):
            sums[one["status"]][one["currency"]] += one["net"]
        currencies = sorted({"usd", *sums["available"], *sums["pending"]})
        return {
            "object": "balance",
            "livemode": False,
            **{
                state: [
                    {
                        "amount": sums[state][currency],
                        "currency": currency,
                        "source_types": {"card": sums[state][currency]},
                    }
                    for currency in currencies
                ]
                for state in ("available", "pending")
            },
        }

    def available(self, account: str, currency: str) -> int:
        """Return what an account can spend."""
        return next(
            (one["amount"] for one in self.balance(account)["available"] if one["currency"] == currency), 0
        )

    # Time and events -------------------------------------------------------------------------------------------

    @property
    def due_at(self) -> float:
        """Return when something falls due next."""
        return self._due[0][0] if self._due else math.inf

    def fall_due(self, at: int, id_: str) -> None:
        """Have `expire` of the object's kind called at this time."""
        heapq.heappush(self._due, (at, len(self._due), id_))

    def _pass_time(self) -> None:
        until = self.now
        while self._due and self._due[0][0] <= until:
            at, _, id_ = heapq.heappop(self._due)
            self.now = at
            self._account = OURS
            self._request = {"id": None, "idempotency_key": None}
            self._routes.expire(self, self.objects[id_])
        self.now = until

    def tell(self, type_: str, found: Object, *, account: str | None = None, **previous: Any) -> None:
        """Write an event about an object as it is now."""
        where = self._account if account is None else account
        data: Object = {"object": copy.deepcopy(found)} | (
            {"previous_attributes": previous} if previous else {}
        )
        event: Object = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": VERSION,
            "created": self.now,
            "data": data,
            "livemode": False,
            "pending_webhooks": 1,
            "request": dict(self._request),
            "type": type_,
        }
        if where != OURS:
            event["account"] = where
        self.events.append(event)

    def tell_thin(self, type_: str, found: Object, url: str) -> None:
        """Write an event of the second API, which only names its object."""
        self.events.append(
            {
                "id": self.new_id("evt"),
                "object": "v2.core.event",
                "type": type_,
                "created": iso(self.now),
                "livemode": False,
                "reason": None,
                "related_object": {"id": found["id"], "type": found["object"], "url": url},
            }
        )


Table = Mapping[tuple[str, str], Callable[..., Object]]
Expiries = Mapping[str, Callable[[Machine, Object], None]]


class Routes:
    """What can happen: the functions of the other modules, by method and path."""

    def __init__(
        self,
        table: Table,
        expiries: Expiries,
    ) -> None:
        self._exact = {key: function for key, function in table.items() if "{" not in key[1]}
        self._patterns = [
            (method, path.split("/"), function) for (method, path), function in table.items() if "{" in path
        ]
        self._expiries = expiries

    def __call__(self, machine: Machine, call: Call) -> Object:
        """Find the function of a call and run it.

        Raises:
            Refusal: There is none, or it refuses.
        """
        exact = self._exact.get((call.method, call.path))
        if exact is not None:
            return exact(machine, call.params)
        parts = call.path.split("/")
        for method, pattern, function in self._patterns:
            if method == call.method and len(pattern) == len(parts):
                pairs = list(zip(pattern, parts, strict=True))
                if all(name in (part, "{}") for name, part in pairs):
                    return function(machine, call.params, *(part for name, part in pairs if name == "{}"))
        raise Refusal(
            "url_invalid", f"Unrecognized request URL ({call.method}: {call.path})", status=404, kept=False
        )

    def expire(self, machine: Machine, found: Object) -> None:
        """Do what falls due of an object."""
        self._expiries[found["object"]](machine, found)


def allow(params: Params, *names: str) -> None:
    """Refuse parameters that Stripe does not know.

    Raises:
        Refusal: One of them is none of `names`.
    """
    for name in params:
        if name not in (*names, "expand"):
            raise Refusal("parameter_unknown", f"Received unknown parameter: {name}", param=name, kept=False)


def need(params: Params, *names: str) -> None:
    """Refuse a call that lacks a parameter.

    Raises:
        Refusal: One is missing.
    """
    for name in names:
        if params.get(name) in (None, ""):
            raise Refusal("parameter_missing", f"Missing required param: {name}.", param=name, kept=False)


def whole(params: Params, name: str, *, least: int = 1) -> int:
    """Return a parameter that is a number.

    Raises:
        Refusal: It is none, or too small.
    """
    try:
        number = int(params[name])
    except (TypeError, ValueError):
        raise Refusal(
            "parameter_invalid_integer", f"Invalid integer: {params[name]}", param=name, kept=False
        ) from None
    if number < least:
        raise Refusal("parameter_invalid_integer", f"Invalid integer: {number}", param=name, kept=False)
    return number


def iso(at: int) -> str:
    """Write a time as the second API does."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _is_between(created: int, bounds: Params) -> bool:
    return int(bounds.get("gte", 0)) <= created < int(bounds.get("lt", 2**60)) and int(
        bounds.get("gt", -1)
    ) < created <= int(bounds.get("lte", 2**60))


def _digest(call: Call) -> bytes:
    return hashlib.sha256(msgspec.json.encode((call.path, call.params), order="deterministic")).digest()


def _refused(refusal: Refusal) -> Answer:
    return Answer(refusal.status, refusal.body)
