"""Wallets and holds as people see them."""
