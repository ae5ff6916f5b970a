"""Errors that a user can act on share one base class, which the command line catches."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from alt_ros import errors
from alt_ros.errors import AltError

PACKAGE = Path(errors.__file__).parent
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
OTHERS = {
    "IndexError": "a sequence's own protocol",
    "LookupError": "as IndexError",
    "TypeError": "a caller's mistake in Python",
    "ValueError": "caught where it is raised",
    "SystemExit": "the command line's status",
    "KeyboardInterrupt": "a termination, taken as Ctrl-C",
    "ExternalShutdownException": "a replay that has ended, to the node's main",
}


def trees() -> dict[Path, ast.Module]:
    """Return the syntax of every module that a person wrote."""
    files = [p for p in sorted(PACKAGE.rglob("*.py")) if p.parent.name not in ("msg", "srv")]
    return {p: ast.parse(p.read_text(encoding="utf-8")) for p in files}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_an_alt_error_with_a_word_on_when_it_is_raised(kind):
    assert issubclass(kind, AltError)
    assert kind.__doc__


def test_there_are_errors_of_four_kinds_under_one_base():
    assert {kind.__name__ for kind in KINDS} == {
        "AltError",
        "BundleError",
        "ConfigurationError",
        "DataError",
        "DependencyError",
    }


def test_a_kind_of_error_is_caught_as_itself_and_not_as_another():
    with pytest.raises(errors.DataError, match="^bag 'x' is empty$"):
        raise errors.DataError("bag 'x' is empty")
    assert not issubclass(errors.DataError, errors.BundleError)


def test_no_other_module_defines_errors():
    found = [
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(getattr(base, "id", "").endswith(("Error", "Exception")) for base in node.bases)
        and path.name != "errors.py"
    ]
    assert found == []


def test_what_is_raised_by_name_is_an_alt_error_or_has_its_reason_here():
    allowed = {kind.__name__ for kind in KINDS} | set(OTHERS)
    seen, strange = set(), []
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call | ast.Name):
                called = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                name = getattr(called, "id", "") or getattr(called, "attr", "")
                seen.add(name)
                if name[:1].isupper() and name not in allowed:
                    strange.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {name}")
    assert strange == []
    assert {kind.__name__ for kind in KINDS} <= seen, "the scan must find what is raised"
