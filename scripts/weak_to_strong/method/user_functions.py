"""Functions of the user's own, named as `file.py:name`: loading them, and what ends a bad one."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def function_file(reference: str) -> tuple[Path, str]:
    """File and name of a reference `file.py:name`."""
    file, _, name = reference.rpartition(":")
    return Path(file), name


def function_files(reference: str | None) -> list[str]:
    """The file of a reference as inputs of a rule; no inputs where no function is named."""
    return [str(function_file(reference)[0])] if reference else []


def check_function(reference: str) -> None:
    """Check that the file is there, is Python, and defines the function. Its code does not run.

    Raises:
        ValueError: it does not.
    """
    file, name = function_file(reference)
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror})") from error
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{file}: is no Python ({error})") from error
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    if name not in names:
        raise ValueError(
            f"{file}: defines no function {name!r}; it has {', '.join(names) or 'none'}"
        )


def load_function(reference: str) -> Callable[..., Any]:
    """The function, in a form whose errors are of one line.

    Raises:
        ValueError: the file cannot be imported, or (when called) the function fails; names the
            function, the line of its file, and the error.
    """
    check_function(reference)
    file, name = function_file(reference)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    _explain(reference, file, spec.loader.exec_module, module)
    return lambda *arguments: _explain(reference, file, getattr(module, name), *arguments)


def _explain(reference: str, file: Path, call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception as error:
        line, trace = 0, error.__traceback__
        while trace:
            if Path(trace.tb_frame.f_code.co_filename) == file.absolute():
                line = trace.tb_lineno
            trace = trace.tb_next
        text = " ".join(str(error).split()) or "no message"
        raise ValueError(
            f"{reference}: failed at line {line} with {type(error).__name__}: {text}; correct it"
        ) from error
