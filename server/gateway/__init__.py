"""Sockets, channels and what travels between nodes. Knows no feature: `server/app.py` hands down what it needs."""
