"""Which country an address lies in, and which address a request came from. The only importer of geoip2.

Two shapes of country files exist: MaxMind's own (`{"country": {"iso_code": "VN"}}`), and the flat ones of free
sources such as iptoasn-country (`{"country_code": "VN"}`), which geoip2's reader refuses. City files of MaxMind's
shape answer the city too. Unknown is None, and None lies near nobody.
"""

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import geoip2.database
import geoip2.errors
import maxminddb
import msgspec

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# A chain longer than this was written by somebody who wants us to read it.
FORWARDED_MAX = 20


class Place(msgspec.Struct, frozen=True):
    """Where an address lies; ISO 3166 alpha-2 country, city in English."""

    country: str
    city: str | None = None


class Locator:
    """Looks addresses up in one file, or knows nobody's place without one."""

    def __init__(self, path: Path | None) -> None:
        self._flat: maxminddb.Reader | None = None
        self._maxmind: geoip2.database.Reader | None = None
        self._has_cities = False
        if path is None:
            return
        reader = maxminddb.open_database(path)
        kind = reader.metadata().database_type
        # MaxMind names its files GeoLite2-City, GeoIP2-Country and so on; others took over the suffix.
        if kind.endswith(("-City", "-Country", "-Enterprise", "-City-Lite", "-Country-Lite")):
            reader.close()
            self._maxmind = geoip2.database.Reader(path)
            self._has_cities = "Country" not in kind
        else:
            self._flat = reader

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def place(self, address: str | None) -> Place | None:
        """Return where the address lies, None when nobody knows."""
        parsed = parse_address(address)
        if parsed is None:
            return None
        if self._maxmind is not None:
            return self._ask_maxmind(self._maxmind, parsed)
        if self._flat is not None:
            return _flat_place(self._flat.get(parsed))
        return None

    def country(self, address: str | None) -> str | None:
        """Return the ISO country of the address, None when nobody knows."""
        place = self.place(address)
        return place.country if place else None

    def close(self) -> None:
        """Close the file."""
        for reader in (self._flat, self._maxmind):
            if reader is not None:
                reader.close()

    def _ask_maxmind(self, reader: geoip2.database.Reader, address: Address) -> Place | None:
        try:
            if not self._has_cities:
                found = reader.country(address).country.iso_code
                return Place(found) if found else None
            answer = reader.city(address)
        except geoip2.errors.AddressNotFoundError:
            return None
        country = answer.country.iso_code
        return Place(country, answer.city.name) if country else None


def parse_address(text: str | None) -> Address | None:
    """Return the address, IPv4 also when written as `::ffff:14.160.0.1`; None for what is not one."""
    try:
        address = ipaddress.ip_address((text or "").strip())
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def client_address(scope: Mapping[str, Any], trusted_proxies: Sequence[Network]) -> str | None:
    """Return the address that the request of an ASGI scope really came from, None when nobody knows.

    Each proxy appends to X-Forwarded-For whom it heard from, so the chain is read from its right end and
    believed only as far as those who wrote it are trusted: what stands further left may be the client's own
    invention.
    """
    address = parse_address((scope.get("client") or [None])[0])
    lines = [
        value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"
    ]
    hops = ",".join(lines).split(",")[-FORWARDED_MAX:] if lines else []
    while hops and address is not None and _is_in(address, trusted_proxies):
        address = parse_address(hops.pop())
    return None if address is None else str(address)


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _flat_place(record: Any) -> Place | None:
    code = record.get("country_code") if isinstance(record, dict) else None
    if not isinstance(code, str) or not code:
        return None
    city = record.get("city")
    return Place(code, city if isinstance(city, str) and city else None)
