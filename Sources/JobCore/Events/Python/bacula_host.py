"""Loads DirStartUp.py and calls its handlers as the daemon asks. Started by the daemon; ends when the daemon closes the pipe."""

import os
import sys
import traceback
import types

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import bacula  # noqa: E402
from bacula_job import Job  # noqa: E402
from bacula_link import clean, link  # noqa: E402

_jobs = {}


def _load(request):
    """Runs the script as the module DirStartUp. Its source is always read: compiled copies are not written and not used."""
    link.set_word(request["word"])
    for name, value in request["daemon"].items():
        types.ModuleType.__setattr__(bacula, name, value)
    path = request["script"]
    sys.path.insert(0, os.path.dirname(path))
    module = types.ModuleType("DirStartUp")
    module.__file__ = path
    sys.modules["DirStartUp"] = module
    message = {"done": request["number"], "events": []}
    try:
        with open(path, "rb") as file:
            source = file.read()
        exec(compile(source, path, "exec"), module.__dict__)
        message["events"] = bacula._registered()
    except BaseException as error:
        message["error"] = _words(error, frames=1)
    link.restore_streams()
    return _only_original(message)


def _perform(request):
    event, number, values = request["event"], request["number"], request.get("job")
    job = None
    if values is not None:
        job = _jobs.setdefault(values["JobId"], Job())
        job._begin(event, values, request["levels"])
    link.begin(number, None if job is None else job.JobId)
    message = {"done": number}
    try:
        _call(event, job)
    except BaseException as error:
        link.write("error: %s failed:\n%s\n" % (event, _words(error, frames=2)))
        message["error"] = clean(_summary(error))
    message = _only_original(message)
    if job is not None:
        effect = job._finish()
        # The decisions of a handler that failed do not count.
        if "error" not in message:
            message.update(effect)
        message["handlers"] = job._registered()
        if event == "JobEnd":
            del _jobs[job.JobId]
    message["events"] = bacula._registered()
    link.end(number)
    return message


def _call(event, job):
    if event in ("JobStart", "JobEnd", "Exit"):
        handler = bacula._handler(event)
    else:
        handler = getattr(job._handlers, event, None)
    if not callable(handler):
        return
    # Exit may be written with or without an argument; there is no job for it.
    if event != "Exit" or _takes_argument(handler):
        handler(job)
    else:
        handler()


def _takes_argument(handler):
    import inspect

    try:
        inspect.signature(handler).bind(None)
    except TypeError:
        return False
    except ValueError:
        pass  # unknown signature
    return True


def _only_original(message):
    """Ends a process that a handler has forked: the daemon talks to one process only."""
    if not link.is_original:
        os._exit(0)
    return message


def _words(error, frames):
    """The traceback without the frames of this file."""
    trace = error.__traceback__
    for _ in range(frames):
        trace = trace.tb_next if trace is not None else None
    text = "".join(traceback.format_exception(type(error), error, trace))
    return clean(text.rstrip("\n"))[-16000:]


def _summary(error):
    return traceback.format_exception_only(type(error), error)[-1].strip()[:1000]


def _serve():
    request = link.receive()
    perform = _load
    while request is not None:
        link.send(perform(request))
        request = link.receive()
        perform = _perform


_serve()
