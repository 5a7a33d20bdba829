"""Seals what only its purpose may read: AES-256-GCM, by a key derived from the server's secret (HKDF-SHA256).

The only importer of `cryptography`. What was sealed for one row opens for no other: the row's id is authenticated too.
"""

import secrets
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from billing.errors import SealBrokenError

# Says how it was sealed, so that another way can be told apart some day.
_FIRST_WAY = b"\x01"
# NIST SP 800-38D: 96 random bits are safe for four billion seals under one key.
_NONCE_BYTES = 12


class Vault:
    """Seals and opens."""

    def __init__(self, secret: str) -> None:
        derived = HKDF(SHA256(), length=32, salt=None, info=b"fourtalk payout accounts")
        self._cipher = AESGCM(derived.derive(secret.encode()))

    def seal(self, plain: bytes, *, row_id: UUID) -> bytes:
        """Return what can be stored."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FIRST_WAY + nonce + self._cipher.encrypt(nonce, plain, row_id.bytes)

    def open(self, sealed: bytes, *, row_id: UUID) -> bytes:
        """Return what was sealed for this row.

        Raises:
            SealBrokenError: It was changed, is another row's, or was sealed under another secret.
        """
        way, nonce, rest = sealed[:1], sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            if way != _FIRST_WAY:
                raise SealBrokenError
            return self._cipher.decrypt(nonce, rest, row_id.bytes)
        except (InvalidTag, ValueError) as error:
            raise SealBrokenError from error
