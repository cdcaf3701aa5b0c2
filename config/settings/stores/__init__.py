"""The kinds of stores: the settings of each, and one table row with everything else about it."""

from config.settings.stores.file import FileStoreSettings
from config.settings.stores.http import HttpStoreSettings
from config.settings.stores.kind import BlockFacts, GlanceFacts, StoreKind, StoreSettings, store_limit_name
from config.settings.stores.kinds import (
    DEFAULT_KIND,
    KINDS,
    AnyStore,
    installed_kinds,
    kind_named,
    kind_of,
    kind_of_block,
    store_facts,
)
from config.settings.stores.rbd import RbdStoreSettings
from config.settings.stores.s3 import S3StoreSettings
