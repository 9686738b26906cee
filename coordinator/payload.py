"""Between the bytes of a znode and a typed value: JSON through pydantic."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError

from coordinator.errors import ConfigurationError, PayloadError

_OWN_WORDS = ("value_error", "assertion_error")
"""Errors whose text is the model's own and may quote the data."""


@lru_cache(maxsize=256)
def _adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def check_model(model: Any) -> None:
    """Refuse what pydantic can make nothing of.

    Raises:
        ConfigurationError: it is no type that pydantic knows.
    """
    if model is not None:
        try:
            _adapter(model)
        except (PydanticUserError, TypeError) as error:
            raise ConfigurationError(f"model= takes a type that pydantic knows, got {model!r}") from error


def encode(value: object, model: Any = None) -> bytes:
    """Return the data for a value: bytes as they are, anything else as JSON.

    Args:
        value: bytes, an instance of a pydantic model, or what ``model`` describes.
        model: a pydantic model or any type that pydantic knows; the value must fit it.

    Raises:
        ConfigurationError: the value is neither, or does not fit the model.
    """
    if model is not None:
        check_model(model)
        try:
            checked = _adapter(model).validate_python(value)
        except ValidationError as error:
            raise ConfigurationError(
                f"the value does not fit {_name(model)}: {_told(error, model)}"
            ) from None
        return _adapter(model).dump_json(checked)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, BaseModel):
        return value.model_dump_json().encode()
    raise ConfigurationError(
        f"data is bytes or a pydantic model, got {type(value).__name__}; encode it or give its type by model="
    )


def decode(path: str, data: bytes, model: Any = None) -> Any:
    """Return the value that the data of the znode at a path stands for.

    Raises:
        PayloadError: it does not fit the model; names the path and what, never the data.
    """
    if model is None:
        return data
    try:
        return _adapter(model).validate_json(data)
    except ValidationError as error:
        told = _told(error, model)
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- a validator may raise anything
        told = type(error).__name__
    # Outside of the except clause: the original shows the data.
    raise PayloadError(f"the data of {path} does not fit {_name(model)}: {told}", path=path)


def _name(model: Any) -> str:
    return getattr(model, "__name__", str(model))


@lru_cache(maxsize=256)
def _fields(model: Any) -> frozenset[str]:
    """Return every name that the model itself uses; another one in a path is data."""
    try:
        schema = _adapter(model).json_schema()
    except PydanticUserError:  # not every type has one
        return frozenset()
    places = [schema, *schema.get("$defs", {}).values()]
    return frozenset(name for place in places for name in place.get("properties", ()))


def _told(error: ValidationError, model: Any) -> str:
    told = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        known = _fields(model)
        parts = [str(part) if isinstance(part, int) or part in known else "*" for part in one["loc"]]
        where = ".".join(parts) or "the whole"
        what = one["type"] if one["type"] in _OWN_WORDS else one["msg"]
        told.append(f"{where}: {what}")
    return "; ".join(told)
