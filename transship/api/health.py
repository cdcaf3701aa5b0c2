"""``/healthcheck``: whether this API works, as text, HTML or JSON."""

from __future__ import annotations

import html
import time
from http import HTTPStatus
from typing import Final

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from config.settings import Settings
from transship.api.errors import preferred_type
from transship.api.site import Call
from transship.catalog.health import CatalogHealth, look_at
from transship.domain.errors import StoreDenied, StoreFull, StoreUnavailable
from transship.host.runner_status import read_runner_status, runner_status_path

FORMS: Final = ("text/plain", "text/html", "application/json")


def check_health(call: Call) -> Response:
    """``GET /healthcheck``: 200 when the catalogue can be read, else 503; with ``?detailed`` check each store too.

    Source: oslo.middleware's healthcheck, whose bodies load balancers and operators' scripts parse.
    """
    found = look_at(call.site.catalog)
    status = HTTPStatus.OK if found.readable else HTTPStatus.SERVICE_UNAVAILABLE
    reason = "OK" if found.readable else found.reason
    # Without an Accept header the response is text, as in oslo.middleware.
    match preferred_type(call.accept or "*/*", FORMS):
        case "application/json":
            return JSONResponse(_report(call, found, reason), status.value)
        case "text/html":
            return HTMLResponse(f"<html><body><p>{html.escape(reason)}</p></body></html>", status.value)
    return PlainTextResponse(reason, status.value)


def _report(call: Call, found: CatalogHealth, reason: str) -> dict[str, object]:
    detailed = "detailed" in call.request.query_params
    report: dict[str, object] = {
        "detailed": detailed,
        "reasons": [reason],
        # Lets the command distinguish this service from another one that may have the same address.
        "catalog_id": found.catalog_id,
        "catalog": "ok" if found.readable else found.reason,
        "keeper": "alive" if found.keeper_alive else "no keeper holds its lease; imports wait until one does",
    }
    if detailed:
        report["runner"] = _runner_state(call.site.settings)
    if detailed and found.readable:
        report["stores"] = {store.id: _store_state(call, store.id) for store in call.site.stores.facts()}
    return report


def _runner_state(settings: Settings) -> str:
    runner = read_runner_status(runner_status_path(settings))
    if runner is None:
        return "none on this machine"
    text = f"{runner.phase}, {runner.engine} engine, {runner.carried} of {runner.limit} runs"
    told = [text, *(reason for reason in (runner.problem(time.time()), runner.reason) if reason)]
    return "; ".join(told)


def _store_state(call: Call, store_id: str) -> str:
    try:
        with call.site.stores.using(store_id) as driver:
            for part in driver.parts():
                part.check()
    except (StoreUnavailable, StoreDenied, StoreFull) as error:
        return str(error)
    return "ok"
