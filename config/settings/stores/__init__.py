"""The kinds of stores; the settings of each are in its own module."""

from config.settings.stores.kind import (
    BlockFacts,
    GlanceFacts,
    SharedKind,
    StoreKind,
    StoreSettings,
    store_limit_name,
)
from config.settings.stores.kinds import (
    DEFAULT_KIND,
    KINDS,
    SHARED_KINDS,
    AnyStore,
    installed_kinds,
    kind_named,
    kind_of,
    kind_of_block,
    store_facts,
)
