"""The declarative base of the server's own tables; each feature adds its tables to it."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from billing.models import NAMING_CONVENTION


class Base(DeclarativeBase):
    """Tables of accounts, courses, talks, notifications and the gateway."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
