"""Money into wallets: by card, once."""
