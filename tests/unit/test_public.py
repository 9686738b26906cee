"""What is public: the names that are promised, and a sentence for each."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import coordinator

MODULES = [
    coordinator,
    *(
        importlib.import_module(f"coordinator.{name}")
        for name in ("errors", "events", "models", "settings", "client", "blocking", "handles", "payload")
    ),
]
WITH_ALL = [module for module in MODULES if hasattr(module, "__all__")]
CLASSES = {
    f"{one.__module__}.{one.__name__}": one
    for one in vars(coordinator).values()
    if inspect.isclass(one) and one.__module__.startswith("coordinator")
}


def members():
    """Return every public method and property that a public class defines in this package."""
    for kind in CLASSES.values():
        for base in kind.__mro__:
            if not base.__module__.startswith("coordinator"):
                continue
            for name, value in vars(base).items():
                if name.startswith("_") or name == "model_config":
                    continue
                target = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                if inspect.isfunction(target) or isinstance(target, property):
                    yield f"{base.__name__}.{name}", target


MEMBERS = dict(members())
EXEMPT = {"KazooHandler"}  # kazoo's interface: what its methods mean is told there


@pytest.mark.parametrize("module", WITH_ALL, ids=lambda one: one.__name__)
def test_all_names_what_is_there(module):
    """Every name in __all__ exists, once."""
    assert len(set(module.__all__)) == len(module.__all__)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize(
    "module", [one for one in WITH_ALL if one is not coordinator], ids=lambda m: m.__name__
)
def test_all_is_sorted(module):
    """As ruff sorts it: constants, classes, functions."""
    key = lambda name: (not name.isupper(), not name[0].isupper(), name)  # noqa: E731
    assert list(module.__all__) == sorted(module.__all__, key=key)


@pytest.mark.parametrize(
    "module", [one for one in WITH_ALL if one is not coordinator], ids=lambda m: m.__name__
)
def test_all_names_every_public_class_of_its_module(module):
    """What is defined there without an underscore, and not forgotten."""
    defined = {
        name
        for name, one in vars(module).items()
        if inspect.isclass(one)
        and not name.startswith("_")
        and (
            one.__module__.startswith(module.__name__)
            or (module.__name__.endswith("errors") and "Error" in name)
        )
    }
    assert defined - set(module.__all__) <= {"Annotated"}


def test_the_package_names_what_it_exports():
    """Whatever public class stands at the root is promised, and nothing else is."""
    names = {name for name, one in vars(coordinator).items() if one in CLASSES.values()}
    assert names - set(coordinator.__all__) == set()


def fresh(code: str) -> str:
    """What a Python of its own prints."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_importing_the_package_loads_nothing():
    """What is public is loaded with the first name that is asked for."""
    heavy = "sorted({'pydantic', 'kazoo', 'coordinator.public'} & set(sys.modules))"
    assert fresh(f"import sys, coordinator; coordinator.__version__; print({heavy})") == "[]"
    asked = "hasattr(coordinator, '__wrapped__'), hasattr(coordinator, '__all__')"
    assert fresh(f"import coordinator; print(({asked}))") == "(False, True)"


@pytest.mark.parametrize(
    "code",
    [
        "from coordinator import *; print(Coordinator, SessionExpired, NoNodeError)",
        "import coordinator as c; print(c.Coordinator, c.SessionExpired, c.NoNodeError)",
        "import coordinator.engine.port, coordinator as c; "
        "print(c.Coordinator, c.SessionExpired, c.NoNodeError)",
        "from coordinator import errors, events; from coordinator import Coordinator as c; "
        "print(c, events.SessionExpired, errors.NoNodeError)",
    ],
)
def test_however_it_is_imported_the_names_are_there(code):
    """And are the same."""
    names = ("client.Coordinator", "events.session.SessionExpired", "NoNodeError")
    assert fresh(code) == " ".join(f"<class 'coordinator.{name}'>" for name in names)


@pytest.mark.parametrize("name", ["errors", "engine.port", "testing", "cli.app"])
def test_a_module_can_be_imported_first(name):
    """Nothing relies on all of it having been loaded."""
    assert fresh(f"import coordinator.{name} as module; print(module.__name__)") == f"coordinator.{name}"


def test_a_name_that_is_not_there_is_an_attribute_error():
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'coordinator' has no attribute 'nope'"):
        _ = coordinator.nope
    assert {*coordinator.__all__} <= {*dir(coordinator)}


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_class_has_a_sentence(name):
    """Its first line says what it is."""
    assert_sentence(CLASSES[name].__doc__)


@pytest.mark.parametrize("name", [name for name in MEMBERS if name.split(".")[0] not in EXEMPT])
def test_every_public_method_has_a_sentence(name):
    """Its first line says what it does."""
    assert_sentence(MEMBERS[name].__doc__)


@pytest.mark.parametrize(
    "name",
    [
        one.name
        for one in pkgutil.walk_packages(coordinator.__path__, "coordinator.")
        if ".cli" not in one.name and ".testing" not in one.name and not one.name.endswith("__main__")
    ],
)
def test_every_module_has_a_sentence(name):
    """What it is for."""
    assert_sentence(importlib.import_module(name).__doc__, limit=110)


def assert_sentence(doc: str | None, *, limit: int = 88) -> None:
    """A first line of at most so many characters that ends as a sentence does."""
    assert doc, "no docstring"
    first = doc.strip().splitlines()[0]
    assert len(first) <= limit
    assert first[-1] in ".:?"
