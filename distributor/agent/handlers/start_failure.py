"""Why a program cannot be started, and what to do about it.

One error number has several causes: "no such file" may refer to the program, its interpreter or its loader. These
functions inspect the file after the start has failed.
"""

from __future__ import annotations

import errno
import os
import re
from typing import Final

FIRST_LINE_BYTES: Final = 256
"""The system reads at most this much of a script's first line."""

_SHELL_BUILTINS: Final = frozenset(
    ". alias bg bind cd declare eval exec exit export fg history jobs let local popd pushd read readonly return set "
    "shift shopt source trap type ulimit umask unalias unset wait".split()
)
"""Commands built into shells; some hosts have programs for some of them."""

_ELF: Final = b"\x7fELF"
_ADVICE: Final = {
    errno.ETXTBSY: "it is being written to; start it once it has been written and closed",
    errno.E2BIG: "argv and env are longer than the system allows; pass the data in stdin or in a file",
    errno.ENOMEM: "this host is out of memory",
    errno.EAGAIN: "this host allows this user no more processes",
    errno.EMFILE: "this agent has too many open files",
    errno.ELOOP: "its path is a loop of symbolic links",
}


def why_not_found(name: str, cwd: str | None, path: str | None) -> str:
    """Why `name` is not a program: it does not exist, is a directory, or is not executable."""
    for candidate in _candidates(name, cwd, path):
        if os.path.isdir(candidate):
            if "/" in name:
                return f"{name!r} is a directory, not a program"
        elif os.path.exists(candidate):
            return f"{candidate!r} is not executable for this agent's user; make it so with chmod +x"
    if name in _SHELL_BUILTINS:
        return f"{name!r} is a command of shells, not a program; let a shell run it: sh -c '{name} …'"
    where = "on this host" if "/" in name else "on the PATH of this agent"
    return f"there is no program {name!r} {where}"


def why_not_started(name: str, file: str, cwd: str | None, error: OSError) -> str:
    """Why the system did not start the executable `file`, requested as `name`."""
    return f"{name!r} did not start: {_cause(file, cwd, error)}"


def _cause(file: str, cwd: str | None, error: OSError) -> str:
    if cwd is not None and not os.access(cwd, os.X_OK):
        return f"its working directory {cwd!r} is gone or closed to this agent's user"
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return _missing(file, error)
        case errno.EACCES | errno.EPERM:
            return _denied(file, error)
        case errno.ENOEXEC:
            return _format(file)
        case number:
            return _ADVICE.get(number or 0, error.strerror or str(error))


def _missing(file: str, error: OSError) -> str:
    interpreter = _interpreter(file)
    if interpreter is None:
        if _begins(file, _ELF):
            return "it is built for another system: the loader it names is not on this host"
        return error.strerror or str(error)
    if interpreter.endswith("\r"):
        return "its first line ends in CR LF; save the script with LF line ends (dos2unix)"
    return f"the interpreter {interpreter!r} in its first line is not on this host"


def _denied(file: str, error: OSError) -> str:
    interpreter = _interpreter(file)
    if interpreter is not None and not os.access(interpreter, os.X_OK):
        return f"the interpreter {interpreter!r} in its first line is not executable for this agent's user"
    return f"{error.strerror}; it may lie on a file system mounted noexec"


def _format(file: str) -> str:
    if _begins(file, _ELF):
        return "it is built for another kind of processor"
    if not _begins(file, b""):
        return "it is not in an executable format"
    return "it is not in an executable format; a script needs a first line that names its interpreter, as #!/bin/sh"


def _interpreter(file: str) -> str | None:
    """The interpreter in a script's first line, including a trailing CR; None without such a line."""
    match = re.match(rb"#![ \t]*([^ \t\n]+)", _first_bytes(file))
    return os.fsdecode(match[1]) if match else None


def _begins(file: str, prefix: bytes) -> bool:
    first = _first_bytes(file)
    return bool(first) and first.startswith(prefix)


def _first_bytes(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read(FIRST_LINE_BYTES)
    except OSError:
        return b""


def _candidates(name: str, cwd: str | None, path: str | None) -> list[str]:
    if "/" in name:
        return [os.path.join(cwd or "", name)]
    return [os.path.join(folder, name) for folder in (path or os.defpath).split(os.pathsep)]
