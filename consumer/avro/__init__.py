"""Bytes to frames: wire formats, schema sources, columnar decoding, and fastavro as the reference."""
