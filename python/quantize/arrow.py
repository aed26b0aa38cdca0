"""The extension type ``quantize.int4_block`` of Apache Arrow, and columns of tables: docs/arrow.md."""

try:
    import pyarrow  # noqa: F401
except ImportError as error:
    raise ImportError(
        'quantize.arrow needs the package pyarrow: pip install "quantize-int4[arrow]"'
    ) from error

from .adapters.arrow_columns import dequantize_column, quantize_column
from .adapters.arrow_type import Int4BlockType

__all__ = ["Int4BlockType", "dequantize_column", "quantize_column"]
