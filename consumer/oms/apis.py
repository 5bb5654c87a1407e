"""The OMS's generations of Inventory Refresh: where each is found, and what it calls things."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from consumer.core.items import LOCATION


@dataclass(frozen=True, slots=True)
class Api:
    """Paths under ``oms.base_url``. Each API belongs to a package, and takes only keys of that package."""

    refresh_path: str
    location_field: str = LOCATION


APIS: Final[Mapping[str, Api]] = {
    "inventory-specific": Api("/inv/api/v5/inventory/refresh"),
    "inventory-v5": Api("/api/v5/inventory/refresh"),
}
"""By the values of ``oms.api``. A new generation is a line here, unless it gets its tokens another way."""
