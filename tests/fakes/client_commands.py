"""What users of the clients of the Images API do, in an order that works; docs/clients.md lists it.

Words in capitals stand for: ``IMAGE`` the image that was created last, ``TASK`` its newest task, ``PROJECT`` another
project, ``FILE`` and ``URL`` data, ``OUTPUT`` where to save them, ``LOCATION`` a URL of theirs in a store, ``REMOTE``
an image of a Glance in RegionTwo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

ALICE, ADMIN = "alice", "admin"
RAW = "--disk-format raw --container-format bare"
REMOTE = "--remote-region RegionTwo --remote-image-id REMOTE --remote-service-interface public"


class Row(NamedTuple):
    """A command line.

    Attributes:
        shows: part of what it prints.
        user: who runs it: a member of a project, or the admin of another one.
        imports: an import begins.
        works: it ends with 0.
    """

    command: str
    shows: str = ""
    user: str = ALICE
    imports: bool = False
    works: bool = True


GLANCE = (
    Row("glance import-info", "glance-download"),
    Row("glance stores-info", "second"),
    Row("glance stores-info --detail", "weight", ADMIN),
    Row(f"glance image-create --name one {RAW}", "queued"),
    Row("glance image-stage --file FILE IMAGE"),
    Row("glance image-import --import-method glance-direct --store local IMAGE", "importing", imports=True),
    Row("glance image-tasks IMAGE", "success"),
    Row("glance task-list", "success", ADMIN),
    Row("glance task-show TASK", "success", ADMIN),
    Row("glance image-download --file OUTPUT IMAGE"),
    Row("glance image-import --import-method copy-image --stores second IMAGE", "active", ADMIN, imports=True),
    Row("glance image-show IMAGE", "local,second"),
    Row("glance stores-delete --store second IMAGE", user=ADMIN),
    Row("glance image-list", "one"),
    Row("glance image-update --name two --property os_distro=debian IMAGE", "debian"),
    Row("glance image-update --remove-property os_distro IMAGE", "two"),
    Row("glance image-tag-update IMAGE tested"),
    Row("glance image-tag-delete IMAGE tested"),
    Row("glance member-create IMAGE PROJECT", "pending"),
    Row("glance member-update IMAGE PROJECT accepted", "accepted", ADMIN),
    Row("glance member-get IMAGE PROJECT", "accepted"),
    Row("glance member-list --image-id IMAGE", "accepted"),
    Row("glance member-delete IMAGE PROJECT"),
    Row("glance image-deactivate IMAGE"),
    Row("glance image-reactivate IMAGE"),
    Row("glance usage", "Quota"),
    Row("glance image-delete IMAGE"),
    Row(f"glance image-create --name upload --file FILE {RAW}", "active"),
    Row(f"glance image-create --name later {RAW}", "queued"),
    Row("glance image-upload --file FILE IMAGE"),
    Row(f"glance image-create-via-import --name direct --file FILE {RAW}", "importing", imports=True),
    Row(f"glance image-create-via-import --import-method glance-direct --file FILE {RAW} --name staged --store second",
        "importing", imports=True),
    Row(f"glance image-create-via-import --import-method web-download --uri URL {RAW} --name web --all-stores True",
        "importing", imports=True),
    Row(f"glance image-create-via-import --import-method glance-download {REMOTE} {RAW} --name remote", "importing",
        imports=True),
    Row("glance image-create-via-import --import-method copy-image", "cannot be used", works=False),
    Row(f"glance image-create --name placed {RAW}", "queued", ADMIN),
    Row("glance location-add --url LOCATION IMAGE", "active", ADMIN),
    Row("glance location-update --url LOCATION --metadata {} IMAGE", "active", ADMIN),
    Row("glance location-add --url URL IMAGE", "active", ADMIN),
    Row("glance location-delete --url LOCATION IMAGE", user=ADMIN),
    Row("glance location-delete --url URL IMAGE", "last location", ADMIN, works=False),
    Row(f"glance image-create --name registered {RAW}", "queued"),
    Row("glance add-location --url URL IMAGE", imports=True),
    Row("glance cache-list", "does not support image caching", ADMIN, works=False),
    Row("glance md-namespace-list", "404", works=False),
)  # fmt: skip

OPENSTACK = (
    Row("openstack image import info", "glance-download"),
    Row("openstack image stores list --detail", "data_dir", ADMIN),
    Row(f"openstack image create {RAW} --property os_distro=debian --tag new one", "queued"),
    Row("openstack image stage --file FILE IMAGE"),
    Row("openstack image import --method glance-direct IMAGE --store local", "uploading", imports=True),
    Row("openstack image task list", "success", ADMIN),
    Row("openstack image task show TASK", "success", ADMIN),
    Row("openstack image save --file OUTPUT IMAGE"),
    Row("openstack image import --method copy-image IMAGE --store second", "active", ADMIN, imports=True),
    Row("openstack image delete --store second IMAGE", user=ADMIN),
    Row("openstack image show IMAGE", "debian"),
    Row("openstack image set --name two --property os_version=12 --tag tested IMAGE"),
    Row("openstack image unset --property os_distro --tag new IMAGE"),
    Row("openstack image add project IMAGE PROJECT", "pending"),
    Row("openstack image set --accept IMAGE", user=ADMIN),
    Row("openstack image member get IMAGE PROJECT", "accepted"),
    Row("openstack image member list IMAGE", "accepted"),
    Row("openstack image remove project IMAGE PROJECT"),
    Row("openstack image set --deactivate IMAGE"),
    Row("openstack image list --status deactivated", "two"),
    Row("openstack image set --activate IMAGE"),
    Row("openstack image list --status active --tag tested", "two"),
    Row("openstack image delete IMAGE"),
    Row(f"openstack image create --file FILE {RAW} upload", "active"),
    Row(f"openstack image create --file FILE --import {RAW} direct", "importing", imports=True),
    Row(f"openstack image create {RAW} web", "queued"),
    Row("openstack image import --method web-download --uri URL --all-stores IMAGE", "queued", imports=True),
    Row(f"openstack image create {RAW} remote", "queued"),
    Row("openstack image import --method glance-download --remote-region RegionTwo --remote-image REMOTE"
        " --remote-service-interface public IMAGE", "queued", imports=True),
    Row("openstack cached image list", "404", ADMIN, works=False),
)  # fmt: skip

FORMATS = {"disk_format": "raw", "container_format": "bare", "allow_duplicates": True}

SDK: Mapping[str, Callable[[Any, Any, Mapping[str, str]], Any]] = {
    "get_import_info()": lambda images, *_: images.get_import_info(),
    "stores()": lambda images, *_: list(images.stores()),
    "create_image(name, …)": lambda images, *_: images.create_image("sdk", **FORMATS),
    "stage_image(image, filename=…)": lambda images, image, values: images.stage_image(image, filename=values["FILE"]),
    "import_image(image, method='glance-direct')": lambda images, image, _: images.import_image(image),
    "image_tasks(image)": lambda images, image, _: next(images.image_tasks(image)),
    "add_tag(image, tag)": lambda images, image, _: images.add_tag(image, "tested"),
    "images(tag=…)": lambda images, *_: next(images.images(tag="tested")),
    "remove_tag(image, tag)": lambda images, image, _: images.remove_tag(image, "tested"),
    "update_image(image, name=…)": lambda images, image, _: images.update_image(image, name="two"),
    "add_member(image, member_id=…)": lambda images, image, values: images.add_member(
        image, member_id=values["PROJECT"]
    ),
    "members(image)": lambda images, image, _: next(images.members(image)),
    "remove_member(member, image)": lambda images, image, values: images.remove_member(values["PROJECT"], image),
    "deactivate_image(image)": lambda images, image, _: images.deactivate_image(image),
    "images(status='deactivated')": lambda images, *_: next(images.images(status="deactivated")),
    "reactivate_image(image)": lambda images, image, _: images.reactivate_image(image),
    "create_image(name, filename=…)": lambda images, _, values: images.create_image(
        "up", filename=values["FILE"], **FORMATS
    ),
    "create_image(name, filename=…, use_import=True)": lambda images, _, values: images.create_image(
        "imported", filename=values["FILE"], use_import=True, **FORMATS
    ),
    "download_image(image)": lambda images, image, _: images.download_image(image).content,
    "delete_image(image)": lambda images, image, _: images.delete_image(image),
}
"""Calls of ``connection.image``, which get the newest image and the values of the words in capitals."""
