"""Which URIs may be imported from, decided only by their text and addresses.

Three checks in this order: the text must be a URI that all parsers read in the same way
(`parse_uri`), its scheme, host and port must pass the site's lists (`judge_uri`), and the
addresses of its host must be acceptable (`judge_address`). Nothing here resolves names;
the caller must dial exactly the judged addresses.

The lists work as in the founding document of image import: if an allow list is set, the deny list
at the same level is ignored, and a URI without a port always passes the port lists. Some limits
cannot be lifted by any list: http and https only, no credentials, no spelling that
parsers could read in different ways, no link-local or metadata addresses.
"""

from __future__ import annotations

from transship.domain.uri_filter.addresses import both_forms, judge_address
from transship.domain.uri_filter.direct_routes import DirectRoutes
from transship.domain.uri_filter.hosts import HostUnusable, canonical_host
from transship.domain.uri_filter.parsing import join_location, parse_uri
from transship.domain.uri_filter.rules import HostPort, Network, UriRules, judge_redirect, judge_uri
from transship.domain.uri_filter.source_uri import DEFAULT_PORTS, SourceUri, display_uri, may_hold_secrets
