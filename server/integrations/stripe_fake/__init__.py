"""Stripe in memory: what `serve` uses as test payments without a key, and what the tests pay with.

`machine.py` is one account at Stripe: its objects, its clock, its money. `payments.py`, `connect.py` and `disputes.py` are what can be
asked of it and what people and banks do to it. `fake.py` is the outside: the API as an ASGI application, a network that
loses things, and webhooks.

Everything that happens is a `Call`, also what people and banks do; the machine is a pure function of the calls so far,
in their order. So a list of calls is all there is to keep (`tape.py`): who reads it has the same account.
"""
