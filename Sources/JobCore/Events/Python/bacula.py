"""The daemon's interface for the handler script.

    import bacula

    class Events:
        def JobStart(self, job): ...
        def JobEnd(self, job): ...
        def Exit(self): ...

    bacula.set_events(Events())

Name, ConfigFile, WorkingDir and Version ("version build-date") can be read.
"""

import sys
import types

_DAEMON_EVENTS = ("JobStart", "JobEnd", "Exit")
_ATTRIBUTES = ("Name", "ConfigFile", "WorkingDir", "Version")
_state = {"handlers": None}


def set_events(handlers):
    """Registers the object whose methods are called for the daemon's events: JobStart(job), JobEnd(job), Exit()."""
    if isinstance(handlers, type):
        raise TypeError("bacula.set_events: give an object, not its class: %s()" % handlers.__name__)
    _state["handlers"] = handlers


def _handler(event):
    handler = getattr(_state["handlers"], event, None)
    return handler if callable(handler) else None


def _registered():
    return [event for event in _DAEMON_EVENTS if _handler(event)]


class _Daemon(types.ModuleType):
    """The module's class: attributes of the daemon are read only."""

    def __setattr__(self, name, value):
        if name in _ATTRIBUTES:
            raise AttributeError("bacula.%s can be read but not set" % name)
        super().__setattr__(name, value)

    def __delattr__(self, name):
        if name in _ATTRIBUTES:
            raise AttributeError("bacula.%s cannot be deleted" % name)
        super().__delattr__(name)


sys.modules[__name__].__class__ = _Daemon
