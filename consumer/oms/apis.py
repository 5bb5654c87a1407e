"""The OMS's generations of Inventory Refresh: where each is found, and what it calls things."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from consumer.core.changes.items import ITEM_COLUMNS, LOCATION, PLAIN_COLUMNS
from consumer.oms.token import TokenRequest, as_form, as_json

TENANT_HEADER: Final = "x-vol-tenant"


@dataclass(frozen=True, slots=True)
class Api:
    """Paths under ``oms.base_url``, and the manner. Each API belongs to a package, and takes only keys of that package.

    ``job_path`` goes before a jobID. ``item_columns`` are the columns that it takes of an item; ``token_request`` makes
    the request for a token of API key and secret; ``has_tenants``: each call names the tenant in ``TENANT_HEADER``.
    """

    refresh_path: str
    job_path: str
    location_field: str = LOCATION
    item_columns: tuple[str, ...] = tuple(PLAIN_COLUMNS)
    token_request: Callable[[str, str], TokenRequest] = as_form
    has_tenants: bool = False


APIS: Final[Mapping[str, Api]] = {
    "inventory-specific": Api("/inv/api/v5/inventory/refresh", "/inv/api/v1/queue/"),
    "inventory-v5": Api("/api/v5/inventory/refresh", "/api/v1/queue/"),
    "unified-commerce": Api(
        "/commerce/inventory/v5/inventory/refresh",
        "/commerce/inventory/v1/queue/",
        location_field="locationCode",
        item_columns=tuple(ITEM_COLUMNS),
        token_request=as_json,
        has_tenants=True,
    ),
}
"""By the values of ``oms.api``. A new generation is a line here."""
