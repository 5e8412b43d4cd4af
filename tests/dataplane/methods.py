"""Which public methods of a client no test drives: what a new version of the client brings is noticed."""

from __future__ import annotations

import inspect
import re
from types import ModuleType


def undriven(client: type, tests: ModuleType, *, in_coroutines: bool) -> set[str]:
    """Give the methods of ``client`` that no function of ``tests``, or no coroutine of it, names."""
    functions = [each for _, each in inspect.getmembers(tests, inspect.isfunction) if inspect.iscoroutinefunction(each) == in_coroutines]
    source = "\n".join(inspect.getsource(each) for each in functions if each.__module__ == tests.__name__)
    return {name for name in dir(client) if not name.startswith("_") and not re.search(rf"\.{name}\b", source)}
