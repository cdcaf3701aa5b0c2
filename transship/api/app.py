"""The Images API v2 as an ASGI application: its routes and middleware."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from config.settings import Settings
from transship.api.authentication import Authentication, reader_of
from transship.api.copies import deactivate_image, delete_from_store, reactivate_image
from transship.api.cors import cors_middleware
from transship.api.discovery import (
    show_document,
    show_import_methods,
    show_pages,
    show_schema,
    show_store_details,
    show_stores,
    show_usage,
)
from transship.api.health import check_health
from transship.api.image_file import download_image
from transship.api.images import (
    add_tag,
    create_image,
    delete_image,
    list_images,
    remove_tag,
    show_image,
)
from transship.api.imports import list_image_tasks, start_import
from transship.api.locations import list_locations, register_location
from transship.api.members import add_member, answer_membership, list_members, remove_member, show_member
from transship.api.openapi import describe
from transship.api.patch_image import patch_image
from transship.api.policy import Policy
from transship.api.protection import PropertyProtection
from transship.api.request_id import RequestIds
from transship.api.resource import NotFound, Operation, Resource, Streamed, ToDirectory
from transship.api.schemas import Schemas
from transship.api.site import Site, StoreRegistry
from transship.api.tasks import list_tasks, show_task
from transship.api.uploads import stage_image, upload_image
from transship.api.uri_judge import UriJudge
from transship.api.versions import VersionNegotiation
from transship.catalog.engine import Catalog
from transship.identity.quotas import Quotas
from transship.sources.gate import gate_from

_PATHS: Mapping[str, Mapping[str, Operation | Streamed]] = {
    "/healthcheck": {"GET": check_health, "HEAD": check_health},
    "/openapi.json": {"GET": show_document},
    "/docs": {"GET": show_pages},
    "/v2/info/import": {"GET": show_import_methods},
    "/v2/info/stores": {"GET": show_stores},
    "/v2/info/stores/detail": {"GET": show_store_details},
    "/v2/info/usage": {"GET": show_usage},
    "/v2/images": {"GET": list_images, "POST": create_image},
    "/v2/images/{image_id}": {"GET": show_image, "PATCH": Streamed(patch_image), "DELETE": delete_image},
    "/v2/images/{image_id}/file": {"GET": download_image, "PUT": Streamed(upload_image)},
    "/v2/images/{image_id}/stage": {"PUT": Streamed(stage_image)},
    "/v2/images/{image_id}/import": {"POST": Streamed(start_import)},
    "/v2/images/{image_id}/actions/deactivate": {"POST": deactivate_image},
    "/v2/images/{image_id}/actions/reactivate": {"POST": reactivate_image},
    "/v2/images/{image_id}/members": {"GET": list_members, "POST": add_member},
    "/v2/images/{image_id}/members/{member_id}": {
        "GET": show_member,
        "PUT": answer_membership,
        "DELETE": remove_member,
    },
    "/v2/images/{image_id}/locations": {"GET": list_locations, "POST": Streamed(register_location)},
    "/v2/stores/{store}/{image_id}": {"DELETE": delete_from_store},
    "/v2/images/{image_id}/tasks": {"GET": list_image_tasks},
    "/v2/tasks": {"GET": list_tasks},
    "/v2/tasks/{task_id}": {"GET": show_task},
    "/v2/images/{image_id}/tags/{tag}": {"PUT": add_tag, "DELETE": remove_tag},
}


def build_app(settings: Settings, catalog: Catalog, texts: Mapping[Path, str] | None = None) -> Starlette:
    """Return the application.

    Args:
        catalog: open; the caller closes it when the application has ended.
        texts: as in `config.loading.LoadedSettings`; None: read the files now.

    Raises:
        ConfigurationRefused: a host in the settings' URI lists is invalid, or the file with policies or property
            protections cannot be used.
    """
    api, known = settings.api, dict(texts or {})
    policy = Policy(
        api.policy_file,
        known.get(api.policy_file) if api.policy_file else None,
        new_defaults=api.enforce_new_defaults,
    )
    schemas = Schemas(settings.formats)
    paths = {**_PATHS, **{f"/v2/schemas/{name}": {"GET": partial(show_schema, name)} for name in schemas.by_name}}
    protections = known.get(api.property_protection_file) if api.property_protection_file else None
    site = Site(
        settings=settings,
        catalog=catalog,
        stores=StoreRegistry(settings, catalog),
        judge=UriJudge(gate_from(settings), settings.download.connect_timeout_s),
        policy=policy,
        protection=PropertyProtection.of(api, policy, protections),
        schemas=schemas,
        quotas=Quotas(settings),
        document=describe(paths, schemas.by_name, keystone=api.auth == "keystone"),
    )
    app = Starlette(
        routes=[
            *(Route(path, Resource(site, operations)) for path, operations in paths.items()),
            Route("/v2", ToDirectory(settings.api)),
            Route("/{path:path}", NotFound()),
        ],
        middleware=[
            *cors_middleware(settings.cors),
            Middleware(RequestIds, settings.api.max_request_id_length),
            Middleware(VersionNegotiation, settings.api),
            Middleware(Authentication, reader_of(settings)),
        ],
    )
    # Glance answers 404 to a trailing slash; on a redirect some clients would drop the body.
    app.router.redirect_slashes = False
    return app
