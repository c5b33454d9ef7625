"""How many steps SCons runs at once where nobody has said so.

SCons's own default is one, which leaves processors idle; neither a user's ``-j``, in SCONSFLAGS or on the
command line, nor a SConstruct's ``SetOption("num_jobs", …)`` is ever overruled.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import SCons.Script.Main

from linuxkit_rules.errors import UsageError


def use_processors(env: Any) -> None:
    """Have SCons run as many steps at once as ``LINUXKIT_JOBS`` says, or as there are processors.

    0 leaves SCons alone.  Raises UsageError for what is no number.
    """
    text = str(env["LINUXKIT_JOBS"])
    if text and not (text.isascii() and text.isdigit()):
        raise UsageError(f"LINUXKIT_JOBS={text!r} is no number of steps", hint="0 leaves it to SCons")
    jobs = int(text) if text else len(os.sched_getaffinity(0))
    if jobs > 0 and not _is_said(SCons.Script.Main.OptionsParser.values):
        env.SetOption("num_jobs", jobs)


def is_interrupted() -> bool:
    """Whether the user has asked SCons to end, which waits for the steps that are running.

    Only its handler of signals knows the object that says so; no where that is not as it was in SCons 4.8.
    """
    defaults = getattr(signal.getsignal(signal.SIGINT), "__defaults__", None)
    job = getattr(defaults[0], "job", None) if defaults else None
    return bool(job and job.interrupted())


def _is_said(values: Any) -> bool:
    """Whether command line or SConstruct have a number of jobs, in the places where SCons keeps both."""
    by_sconstruct = vars(values).get("__SConscript_settings__")
    return by_sconstruct is None or "num_jobs" in vars(values) or "num_jobs" in by_sconstruct
