"""The generations of the OMS's Inventory Refresh API: their paths, field names and token requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from consumer.core.changes.items import ITEM_COLUMNS, LOCATION, PLAIN_COLUMNS
from consumer.oms.reply_parsing import has_error_code, has_oms_code
from consumer.oms.token import TokenOptions, TokenRequest, form_request, json_request

TENANT_HEADER: Final = "x-vol-tenant"


@dataclass(frozen=True, slots=True)
class Api:
    """One API. It belongs to a package of the OMS, and accepts only API keys of that package.

    Paths are below ``oms.base_url``; a jobID is appended to ``job_path``. At ``job_list_path`` one call returns many
    jobs, and at ``smart_refresh_path`` small requests are applied at once; None: the API has no such call.
    ``field_names`` are the API's names where they differ from those of columns. ``item_columns`` are the item columns
    that the API accepts; ``token_request`` builds the token request from API key, secret and options; with
    ``has_tenants`` every call but the token request carries the header ``TENANT_HEADER``. ``is_own`` says whether the
    JSON of an error is in the OMS's own words, and not in a gateway's.
    """

    refresh_path: str
    job_path: str
    job_list_path: str | None = None
    smart_refresh_path: str | None = None
    field_names: Mapping[str, str] = field(default_factory=dict)
    item_columns: tuple[str, ...] = tuple(PLAIN_COLUMNS)
    token_request: Callable[[str, str, TokenOptions], TokenRequest] = form_request
    has_tenants: bool = False
    is_own: Callable[[Any], bool] = has_oms_code


APIS: Final[Mapping[str, Api]] = {
    "inventory-specific": Api("/inv/api/v5/inventory/refresh", "/inv/api/v1/queue/"),
    "inventory-v5": Api("/api/v5/inventory/refresh", "/api/v1/queue/"),
    "unified-commerce": Api(
        "/commerce/inventory/v5/inventory/refresh",
        "/commerce/inventory/v1/queue/",
        "/commerce/inventory/v1/queue",
        "/commerce/inventory/v5/inventory/smart-refresh/",
        # The vendor's published client spells both in this way.
        field_names={LOCATION: "locationCode", "ltd": "lTD"},
        item_columns=tuple(ITEM_COLUMNS),
        token_request=json_request,
        has_tenants=True,
        is_own=has_error_code,
    ),
}
"""By value of ``oms.api``."""
