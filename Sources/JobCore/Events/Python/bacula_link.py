"""The pipes to the daemon. Not for handlers, which import bacula.

Requests and answers are JSON, one object per line, over the original standard input and output. Text for reports goes over the original standard error,
from print(), from programs that a handler starts and from job.JobReport, so that it keeps its order. Marks in the text tell the daemon where an event
begins and ends and which report is meant; they contain a secret word, so that text cannot imitate them.
"""

import io
import json
import os
import sys
import threading


class Link:
    """The connection of this process to the daemon."""

    def __init__(self):
        # Copies that are not inherited by programs that handlers start.
        self._requests = os.fdopen(os.dup(0), "rb")
        self._answers = os.dup(1)
        self._report = os.dup(2)
        self._process = os.getpid()
        self._thread = threading.get_ident()
        self._word = None
        self._target = None  # the number of the job whose event is running
        self._in_event = False
        self._streams = ()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        self.restore_streams()

    @property
    def is_original(self):
        """False in a process that a handler has forked."""
        return os.getpid() == self._process

    def restore_streams(self):
        """Connects standard output and error to the report again, after a handler may have changed them."""
        self._flush()
        os.dup2(self._report, 1)
        os.dup2(self._report, 2)
        if not self._streams or any(stream.closed for stream in self._streams):
            self._streams = (_stream(1), _stream(2))
        sys.stdout, sys.stderr = self._streams

    # Requests and answers

    def set_word(self, word):
        self._word = word.encode("ascii")

    def receive(self):
        """The daemon's next request; None if it has closed the pipe."""
        line = self._requests.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def send(self, message):
        _write_all(self._answers, json.dumps(message).encode("ascii") + b"\n")

    def call(self, name, argument):
        """Sends a request to the daemon while a handler runs, and waits for the answer: a number, and None or an error."""
        if not (self._in_event and self.is_original and threading.get_ident() == self._thread):
            raise RuntimeError("the daemon can be asked only by a handler that it has called, in the thread of the call")
        self.send({"call": name, "argument": argument})
        answer = self.receive()
        if answer is None:
            raise SystemExit("the daemon has closed the pipe")
        return answer["answer"], answer.get("error")

    # The report

    def begin(self, number, job):
        self._target = job
        self._in_event = True
        self._mark("begin %d %s" % (number, "-" if job is None else job))

    def end(self, number):
        self.restore_streams()
        self._mark("end %d -" % number)
        self._target = None
        self._in_event = False

    def write(self, text):
        """Writes text to the report of the running event."""
        self._flush()
        _write_all(self._report, _encoded(text))

    def write_lines(self, text, job):
        """Writes whole lines to the report of any job."""
        self._flush()
        self._mark("job %d -" % job)
        _write_all(self._report, _encoded(text) + (b"" if text.endswith("\n") else b"\n"))
        self._mark("job %s -" % ("-" if self._target is None else self._target))

    def is_target(self, job):
        return self._in_event and self._target == job

    def _flush(self):
        for stream in self._streams:
            try:
                stream.flush()
            except (OSError, ValueError):
                pass  # closed by the handler

    def _mark(self, text):
        if self.is_original:
            # One short write is atomic.
            os.write(self._report, b"\0" + self._word + b" " + text.encode("ascii") + b"\n")


def _stream(descriptor):
    return io.TextIOWrapper(
        io.FileIO(descriptor, "wb", closefd=False),
        encoding="utf-8",
        errors="backslashreplace",
        newline="\n",
        line_buffering=True,
    )


def _encoded(text):
    return text.encode("utf-8", "backslashreplace")


def clean(text):
    """The text without lone surrogates, which JSON parsers reject."""
    return _encoded(text).decode("utf-8")


def _write_all(descriptor, data):
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


#: The link of this process.
link = Link()
