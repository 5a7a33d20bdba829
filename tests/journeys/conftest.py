"""One server for the stories of a file, which do not disturb each other: each has people, courses and talks of its own."""

from collections.abc import Iterator

import pytest

from tests.journeys.product import Product, countries


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("journeys")
    environment = {
        "GEOIP_DB": str(countries(folder / "countries.mmdb")),
        "TRUSTED_PROXIES": "127.0.0.1/32",
    }
    with Product(folder, environment=environment) as product:
        yield product
