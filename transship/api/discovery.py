"""Discovery of the site's import methods, stores, schemas and usage."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from transship.api.images import MEDIA_TYPE
from transship.api.resource import Operation
from transship.api.site import Call
from transship.api.views import store_detail_view, store_view
from transship.domain.policies import Action


def show_import_methods(call: Call) -> Response:
    """``GET /v2/info/import``."""
    methods = {
        "description": "Import methods available.",
        "type": "array",
        "value": list(call.site.settings.imports.enabled_methods),
    }
    return JSONResponse({"import-methods": methods}, media_type=MEDIA_TYPE)


def show_stores(call: Call) -> Response:
    """``GET /v2/info/stores``: the service is always in multi-store mode."""
    return JSONResponse({"stores": [store_view(store) for store in call.site.stores.facts()]}, media_type=MEDIA_TYPE)


def show_store_details(call: Call) -> Response:
    """``GET /v2/info/stores/detail``."""
    call.site.policy.refuse(Action.STORES_INFO_DETAIL, call.viewer)
    stores = call.site.stores
    shown = [store_detail_view(store, stores.public_properties(store.id)) for store in stores.facts()]
    return JSONResponse({"stores": shown}, media_type=MEDIA_TYPE)


def show_usage(call: Call) -> Response:
    """``GET /v2/info/usage``: empty, as in Glance without unified limits."""
    return JSONResponse({"usage": {}}, media_type=MEDIA_TYPE)


def show_schema(name: str) -> Operation:
    """Return the operation of ``GET /v2/schemas/{name}``."""

    def show(call: Call) -> Response:
        return JSONResponse(dict(call.site.schemas.by_name[name]), media_type=MEDIA_TYPE)

    return show
