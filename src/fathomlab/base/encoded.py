"""Fields of typed values whose JSON is another value, such as a trial that is sent as its options."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Encoded:
    """Says how `base.codec` writes and reads a field: `Annotated[Trial, Encoded(write, read)]`.

    Attributes:
        write: The plain data of a value.
        read: The value of plain data. Raises ValueError if there is none.
    """

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> Any:
        """The validator and serializer, as pydantic asks for them."""
        from pydantic_core import core_schema

        serializer = core_schema.plain_serializer_function_ser_schema(self.write)
        return core_schema.no_info_plain_validator_function(self.read, serialization=serializer)
