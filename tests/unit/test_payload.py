"""Payloads: typed values, and errors that never show the data."""

from __future__ import annotations

import traceback

import pytest
from pydantic import BaseModel, field_validator, model_validator

from coordinator.errors import ConfigurationError, PayloadError
from coordinator.payload import decode, encode

SECRET = "hunter2-secret"


class Config(BaseModel):
    size: int
    name: str = "x"


class Quoting(BaseModel):
    """Its own messages quote what they were given."""

    name: str

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        raise ValueError(f"never {value}")


class Asserting(BaseModel):
    name: str

    @model_validator(mode="after")
    def _all(self):
        assert self.name == "good", f"never {self.name}"
        return self


class Raising(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        raise RuntimeError(f"never {value}")


class Chained(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        try:
            return str(int(value))
        except ValueError as error:
            raise LookupError(f"never {value}") from error


@pytest.mark.parametrize(
    ("value", "model", "data"),
    [
        (b"raw", None, b"raw"),
        (bytearray(b"raw"), None, b"raw"),
        (memoryview(b"raw"), None, b"raw"),
        (b"", None, b""),
        (Config(size=3), None, b'{"size":3,"name":"x"}'),
        ({"size": 3}, Config, b'{"size":3,"name":"x"}'),
        ([1, 2], list[int], b"[1,2]"),
        ({"a": 1.5}, dict[str, float], b'{"a":1.5}'),
    ],
)
def test_values_become_data(value, model, data):
    """Bytes as they are, models as JSON."""
    assert encode(value, model) == data


@pytest.mark.parametrize(
    ("data", "model", "value"),
    [
        (b"raw", None, b"raw"),
        (b'{"size":3}', Config, Config(size=3)),
        (b"[1,2]", list[int], [1, 2]),
        (b"null", int | None, None),
    ],
)
def test_data_becomes_values(data, model, value):
    """As the model says."""
    assert decode("/a", data, model) == value


@pytest.mark.parametrize("value", ["text", 5, None, {"a": 1}, object()])
def test_a_value_without_a_type_is_refused(value):
    """What it should be written as is not guessed."""
    with pytest.raises(ConfigurationError, match=type(value).__name__):
        encode(value)


def test_a_value_that_does_not_fit_its_model_is_refused():
    """Before anything is sent; the message names the field."""
    with pytest.raises(ConfigurationError, match="Config: size"):
        encode({"size": "big"}, Config)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"size":"big"}', b"\xff\xfe"])
def test_data_that_does_not_fit_is_an_error_that_names_the_path(data):
    """Whatever is wrong with it."""
    with pytest.raises(PayloadError, match="/config") as caught:
        decode("/config", data, Config)
    assert caught.value.path == "/config"


BAD = [
    (f'{{"size":"{SECRET}"}}', Config),
    (f'{{"size":1,"name":["{SECRET}"]}}', Config),
    (f"{{{SECRET}", Config),
    (f'"{SECRET}', Config),
    (f'{{"name":"{SECRET}"}}', Quoting),
    (f'{{"name":"{SECRET}"}}', Asserting),
    (f'{{"name":"{SECRET}"}}', Raising),
    (f'{{"name":"{SECRET}"}}', Chained),
    (f'{{"{SECRET}":"one"}}', dict[str, int]),
]


@pytest.mark.parametrize(("data", "model"), BAD[:-1])
def test_errors_never_show_the_data(data, model):
    """Neither their message nor their traceback, with causes and contexts."""
    with pytest.raises(PayloadError) as caught:
        decode("/config", data.encode(), model)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in repr(caught.value)


def test_errors_never_show_keys_of_the_data():
    """A key of a dictionary is data, too."""
    data, model = BAD[-1]
    with pytest.raises(PayloadError) as caught:
        decode("/config", data.encode(), model)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("model", [Quoting, Asserting])
def test_errors_of_encoding_never_show_the_value(model):
    """What was to be written is as secret as what was read."""
    with pytest.raises(ConfigurationError) as caught:
        encode({"name": SECRET}, model)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
