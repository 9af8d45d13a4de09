"""Which tests are quick: those on SQLite and some days, without processes, servers, Dagster runs and random examples.

That is seen from what a test uses, so that nothing has to be marked by hand.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

STARTERS = {"subprocess", "multiprocessing"}
"""The modules that start processes."""
NAMES = {
    "use a Dagster instance": {"DagsterInstance", "execute_in_process", "materialize"},
    "ask a server": {"StandInElexon", "HTTPServer", "ThreadingHTTPServer"},
}
"""The names by which a function of the tests does what takes long: half a second, for a run or a day over HTTP."""
TESTS = __name__.partition(".")[0]


def why_not_quick(item: pytest.Item) -> str | None:
    """Why a test is left out of a quick run; None if it is in."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    if any(isinstance(value, str) and value == "postgresql" for value in parameters) or "postgres" in _fixtures(item):
        return "use PostgreSQL"
    if item.get_closest_marker("campaign"):
        return "belong to the campaign"
    if {"june", "june_database"} & _fixtures(item).keys():
        return "take all of June"
    if hasattr(getattr(item, "function", None), "hypothesis"):
        return "try random examples"
    functions = [_test(item), *(definition.func for found in _fixtures(item).values() for definition in found)]
    return next(filter(None, map(_what_takes_long, functions)), None)


def _fixtures(item: pytest.Item) -> dict[str, Any]:
    return item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}


def _test(item: pytest.Item) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(item, "function", why_not_quick)
    return function


@cache
def _what_takes_long(function: object) -> str | None:
    """What a function of the tests, or what it calls among the tests, does that takes long."""
    waiting, seen = [function], set[object]()
    while waiting:
        used = waiting.pop()
        root = _module(used).partition(".")[0]
        if root in STARTERS:
            return "start processes"
        if root == TESTS and callable(used) and used not in seen:
            seen.add(used)
            if isinstance(plain := inspect.unwrap(used), FunctionType):
                named = set(_names(plain.__code__))
                for reason, names in NAMES.items():
                    if names & named:
                        return reason
            waiting += _used_by(used)
    return None


def _module(thing: object) -> str:
    """The module that something is or comes from; of an instance that of its class."""
    if isinstance(thing, ModuleType):
        return thing.__name__
    return str(getattr(thing if callable(thing) else type(thing), "__module__", None) or "")


def _used_by(thing: Any) -> Iterator[object]:
    """The globals that a function names, or the methods of a class."""
    if isinstance(thing, type):
        yield from (inspect.unwrap(getattr(m, "fget", None) or getattr(m, "__func__", m)) for m in _methods(thing))
    elif isinstance(function := inspect.unwrap(thing), FunctionType):
        for name in _names(function.__code__):
            if name in function.__globals__:
                yield function.__globals__[name]


def _methods(thing: type) -> Iterator[Any]:
    return (value for value in vars(thing).values() if callable(value) or hasattr(value, "fget"))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
