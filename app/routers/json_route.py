"""Routes that parse JSON strictly: they reject JSON that parsers interpret differently."""

import json
import math
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Depends, HTTPException, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.errors import InvalidInputError
from app.loop_turns import wait_for_loop_turn
from app.routers.deps import authenticate_actor, identify
from app.routers.idempotent import handle_once, key_header
from app.routers.json_errors import explain, explain_constant, explain_repeated_name
from app.schemas.json_size import check_number_of_values
from app.schemas.json_types import MAX_MEMBERS
from app.schemas.unknown_fields import explain_unknown_parameter, is_model

# A finite float has at most 309 digits before the point. Longer integers fit into no field, and
# Python does not convert more than 4,300 digits.
_MAX_DIGITS = 400

# The framework needs quadratic time for the parameters in a query.
_MAX_QUERY_PARAMETERS = MAX_MEMBERS

_SHOWN_NAME = 64  # characters of the name of a parameter

# Bytes. It has at most four cron schedules, and each needs up to 5 ms if its zone is new.
_SMALL_BODY = 256


class StrictJsonRequest(Request):
    """A request whose body is JSON by RFC 8259, in UTF-8, with unique keys and finite numbers."""

    async def json(self) -> Any:
        if not hasattr(self, "_parsed"):
            self._parsed = _parse(await self.body())
        return self._parsed


class StrictJsonRoute(APIRoute):
    """Parses bodies strictly and returns 415 for a body of another media type than JSON.

    If the route needs an actor, the actor is authenticated before the body is read, and a POST
    supports `Idempotency-Key`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        if "POST" in (options.get("methods") or ()):
            options["dependencies"] = [*(options.get("dependencies") or ()), Depends(key_header)]
        super().__init__(*args, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        reads_body = self.body_field is not None
        body_annotation = self.body_field.field_info.annotation if self.body_field else None
        parameters = _list_parameters(self.dependant)

        async def handle(request: Request) -> Response:
            _check_query(request, parameters, body_annotation)
            if reads_body:
                request = _strict(request)
                body = await request.body()
                if body and not _is_json(request.headers.get("content-type", "")):
                    raise HTTPException(
                        415, "Send the body as JSON with Content-Type: application/json."
                    )
                if len(body) > _SMALL_BODY:
                    await wait_for_loop_turn()
                check_number_of_values(body)
            return await handler(request)

        async def handle_authenticated(request: Request) -> Response:
            # Before the body is parsed: validation errors name fields, and only signed-in users may
            # see these.
            actor = await identify(request)
            if request.method != "POST":
                return await handle(request)
            return await handle_once(_strict(request), actor, handle)

        return handle_authenticated if _depends_on(self.dependant, authenticate_actor) else handle


def _strict(request: Request) -> StrictJsonRequest:
    """The request as a StrictJsonRequest. It is converted once, because the body can be received
    only once."""
    if isinstance(request, StrictJsonRequest):
        return request
    return StrictJsonRequest(request.scope, request.receive)


def _list_parameters(dependant: Dependant) -> frozenset[str] | None:
    """The parameters of the query. None if a model reads the query: it rejects all others."""
    fields = dependant.query_params
    if any(is_model(field.field_info.annotation) for field in fields):
        return None
    return frozenset(field.alias for field in fields)


def _check_query(request: Request, parameters: frozenset[str] | None, body: Any) -> None:
    """Reject parameters that the route does not have. `body` is the annotation of its body."""
    if request.scope["query_string"].count(b"&") >= _MAX_QUERY_PARAMETERS:
        raise InvalidInputError.at(
            "/query", f"a query may have at most {_MAX_QUERY_PARAMETERS} parameters"
        )
    if parameters is None:
        return
    for name in request.query_params:
        if name not in parameters:
            pointer = name[:_SHOWN_NAME].replace("~", "~0").replace("/", "~1")
            detail = explain_unknown_parameter(name, parameters, body)
            raise InvalidInputError.at(f"/query/{pointer}", detail)


def _depends_on(dependant: Dependant, function: Any) -> bool:
    return dependant.call is function or any(
        _depends_on(one, function) for one in dependant.dependencies
    )


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    kind, _, subtype = media_type.partition("/")
    return kind == "application" and (subtype == "json" or subtype.endswith("+json"))


class _RepeatedNameError(Exception):
    """An object has a name twice."""


class _ConstantError(Exception):
    """A number is NaN or infinite. The message is its name."""


def _parse(body: bytes) -> Any:
    """The value of the body. Raises json.JSONDecodeError; its message contains no more
    of the input than a name."""
    try:
        text = body.decode()
        return json.loads(
            text,
            object_pairs_hook=_build_object,
            parse_int=_parse_integer,
            parse_float=_parse_float,
            parse_constant=_reject_constant,
        )
    except UnicodeDecodeError as error:
        _reject(f"it is not UTF-8 at byte {error.start + 1}; send it in UTF-8")
    except _RepeatedNameError:
        _reject(explain_repeated_name(text))
    except _ConstantError as error:
        _reject(explain_constant(text, str(error)))
    except RecursionError:
        _reject("it is nested too deeply; send at most 32 levels")
    except json.JSONDecodeError as error:
        _reject(explain(error) if error.doc else error.msg)


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RepeatedNameError
    return found


def _parse_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        _reject("an integer has too many digits; send an integer of at most 64 bits")
    return int(digits)


def _parse_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        _reject("a number is too large; send one from -1.7e308 to 1.7e308")
    return value


def _reject_constant(name: str) -> NoReturn:
    raise _ConstantError(name)


def _reject(reason: str) -> NoReturn:
    raise json.JSONDecodeError(reason, "", 0) from None
