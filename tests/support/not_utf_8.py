"""Documents with text that is not UTF-8, which no driver would write."""

from typing import Any

from bson import CodecOptions, encode
from bson.raw_bson import RawBSONDocument

TOLERANT: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=RawBSONDocument, unicode_decode_error_handler="replace"
)


def spoil(document: dict[str, Any]) -> RawBSONDocument:
    """Replace the text `xyxyxy` by bytes that are not UTF-8."""
    return RawBSONDocument(
        encode(document).replace(b"xyxyxy", b"\xff\xfe\xff\xfe\xff\xfe"), TOLERANT
    )
