"""One server for each file of the walk through the protocol, and one that limits rates."""

from collections.abc import Iterator

import pytest

from tests.journeys.product import Product, countries


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("contract")
    environment = {
        "GEOIP_DB": str(countries(folder / "countries.mmdb")),
        "TRUSTED_PROXIES": "127.0.0.1/32",
    }
    with Product(folder, environment=environment) as product:
        yield product


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with Product(tmp_path_factory.mktemp("limited"), environment={"RATE_LIMITS": "on"}) as product:
        yield product
