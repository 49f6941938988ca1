"""Modules that load at the first use of an attribute, so that a card can be read without importing TensorFlow."""

import importlib
import types


class _LazyModule(types.ModuleType):
    def __getattr__(self, name):
        return getattr(importlib.import_module(self.__name__), name)


def lazy_module(name):
    """Stands for the module `name` (a full dotted name); the import happens when an attribute is read."""
    return _LazyModule(name)


def lazy_attributes(package, homes):
    """Makes the `__getattr__` and `__dir__` of a package whose public names live in other modules.

    `homes` maps a public name to the module of `package` that defines it ("log_mel"), or to None where the name is
    a module itself. What was found is kept in the package, so that the second access costs nothing.
    """

    def get(name):
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        if home is None:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(f"{package}.{home}"), name)
        setattr(importlib.import_module(package), name, value)
        return value

    return get, lambda: sorted(homes)
