"""File formats: bytes to records and back, over streams, without any policy of where the bytes lie."""
