"""Rows that go into one table with the journal that they belong to, as one text: twenty cost hardly more than one."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import msgspec
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]

Side = Literal["debits", "credits"]


class Rows(msgspec.Struct, frozen=True):
    """What is written into one table; what is not named here takes its default."""

    table: Table
    columns: Mapping[str, Sequence[object]]
    """A value for each row; ready-made JSON as it is (`msgspec.Raw`)."""
    constants: Mapping[str, object]
    """The same in all rows."""
    journal: str | None = None
    """The column that gets the id of the journal that they belong to."""
    sides: tuple[tuple[str, Side], ...] = ()
    """Columns that get an account of the journal's leg at the same place."""

    @property
    def shape(self) -> "Shape":
        """Return what decides the statement."""
        return Shape(self.table, tuple(self.columns), tuple(self.constants), self.journal, self.sides)

    def parameters(self, place: int) -> dict[str, object]:
        """Return the parameters of the statement's part at this place."""
        names = tuple(self.columns)
        rows = [dict(zip(names, values, strict=True)) for values in zip(*self.columns.values(), strict=True)]
        return {
            f"rows_{place}": msgspec.json.encode(rows).decode(),
            **{f"{name}_{place}": value for name, value in self.constants.items()},
        }


class Shape(msgspec.Struct, frozen=True):
    """Rows without their values."""

    table: Table
    columns: tuple[str, ...]
    constants: tuple[str, ...]
    journal: str | None
    sides: tuple[tuple[str, Side], ...]


@lru_cache(maxsize=64)
def insert_sql(shape: Shape, place: int) -> str:
    """Return the insert of rows that belong to a journal, as a part of the statement that posts it (`ledger.post`).

    There `posted` is the journal, with the accounts of its legs. Nothing is written if it was posted before.
    """
    kinds = {name: shape.table.c[name].type.compile(_DIALECT) for name in shape.columns + shape.constants}
    names = [*shape.columns, *shape.constants, *(name for name, _ in shape.sides)]
    names += [shape.journal] if shape.journal else []
    fields = ", ".join(f"{name} {kinds[name]}" for name in shape.columns)
    values = [
        *(f"r.{name}" for name in shape.columns),
        *(f"cast(:{name}_{place} as {kinds[name]})" for name in shape.constants),
        *(f"posted.{side}[r.place]" for _, side in shape.sides),
    ]
    values += ["posted.journal_id"] if shape.journal else []
    return (
        f"insert into {shape.table.name} ({', '.join(names)}) select {', '.join(values)}"  # noqa: S608 -- our own names
        f" from posted, rows from (json_to_recordset(cast(:rows_{place} as json)) as ({fields})) with ordinality"
        f" as r({', '.join(shape.columns)}, place)"
        " where not posted.replayed order by r.place"
    )
