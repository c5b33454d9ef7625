"""What single values of LinuxKit's YAML must look like; each check gives what is wrong, or None.

``SHAPES`` says of each check what JSON Schema can say of it: never less than the check takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

Check: TypeAlias = Callable[[Any], str | None]
"""Gives what is wrong with a value, or None."""

SHAPES: dict[Check, dict[str, Any]] = {}
"""The keywords of JSON Schema for the values that a check takes."""

_NAME = re.compile(r"(?!\.{1,2}$)[^/\x00-\x1f\x7f]+")
_VOLUME = re.compile(r"[a-z0-9_-]+")
_BIND = re.compile(r"[^:]+:[^:]+(:[^:]*)?")
_TMPFS = re.compile(r"[^:]*(:[^:]*)?")
_OCTAL = re.compile(r"0{0,28}[0-7]{1,4}")
_DEVICE_TYPES = ("a", "b", "c", "u", "p")
_UINT64 = (1 << 64) - 1

C = TypeVar("C", bound=Check)


def _shape(**keywords: Any) -> Callable[[C], C]:
    """Note what JSON Schema can say of a check's values."""

    def note(check: C) -> C:
        SHAPES[check] = keywords
        return check

    return note


def _whole(pattern: re.Pattern[str]) -> str:
    """Give the pattern of JSON Schema, which is searched for, for one that must match a whole text."""
    return f"^(?:{pattern.pattern})$"


def _any_case(word: str) -> str:
    """Give a pattern for a word in capitals or not; JSON Schema knows no flags."""
    return "".join(f"[{letter.upper()}{letter.lower()}]" if letter.isalpha() else letter for letter in word)


def _words(text: str) -> list[str]:
    return text.split()


CAPABILITIES = tuple(
    "CAP_" + name
    for name in _words(
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE"
        " NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT"
        " SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE"
        " AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ"
        " PERFMON BPF CHECKPOINT_RESTORE"
    )
)
"""Linux's capabilities in the order of their numbers: include/uapi/linux/capability.h."""

RLIMITS = frozenset(
    "RLIMIT_" + name
    for name in _words(
        "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME"
    )
)
"""Resource limits: getrlimit(2)."""

_LIMIT = rf"\s*(?:[0-9]{{1,79}}|{_any_case('unlimited')})\s*"
_RLIMIT = (
    rf"^\s*(?:{_any_case('RLIMIT_')})?(?:"
    + "|".join(_any_case(name.removeprefix("RLIMIT_")) for name in sorted(RLIMITS))
    + rf")\s*,{_LIMIT},{_LIMIT}$"
)


@_shape(pattern=_whole(_NAME))
def container_name(value: str) -> str | None:
    """A container's name is one part of a path."""
    if not _NAME.fullmatch(value):
        return f"{value!r} cannot be a name: it becomes a directory's name"
    return None


@_shape(pattern=_whole(_VOLUME))
def volume_name(value: str) -> str | None:
    """A volume's name is a lower-case word."""
    return None if _VOLUME.fullmatch(value) else f"{value!r} cannot be a name: use a-z, 0-9, _ and -"


@_shape(minLength=1)
def image(value: str) -> str | None:
    """An image's reference is not empty; its form is judged where images are found."""
    return None if value else "the reference is empty"


@_shape(
    anyOf=[
        {"enum": [*CAPABILITIES, "all", "none"]},
        {"pattern": f"^(?:{_any_case('all')}|{_any_case('none')})$"},
    ]
)
def capability(value: str) -> str | None:
    """A capability's full name; ``all`` and ``none`` are judged with the list around them."""
    if value in CAPABILITIES or value.lower() in ("all", "none"):
        return None
    guess = "CAP_" + value.upper().removeprefix("CAP_")
    return f"{value!r} is no capability" + (f"; write {guess}" if guess in CAPABILITIES else "")


@_shape(pattern="^/")
def absolute(value: str) -> str | None:
    """A path that begins at the root."""
    return None if value.startswith("/") else f"{value!r} must be an absolute path"


