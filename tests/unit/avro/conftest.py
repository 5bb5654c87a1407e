from collections.abc import Iterator

import pytest

from tests.support.avro import TinyRegistry


@pytest.fixture
def registry() -> Iterator[TinyRegistry]:
    registry = TinyRegistry()
    yield registry
    registry.down()
