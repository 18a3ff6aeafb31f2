"""Writes one event of every kind, action and observation of the server's models.

Runs in the server's environment. Each line is what the models serialize: the shape is theirs, the
values are made up from the types of their fields.
"""

import datetime
import enum
import importlib
import inspect
import pkgutil
import sys
import types
import typing

import openhands.agent_server.api  # noqa: F401  (defines ServerErrorEvent)
import openhands.tools
from openhands.sdk.event.base import Event
from openhands.sdk.event.llm_convertible import ActionEvent, ObservationEvent
from openhands.sdk.tool.schema import Action, Observation
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

for module in pkgutil.walk_packages(openhands.tools.__path__, "openhands.tools."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        print(module.name, error, file=sys.stderr)


def concrete(base):
    found = set()
    stack = [base]
    while stack:
        for sub in stack.pop().__subclasses__():
            stack.append(sub)
            if not inspect.isabstract(sub) and sub.__module__.startswith("openhands."):
                found.add(sub)
    return sorted(found, key=lambda model: model.__name__)


def value(kind, depth=0):
    """Returns a value of a type. Models are filled down to two levels, then with required fields."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return value(args[0], depth)
    if origin is typing.Literal:
        return args[0]
    if origin in (typing.Union, types.UnionType):
        return value(next(a for a in args if a is not type(None)), depth)
    if origin in (list, set, frozenset) or str(origin).startswith("<class 'collections.abc.Seq"):
        return (origin if origin in (set, frozenset) else list)([value(args[0], depth + 1)])
    if origin is tuple:
        return tuple(value(a, depth + 1) for a in args if a is not Ellipsis)
    if origin is dict:
        return {value(args[0], depth + 1): value(args[1], depth + 1)}
    if inspect.isclass(kind):
        if issubclass(kind, enum.Enum):
            return next(iter(kind))
        if issubclass(kind, BaseModel):
            if inspect.isabstract(kind) or kind in (Action, Observation):
                return value(concrete(kind)[0], depth)
            return make(kind, depth + 1)
        if issubclass(kind, datetime.datetime):
            return kind(2026, 1, 2, 3, 4, 5)
        for simple, example in ((bool, True), (int, 7), (float, 0.5), (str, "text"), (dict, {"a": 1})):
            if issubclass(kind, simple):
                return example
    return {"any": ["value", None]}


def make(model, depth=0, **given):
    fields = dict(given)
    for name, field in model.model_fields.items():
        of_event = issubclass(model, Event) and name in ("id", "timestamp", "parent_id")
        if name in given or of_event:
            continue
        if field.is_required() or depth <= 2:
            made = value(field.annotation, depth)
            try:
                model.__pydantic_validator__.validate_assignment(model.model_construct(), name, made)
            except Exception:
                if field.is_required():
                    fields[name] = made
                continue
            fields[name] = made
    try:
        return model(**fields)
    except Exception as error:
        print(model.__name__, str(error).splitlines()[:3], file=sys.stderr)
        needed = {n: v for n, v in fields.items() if model.model_fields[n].is_required() or n in given}
        return model(**needed)


def emit(event):
    print(event.model_dump_json(exclude_none=True))


wrapped = {"ActionEvent", "ObservationEvent"}
for model in concrete(Event):
    if model.__name__ not in wrapped:
        # The tools of a prompt are created by executors, not from fields.
        given = {"tools": []} if "tools" in model.model_fields else {}
        emit(make(model, **given))
for model in concrete(Action):
    emit(make(ActionEvent, action=make(model)))
for model in concrete(Observation):
    emit(make(ObservationEvent, observation=make(model)))
