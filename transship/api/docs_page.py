"""The OpenAPI document as one HTML page, without scripts or other files."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

_STYLE: Final = """
body { font: 16px/1.5 sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em }
summary { cursor: pointer; padding: .3em; border-top: 1px solid #ddd }
details > div { padding: 0 2em 1em }
code, pre { font-family: monospace; background: #f4f4f4 } pre { overflow: auto; padding: .5em }
b { display: inline-block; width: 5em } td { padding-right: 2em; vertical-align: top }
"""


def page_of(document: Mapping[str, Any]) -> str:
    """Return the page of a document."""
    title = html.escape(f"{document['info']['title']}, v{document['info']['version']}")
    operations = [
        _operation(method, path, operation)
        for path, methods in sorted(document["paths"].items())
        for method, operation in methods.items()
    ]
    schemas = [
        f'<details id="{name}"><summary><code>{name}</code></summary><div>{_json(schema)}</div></details>'
        for name, schema in document["components"]["schemas"].items()
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f'</head><body><h1>{title}</h1><p><a href="openapi.json">openapi.json</a></p>'
        f"{''.join(operations)}<h2>Schemas</h2>{''.join(schemas)}</body></html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [f"<p>{html.escape(operation.get('description', ''))}</p>"]
    parameters = [
        (each["name"], each["in"], each.get("description", ""), _schema(each["schema"]))
        for each in operation.get("parameters", ())
    ]
    if parameters:
        parts.append(f"<h4>Parameters</h4>{_table(parameters)}")
    if "requestBody" in operation:
        parts.append(f"<h4>Body</h4>{_contents(operation['requestBody']['content'])}")
    answers = [
        (status, html.escape(answer["description"]), _contents(answer.get("content", {})) if status < "3" else "")
        for status, answer in operation["responses"].items()
    ]
    parts.append(f"<h4>Answers</h4>{_table(answers)}")
    heading = f"<b>{method.upper()}</b><code>{html.escape(path)}</code> {html.escape(operation['summary'])}"
    return f"<details><summary>{heading}</summary><div>{''.join(parts)}</div></details>"


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"<tr><td>{'<td>'.join(row)}" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _contents(contents: Mapping[str, Any]) -> str:
    return "".join(f"<code>{kind}</code> {_schema(content['schema'])} " for kind, content in contents.items())


def _schema(schema: Mapping[str, Any]) -> str:
    """Return a link to a named schema, or the schema itself."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    return _json(schema) if "properties" in schema or "items" in schema else f"<code>{_text(schema)}</code>"


def _json(schema: Mapping[str, Any]) -> str:
    return f"<pre>{html.escape(json.dumps(schema, indent=2))}</pre>"


def _text(schema: Mapping[str, Any]) -> str:
    return html.escape(json.dumps(schema))
