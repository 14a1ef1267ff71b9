"""The job as handlers see it. Handlers receive it and do not import this module."""

from bacula_link import clean, link

_READ_ONLY = frozenset(
    (
        "Type JobId Client NumVols Pool Storage Catalog MediaType Job JobName JobStatus CatalogRes".split()
    )
)
_EARLY = ("JobStart", "JobInit", "JobRun")
_JOB_EVENTS = ("JobInit", "JobRun", "NewVolume", "VolumePurged")


class Job:
    """A job of the daemon.

    Read and set: Priority, Level (in JobStart, JobInit and JobRun of this job).
    Read: Type, JobId, Client, NumVols, Pool, Storage, Catalog, MediaType, Job, JobName, JobStatus, CatalogRes, and VolumeName after a purge.
    Set: JobReport (adds a line to the job's report each time), and VolumeName in NewVolume.

    Misuse raises an exception in the handler and adds an error line to the job's report.
    """

    __slots__ = ("_values", "_levels", "_event", "_effect", "_handlers", "__weakref__")

    def __init__(self):
        for name in self.__slots__[:-1]:
            object.__setattr__(self, name, None)

    # Methods for handlers

    def set_events(self, handlers):
        """Registers the object whose methods are called for this job's events; only within JobStart."""
        if self._event != "JobStart":
            raise self._misuse(RuntimeError, "job.set_events: job events are registered within JobStart of the same job")
        if isinstance(handlers, type):
            raise self._misuse(
                TypeError, "job.set_events: give an object, not its class: %s()" % handlers.__name__
            )
        if not hasattr(handlers, "write"):
            # Handlers often use this object as standard output, so that print() writes to the report.
            try:
                handlers.write = link.write
            except (AttributeError, TypeError):
                pass  # the object does not accept attributes
        object.__setattr__(self, "_handlers", handlers)

    def run(self, command):
        """Starts another job ("run job=NAME yes", "backup LEVEL"). Returns its number, or -1, and then the report says why."""
        if not isinstance(command, str):
            raise self._misuse(TypeError, "job.run: the command is a string, not %s" % _kind(command))
        number, error = link.call("run", clean(command))
        if error is not None:
            link.write_lines("error: job.run: " + error, self.JobId)
        return number

    def write(self, text):
        """Writes text to the job report, unchanged."""
        if not isinstance(text, str):
            raise self._misuse(TypeError, "job.write: the text is a string, not %s" % _kind(text))
        if link.is_target(self.JobId):
            link.write(text)
        elif text not in ("", "\n"):
            link.write_lines(text, self.JobId)

    def cancel(self, job_id):
        """Cancels the job with this number. Returns 1 if there was such a job, else 0."""
        if not _is_integer(job_id):
            raise self._misuse(TypeError, "job.cancel: the job's number is an integer, not %s" % _kind(job_id))
        return link.call("cancel", int(job_id))[0] if 0 < job_id < 1 << 63 else 0

    def DoesVolumeExist(self, name):
        """Returns 1 if there is a volume of this name, else 0."""
        if not isinstance(name, str):
            raise self._misuse(TypeError, "job.DoesVolumeExist: the name is a string, not %s" % _kind(name))
        return link.call("volume", clean(name))[0]

    # Attributes for handlers

    def __getattr__(self, name):
        if name == "JobReport":
            raise self._misuse(AttributeError, "job.JobReport can be set but not read")
        if name in _READ_ONLY or name in ("Priority", "Level", "VolumeName"):
            return self._values[name]
        raise AttributeError("a job has no attribute %r" % name)

    def __setattr__(self, name, value):
        if name == "JobReport":
            self._report(value)
        elif name in ("Priority", "Level"):
            self._set_parameter(name, value)
        elif name == "VolumeName":
            self._set_volume(value)
        elif name in _READ_ONLY:
            raise self._misuse(AttributeError, "job.%s can be read but not set" % name)
        elif hasattr(Job, name):
            raise self._misuse(AttributeError, "job.%s is a method: it can be called but not set" % name)
        else:
            raise self._misuse(
                AttributeError, "a job has no attribute %r: keep values of your own in your events object" % name
            )

    def __delattr__(self, name):
        raise self._misuse(AttributeError, "job.%s cannot be deleted" % name)

    def __dir__(self):
        methods = [name for name in dir(Job) if not name.startswith("_")]
        return sorted(_READ_ONLY | {"Priority", "Level", "VolumeName", "JobReport"} | set(methods))

    def __repr__(self):
        return "<job %s %s>" % (self.JobId, self.JobName)

    def _report(self, line):
        if not isinstance(line, str):
            raise self._misuse(TypeError, "job.JobReport: a line is a string, not %s" % _kind(line))
        link.write_lines(line, self.JobId)

    def _set_parameter(self, name, value):
        if self._event not in _EARLY:
            raise self._misuse(
                AttributeError,
                "job.%s can be set only before the job runs: in JobStart, JobInit or JobRun of the same job" % name,
            )
        if name == "Priority":
            if not _is_integer(value):
                raise self._misuse(TypeError, "job.Priority is an integer, not %s" % _kind(value))
            if not 1 <= value <= 0x7FFFFFFF:
                raise self._misuse(ValueError, "job.Priority is from 1 to %d: %d is not" % (0x7FFFFFFF, value))
            value = int(value)
        else:
            if not isinstance(value, str):
                raise self._misuse(TypeError, "job.Level is a string, not %s" % _kind(value))
            value = clean(value)
            if value not in self._levels:
                known = ", ".join(self._levels) or "none can be set"
                raise self._misuse(
                    ValueError, "job.Level: %r is not a level of a job of type %s (%s)" % (value, self.Type, known)
                )
        self._values[name] = value
        self._effect[name.lower()] = value

    def _set_volume(self, value):
        if self._event != "NewVolume":
            raise self._misuse(AttributeError, "job.VolumeName can be set only within NewVolume of the same job")
        if not isinstance(value, str):
            raise self._misuse(TypeError, "job.VolumeName is a string, not %s" % _kind(value))
        self._values["VolumeName"] = self._effect["volume"] = clean(value)

    def _misuse(self, kind, text):
        link.write_lines("error: " + text, self.JobId)
        return kind(text)

    # For bacula_host

    def _begin(self, event, values, levels):
        values["CatalogRes"] = tuple(values["CatalogRes"])
        for name, value in (("_values", values), ("_levels", levels), ("_event", event), ("_effect", {})):
            object.__setattr__(self, name, value)

    def _finish(self):
        object.__setattr__(self, "_event", None)
        return self._effect

    def _registered(self):
        return [name for name in _JOB_EVENTS if callable(getattr(self._handlers, name, None))]


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value):
    return type(value).__name__
