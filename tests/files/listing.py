"""What tests/files/list_model.c says of a file."""

from dataclasses import dataclass, field

OK, ARGUMENT, FORMAT, LIMIT, IO = range(5)


@dataclass
class Listing:
    """A list of parts for each line that was printed, by the first word."""

    result: int = OK
    offset: int = -1
    message: str = ""
    tensors: list[list[str]] = field(default_factory=list)
    metadata: list[list[str]] = field(default_factory=list)
    note: str = ""
    seconds: float = 0.0
