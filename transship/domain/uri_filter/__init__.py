"""Which URIs may be imported from, decided on text and addresses alone.

Three questions, asked in this order: is the text a URI that every reader understands alike
(`parse_uri`), do its scheme, host and port pass the site's lists (`judge_uri`), and may the
addresses that its name stands for be dialled (`judge_address`). Nothing here resolves a name;
whoever does must dial exactly the addresses that were judged.

The lists work as the founding document of image import says: an allow list that is set decides
alone at its level, and a URI without a port passes whatever the scheme's default port is. Below
the lists stand limits that no list lifts: http and https only, no credentials, no spelling that
two parsers could read in two ways, no link-local or metadata address.
"""

from __future__ import annotations

from transship.domain.uri_filter.addresses import both_forms, judge_address
from transship.domain.uri_filter.direct_routes import DirectRoutes
from transship.domain.uri_filter.hosts import HostUnusable, canonical_host
from transship.domain.uri_filter.parsing import join_location, parse_uri
from transship.domain.uri_filter.rules import HostPort, Network, UriRules, judge_redirect, judge_uri
from transship.domain.uri_filter.source_uri import DEFAULT_PORTS, SourceUri, display_uri, may_hold_secrets

__all__ = [
    "DEFAULT_PORTS",
    "DirectRoutes",
    "HostPort",
    "HostUnusable",
    "Network",
    "SourceUri",
    "UriRules",
    "both_forms",
    "canonical_host",
    "display_uri",
    "join_location",
    "judge_address",
    "judge_redirect",
    "judge_uri",
    "may_hold_secrets",
    "parse_uri",
]