@_shape(pattern="^(?:/|$)")
def absolute_or_empty(value: str) -> str | None:
    """An absolute path, or nothing."""
    return absolute(value) if value else None


@_shape(pattern="^(?:/|all$)")
def device_path(value: str) -> str | None:
    """An absolute path, or ``all``."""
    return None if value == "all" else absolute(value)


@_shape(pattern=_whole(_BIND))
def bind(value: str) -> str | None:
    """``source:destination`` or ``source:destination:options``; the source is a path or a volume."""
    if _BIND.fullmatch(value):
        return None
    parts = value.split(":")
    if len(parts) not in (2, 3):
        return f"{value!r} must be source:destination or source:destination:options"
    return f"{value!r} has no {'source' if parts[1] else 'destination'}"


@_shape(pattern=_whole(_TMPFS))
def tmpfs(value: str) -> str | None:
    """``destination`` or ``destination:options``."""
    return None if _TMPFS.fullmatch(value) else f"{value!r} must be destination or destination:options"


@_shape(pattern=_whole(_OCTAL))
def octal(value: str) -> str | None:
    """Permission bits as octal text."""
    return None if _OCTAL.fullmatch(value) else f"{value!r} must be octal, 0000 to 7777"


@_shape(pattern=f"^(?:{_OCTAL.pattern})?$")
def octal_or_empty(value: str) -> str | None:
    """Permission bits as octal text, or nothing for the default."""
    return octal(value) if value else None


@_shape(enum=[*_DEVICE_TYPES])
def device_type(value: str) -> str | None:
    """Types of devices in the runtime specification: config-linux.md, "Devices"."""
    return None if value in _DEVICE_TYPES else f"{value!r} is no device type: use c, b, u or p"


@_shape(minimum=0, maximum=(1 << 32) - 1)
def identity(value: Any) -> str | None:
    """A number of 32 bits, or a name."""
    if isinstance(value, int) and not 0 <= value < 1 << 32:
        return f"{value} is out of range: 0 to 4294967295"
    return None


@_shape(minimum=0, maximum=(1 << 32) - 1)
def unsigned32(value: int) -> str | None:
    """A number of 32 bits."""
    return None if 0 <= value < 1 << 32 else f"{value} is out of range: 0 to 4294967295"


@_shape(minimum=0, maximum=(1 << 16) - 1)
def unsigned16(value: int) -> str | None:
    """A number of 16 bits."""
    return None if 0 <= value < 1 << 16 else f"{value} is out of range: 0 to 65535"


@_shape(minimum=0, maximum=_UINT64)
def unsigned(value: int) -> str | None:
    """A number of 64 bits without sign."""
    return None if 0 <= value <= _UINT64 else f"{value} is out of range: 0 to 18446744073709551615"


@_shape(minimum=1, maximum=64)
def threshold(value: int) -> str | None:
    """A number of keys."""
    return None if 1 <= value <= 64 else f"{value} is out of range: 1 to 64"


@_shape(minimum=-(1 << 63), maximum=(1 << 63) - 1)
def signed(value: int) -> str | None:
    """A number of 64 bits with sign."""
    return None if -(1 << 63) <= value < 1 << 63 else f"{value} is out of range of 64 bits"


@_shape(pattern=_RLIMIT)
def rlimit(value: str) -> str | None:
    """``name,soft,hard`` with numbers or ``unlimited``."""
    parts = [part.strip() for part in value.split(",", 2)]
    if len(parts) != 3:
        return f"{value!r} must be name,soft,hard"
    name = parts[0].upper() if parts[0].isascii() else ""
    if "RLIMIT_" + name.removeprefix("RLIMIT_") not in RLIMITS:
        return f"{parts[0]!r} is no resource limit"
    for part in parts[1:]:
        if part.lower() != "unlimited" and not (
            part.isascii() and part.isdigit() and len(part) < 80 and int(part) <= _UINT64
        ):
            return f"{part!r} must be a number or unlimited"
    return None
