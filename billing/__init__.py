"""Money: the double-entry ledger, wallets, holds and their settlement. Imports neither rooms nor server."""
