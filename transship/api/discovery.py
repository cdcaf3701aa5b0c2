"""Discovery of the site's import methods, stores, schemas and usage."""

from __future__ import annotations

from starlette.responses import HTMLResponse, JSONResponse, Response

from transship.api.base_url import base_url
from transship.api.docs_page import page_of
from transship.api.images import MEDIA_TYPE
from transship.api.site import Call
from transship.api.views import store_detail_view, store_view
from transship.catalog.quotas import usage_of
from transship.domain.policies import Action


def show_import_methods(call: Call) -> Response:
    """``GET /v2/info/import``: the import methods of this site."""
    methods = {
        "description": "Import methods available.",
        "type": "array",
        "value": list(call.site.settings.imports.enabled_methods),
    }
    return JSONResponse({"import-methods": methods}, media_type=MEDIA_TYPE)


def show_stores(call: Call) -> Response:
    """``GET /v2/info/stores``: the stores; the service is always in multi-store mode."""
    return JSONResponse({"stores": [store_view(store) for store in call.site.stores.facts()]}, media_type=MEDIA_TYPE)


def show_store_details(call: Call) -> Response:
    """``GET /v2/info/stores/detail``: the stores with what operators and services need."""
    call.site.policy.refuse(Action.STORES_INFO_DETAIL, call.viewer)
    stores = call.site.stores
    shown = [store_detail_view(store, stores.public_properties(store.id)) for store in stores.facts()]
    return JSONResponse({"stores": shown}, media_type=MEDIA_TYPE)


def show_usage(call: Call) -> Response:
    """``GET /v2/info/usage``: the caller's unified limits, sizes in MiB; empty, as in Glance, without them."""
    site, project = call.site, call.caller.project_id
    quota = site.quotas.of(project) if site.quotas.unified and project else None
    usage = {}
    if quota is not None:
        with site.catalog.read() as connection:
            used = usage_of(connection, project)
        usage = {
            each.value: {"usage": used[each] // each.unit, "limit": limit.most // each.unit}
            for each, limit in quota.limits.items()
        }
    return JSONResponse({"usage": usage}, media_type=MEDIA_TYPE)


def show_schema(name: str, call: Call) -> Response:
    """``GET /v2/schemas/…``: the JSON schema of one kind of resource."""
    return JSONResponse(dict(call.site.schemas.by_name[name]), media_type=MEDIA_TYPE)


def show_document(call: Call) -> Response:
    """``GET /openapi.json``: the OpenAPI document of this API."""
    server = {"url": base_url(call.request.scope, call.site.settings.api)}
    return JSONResponse({**call.site.document, "servers": [server]})


def show_pages(call: Call) -> Response:
    """``GET /docs``: the same document as a page for browsers."""
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return HTMLResponse(page_of(call.site.document), headers=policy)
