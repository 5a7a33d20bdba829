"""Which country, from which file; which address, from which header."""

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]  # it has no types

from server.integrations import geo
from server.integrations.geo import Locator, Place

VIETNAM, AMERICA, NOWHERE = "14.160.0.1", "8.8.8.8", "192.0.2.1"
NETWORKS = {"VN": ["14.160.0.0/11", "2001:ee0::/32"], "US": ["8.8.8.0/24"]}


def write(path: Path, database_type: str, record: Callable[[str], dict[str, Any]]) -> Path:
    # IPv4 addresses lie in the IPv6 tree, as in every published file.
    writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type=database_type)
    for country, networks in NETWORKS.items():
        writer.insert_network(IPSet(networks), record(country))
    writer.to_db_file(str(path))
    return path


def flat(country: str) -> dict[str, Any]:
    return {"country_code": country}


def maxmind(country: str) -> dict[str, Any]:
    return {"country": {"iso_code": country}}


def maxmind_city(country: str) -> dict[str, Any]:
    return {"country": {"iso_code": country}, "city": {"names": {"en": f"Capital of {country}"}}}


@pytest.fixture(
    params=[
        ("GeoLite2-Country", maxmind),
        ("GeoIP2-Country", maxmind),
        ("country ipvAll", flat),
        ("iptoasn-country", flat),
    ],
    ids=lambda shape: str(shape[0]),
)
def countries(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path / "countries.mmdb", *request.param)


@pytest.mark.parametrize(
    ("address", "country"),
    [
        (VIETNAM, "VN"),
        (f"::ffff:{VIETNAM}", "VN"),
        ("2001:ee0:4f00::1", "VN"),
        (AMERICA, "US"),
        (NOWHERE, None),
        ("127.0.0.1", None),
        ("10.0.0.1", None),
        ("::1", None),
        ("not an address", None),
        ("", None),
        (None, None),
    ],
)
def test_every_shape_answers_the_country(countries: Path, address: str | None, country: str | None) -> None:
    with Locator(countries) as locator:
        assert locator.country(address) == country


def test_a_city_file_answers_the_city_too(tmp_path: Path) -> None:
    with Locator(write(tmp_path / "cities.mmdb", "GeoLite2-City", maxmind_city)) as locator:
        assert locator.place(VIETNAM) == Place("VN", "Capital of VN")
        assert locator.place(NOWHERE) is None


def test_a_flat_city_file_answers_the_city_too(tmp_path: Path) -> None:
    path = write(
        tmp_path / "cities.mmdb", "city ipvAll", lambda code: {"country_code": code, "city": "Hanoi"}
    )

    with Locator(path) as locator:
        assert locator.place(VIETNAM) == Place("VN", "Hanoi")


@pytest.mark.parametrize("record", [{}, {"country_code": ""}, {"asn": 7}], ids=str)
def test_a_record_without_a_country_is_nowhere(tmp_path: Path, record: dict[str, Any]) -> None:
    with Locator(write(tmp_path / "odd.mmdb", "odd", lambda _: record)) as locator:
        assert locator.place(VIETNAM) is None


def test_without_a_file_nobody_is_anywhere() -> None:
    with Locator(None) as locator:
        assert locator.place(VIETNAM) is None


PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"host", b"fourtalk"), *((b"X-Forwarded-For", value.encode()) for value in forwarded)]
    return {"client": None if peer is None else (peer, 50_000), "headers": headers}


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        pytest.param(VIETNAM, (), VIETNAM, id="straight"),
        pytest.param(VIETNAM, (AMERICA,), VIETNAM, id="a client's invention"),
        pytest.param("10.0.0.1", (VIETNAM,), VIETNAM, id="one proxy"),
        pytest.param("10.0.0.1", (f"{VIETNAM}, 10.0.0.2",), VIETNAM, id="two proxies"),
        pytest.param("10.0.0.1", (VIETNAM, "10.0.0.2"), VIETNAM, id="two headers"),
        pytest.param("10.0.0.1", (f"{AMERICA}, {VIETNAM}",), VIETNAM, id="an invention through a proxy"),
        pytest.param("::ffff:10.0.0.1", (f"::ffff:{VIETNAM}",), VIETNAM, id="mapped addresses"),
        pytest.param("fd00::1", (VIETNAM,), VIETNAM, id="a proxy on IPv6"),
        pytest.param("10.0.0.1", (), "10.0.0.1", id="a proxy of its own"),
        pytest.param("10.0.0.1", ("unknown",), None, id="a proxy that does not know"),
        pytest.param("10.0.0.1", (",".join([AMERICA] * 10_000),), AMERICA, id="a very long chain"),
        pytest.param(None, (VIETNAM,), None, id="no peer"),
    ],
)
def test_only_trusted_proxies_are_believed(
    peer: str | None, forwarded: tuple[str, ...], address: str | None
) -> None:
    assert geo.client_address(scope(peer, *forwarded), PROXIES) == address


def test_without_trusted_proxies_the_header_is_nothing() -> None:
    assert geo.client_address(scope("10.0.0.1", VIETNAM), ()) == "10.0.0.1"
