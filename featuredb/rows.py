"""What every typed answer is: a record that says itself as a row of plain values, and rows of such records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from featuredb.errors import PluginFailed

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, kw_only=True)
class Record:
    """One answer."""

    derived: ClassVar[tuple[str, ...]] = ()
    """Properties that come first in the row."""

    def row(self) -> dict[str, Any]:
        """The answer as strings, numbers, None, lists and dictionaries; times are ISO 8601."""
        names = (*self.derived, *(field.name for field in dataclasses.fields(self)))
        return {name: plain(getattr(self, name)) for name in names}

    @classmethod
    def columns(cls) -> tuple[str, ...]:
        """The keys of `row()`, in order."""
        return (*cls.derived, *(field.name for field in dataclasses.fields(cls)))

    def to_arrow(self) -> pyarrow.Table:
        """The answer as a table of one row."""
        return Rows([self]).to_arrow()


R = TypeVar("R", bound=Record)
S = TypeVar("S", bound=Record)


class Rows(Sequence[R], Generic[R]):
    """Answers of one kind, in order; compares equal to a list of the same answers."""

    def __init__(self, items: Iterable[R], of: type[R] | None = None) -> None:
        self._items = tuple(items)
        self._of = of or (type(self._items[0]) if self._items else None)

    @overload
    def __getitem__(self, at: int) -> R: ...
    @overload
    def __getitem__(self, at: slice) -> Rows[R]: ...
    def __getitem__(self, at: int | slice) -> R | Rows[R]:
        return Rows(self._items[at], self._of) if isinstance(at, slice) else self._items[at]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[R]:
        return iter(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows | list | tuple) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"Rows({list(self._items)!r})"

    @property
    def columns(self) -> tuple[str, ...]:
        """The keys of every row; none for no answers of no stated kind."""
        return self._of.columns() if self._of else ()

    def rows(self) -> list[dict[str, Any]]:
        """Each answer's `row()`."""
        return [item.row() for item in self._items]

    def to_arrow(self) -> pyarrow.Table:
        """A table with a column for each field; nested fields become lists and structs."""
        import pyarrow as pa

        if self._items:
            return pa.Table.from_pylist(self.rows())
        return pa.table({name: pa.nulls(0) for name in self.columns})

    def to_pandas(self) -> Any:
        """A pandas.DataFrame with a column for each field. Raises PluginFailed where pandas is not installed."""
        try:
            return self.to_arrow().to_pandas()
        except ImportError as error:
            raise PluginFailed("pandas is not installed", hint="pip install pandas, or use to_arrow()") from error

    def _repr_html_(self) -> str:
        from featuredb.notebook import rows_html

        return rows_html(self.columns, self.rows())


def plain(value: Any) -> Any:
    """The value as JSON can say it: strings, numbers, None, lists and dictionaries."""
    if isinstance(value, Record):
        return value.row()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple | list | Rows):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # numpy's arrays and scalars; JSON and equality want Python's own
        return value.tolist()
    return value
