"""Explains fields of a request that do not exist, and objects without their `type`.

The location of an error leads from the annotation of the body to the model whose field is wrong.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from app.schemas.json_types import InputModel
from app.schemas.periods import SECONDS_OF
from app.schemas.suggestions import find_synonym, suggest_field

Location = Sequence[str | int]
"""Names, indexes, and the `type` of each object that has one, as pydantic gives them."""

_FIRST_ITEM = 0
_PERIODS = frozenset({"interval", "interval_seconds"})


def explain_unknown_field(annotation: Any, location: Location, value: Any = None) -> str:
    """Why the last name of the location is not a field, and which field was meant. `annotation`
    is that of the body or of the query, `value` that of the field."""
    *parent, name = location
    models = _find_models(annotation, parent)
    if any(name in model.output_fields for model in models):
        return "only responses have this field; omit it, because the service sets it"
    here = {field for model in models for field in _names_of(model)}
    if name in SECONDS_OF and here & _PERIODS:
        return (
            "this field does not exist here; send the period as `interval`: a number of seconds, "
            "or a text such as 10m, 1h30m or 7 days"
        )
    if others := _find_types_with(str(name), annotation, parent):
        return f"this field does not exist here; it belongs to the type {' or '.join(others)}"
    elsewhere = _list_fields_below(models)
    if parent:
        for model in _find_models(annotation, ()):
            elsewhere |= {field: f"`{field}` at the top level" for field in _names_of(model)}
    meant = suggest_field(str(name), sorted(here), elsewhere, value)
    return "this field does not exist" + (f"; did you mean {meant}?" if meant else "")


def explain_unknown_parameter(name: str, parameters: Collection[str], body: Any) -> str:
    """What was meant by a parameter of the query that does not exist. `body` is the annotation of
    the body, or None."""
    if any(name in _names_of(model) for model in _find_models(body, ())):
        return "this parameter does not exist; send it as a field of the body"
    meant = suggest_field(name, sorted(parameters), {})
    return "this parameter does not exist" + (f"; did you mean {meant}?" if meant else "")


def explain_missing_type(annotation: Any, location: Location, value: Any) -> str:
    """What to write as the `type` of an object. `value` is the object."""
    types = [name for model in _find_models(annotation, location) for name in _types_of(model)]
    if not types:
        return "this is required"
    meant = find_synonym("type", value) if isinstance(value, Mapping) else None
    instead = f"; you sent it as `{meant}`" if meant else ""
    return f"this is required, one of: {', '.join(types)}{instead}"


def _find_models(annotation: Any, location: Location) -> list[type[InputModel]]:
    """The models that the annotation allows at the location."""
    if is_model(annotation):
        if not location:
            return [annotation]
        field = annotation.model_fields.get(str(location[0]))
        return [] if field is None else _find_models(field.annotation, location[1:])
    if get_origin(annotation) is tuple:
        return _find_models(get_args(annotation)[0], location[1:]) if location else []
    found = []
    for member in get_args(annotation):  # of a union, or the one of `Annotated`
        is_chosen = location and is_model(member) and location[0] in _types_of(member)
        found += _find_models(member, location[1:] if is_chosen else location)
    return found


def _find_types_with(name: str, annotation: Any, location: Location) -> list[str]:
    """The other types of the object at the location that have a field of this name."""
    chosen = location[-1] if location else None
    if not any(chosen in _types_of(model) for model in _find_models(annotation, location)):
        return []
    siblings = _find_models(annotation, location[:-1])
    return [other for model in siblings if name in _names_of(model) for other in _types_of(model)]


def is_model(annotation: Any) -> bool:
    """Whether a model of requests reads the value."""
    return isinstance(annotation, type) and issubclass(annotation, InputModel)


def _types_of(model: type[BaseModel]) -> tuple[str, ...]:
    field = model.model_fields.get("type")
    return () if field is None else get_args(field.annotation)


def _names_of(model: type[BaseModel]) -> Iterator[str]:
    return (field.alias or name for name, field in model.model_fields.items())


def _list_fields_below(models: Sequence[type[BaseModel]]) -> dict[str, str]:
    """The fields of the objects that are fields of the models, and their paths."""
    found: dict[str, str] = {}
    for model in models:
        for name, field in model.model_fields.items():
            for path, location in ((name, ()), (f"{name}[]", (_FIRST_ITEM,))):
                for below in _find_models(field.annotation, location):
                    for field_below in _names_of(below):
                        found.setdefault(field_below, f"`{path}.{field_below}`")
    return found
