"""Prints the interface of an installed agent server as one JSON object.

Runs in the server's environment, without a server and without the network. The object has lists of
names and a map of schemas, whose fields are lines of text.
"""

import ast
import importlib
import inspect
import json
import pkgutil
import sys
from importlib.metadata import version
from pathlib import Path

import openhands.agent_server
import openhands.agent_server.api as api
import openhands.sdk
import openhands.tools
from openhands.agent_server.config import Config
from openhands.sdk.event.base import Event
from openhands.sdk.tool.schema import Action, Observation

PACKAGES = (openhands.agent_server, openhands.sdk, openhands.tools)
METHODS = ("get", "put", "post", "delete", "patch", "options", "head")
READERS = ("getenv", "get_env")

for module in pkgutil.walk_packages(openhands.tools.__path__, "openhands.tools."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print(module.name, error, file=sys.stderr)


def concrete(base):
    """Returns the names of the classes that a server can send, with the names of their fields."""
    found = {}
    stack = [base]
    while stack:
        for model in stack.pop().__subclasses__():
            stack.append(model)
            if not inspect.isabstract(model) and model.__module__.startswith("openhands."):
                found[model.__name__] = fields(model.model_json_schema())
    return found


def shape(schema):
    """Returns the type of a field as text, without texts for people."""
    if not isinstance(schema, dict):
        return json.dumps(schema)
    if "$ref" in schema:
        return schema["$ref"].rsplit("/", 1)[-1]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " | ".join(sorted({shape(one) for one in schema[several]}))
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(sorted(json.dumps(one) for one in schema["enum"]))
    kind = str(schema.get("type", "any"))
    limits = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength")
    limits += ("maxLength", "pattern", "format")
    kind += "".join(f", {limit} {schema[limit]}" for limit in limits if limit in schema)
    if "items" in schema:
        kind += f" of {shape(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        kind += f" to {shape(schema['additionalProperties'])}"
    return kind


def fields(schema):
    """Returns the type of each field of a schema, or its own type if it has no fields."""
    if "properties" not in schema:
        return {"": shape(schema)}
    required = schema.get("required", [])
    return {
        name: shape(field) + (", required" if name in required else "")
        for name, field in schema["properties"].items()
    }


def parameters(operation):
    """Returns the parameters, the body and the responses of an operation as fields."""
    found = {}
    for parameter in operation.get("parameters", []):
        required = ", required" if parameter.get("required") else ""
        name = f"{parameter['in']} {parameter['name']}"
        found[name] = shape(parameter.get("schema", {})) + required
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        found[f"body {kind}"] = shape(content.get("schema", {}))
    for status, response in operation.get("responses", {}).items():
        kinds = response.get("content", {}).items()
        bodies = [f"{kind}: {shape(content.get('schema', {}))}" for kind, content in kinds]
        found[f"response {status}"] = "; ".join(bodies) or "no body"
    return found


def nested(routes, prefix="", shown=True):
    """Yields all routes with their whole paths, and whether the OpenAPI document may show them."""
    for route in routes:
        context = getattr(route, "include_context", None)
        path = prefix + (getattr(route, "path", None) or getattr(context, "prefix", ""))
        included = shown and getattr(context or route, "include_in_schema", True)
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if context is None:
            yield route, path, included
        yield from nested(getattr(inner, "routes", None) or [], path, included)


def hidden(app, operations):
    """Returns the routes that the OpenAPI document omits."""
    found = set()
    for route, path, included in nested(app.routes):
        methods = getattr(route, "methods", None)
        if methods is None:
            if type(route).__name__ in ("APIWebSocketRoute", "WebSocketRoute"):
                found.add(f"WEBSOCKET {path}")
        elif not included:
            found.update(f"{method} {path}" for method in methods if method != "HEAD")
    return sorted(found - operations)


def sources():
    """Yields the syntax tree of each file of the server's packages."""
    for package in PACKAGES:
        for file in sorted(Path(package.__path__[0]).rglob("*.py")):
            yield ast.parse(file.read_text(encoding="utf-8"))


def constants(trees):
    """Returns all names that are assigned a text."""
    found = {}
    for tree in trees:
        for node in ast.walk(tree):
            targets = node.targets if isinstance(node, ast.Assign) else []
            if isinstance(node, ast.AnnAssign):
                targets = [node.target]
            value = getattr(node, "value", None)
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.update({one.id: value.value for one in targets if isinstance(one, ast.Name)})
    return found


def variables():
    """Returns the environment variables that the code reads by a constant name."""
    trees = list(sources())
    known = constants(trees)

    def is_environ(node):
        return isinstance(node, ast.Attribute) and node.attr == "environ"

    def name(node):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        return known.get(getattr(node, "id", getattr(node, "attr", None)))

    found = {f"OH_{field.upper()}" for field in Config.model_fields}
    for tree in trees:
        for node in ast.walk(tree):
            key = None
            if isinstance(node, ast.Subscript) and is_environ(node.value):
                key = node.slice
            elif isinstance(node, ast.Compare) and any(map(is_environ, node.comparators)):
                key = node.left
            elif isinstance(node, ast.Call) and node.args:
                called = node.func
                own = getattr(called, "attr", getattr(called, "id", None))
                of_environ = isinstance(called, ast.Attribute) and is_environ(called.value)
                if own in READERS or (of_environ and own in ("get", "pop", "setdefault")):
                    key = node.args[0]
            if key is not None and name(key):
                found.add(name(key))
    return sorted(found)


app = api.create_app(Config())
document = app.openapi()
operations = {}
for path, item in document["paths"].items():
    for method in METHODS:
        if method in item:
            operations[f"{method.upper()} {path}"] = parameters(item[method])
schemas = document.get("components", {}).get("schemas", {})
facts = {
    "operations": operations,
    "schemas": {name: fields(schema) for name, schema in schemas.items()},
    "event kinds": concrete(Event),
    "action kinds": concrete(Action),
    "observation kinds": concrete(Observation),
    "environment variables": {name: {} for name in variables()},
    "hidden routes": {route: {} for route in hidden(app, set(operations))},
}
print(json.dumps({"version": version("openhands-agent-server"), "facts": facts}))
