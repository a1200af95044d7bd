"""The documentation of Python's own standard library as a collection: every machine has it, and people do search it.

One document per module, class, function, method or property with a docstring, read by introspection. Modules that this
Python lacks are skipped and counted. No module is listed that acts on import (prints, opens a window or a browser).
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from flywheel.events import Document

MAX_CHARACTERS = 600
MIN_CHARACTERS = 15

# in order of precedence: an object that several modules export is a document of the first
MODULES = """
    builtins abc argparse array ast asyncio atexit base64 binascii bisect bz2 cProfile calendar collections
    concurrent.futures configparser contextlib contextvars copy csv dataclasses datetime dbm decimal difflib doctest
    email email.mime.multipart email.mime.text email.utils enum fileinput fnmatch fractions functools gc getopt
    getpass glob graphlib gzip hashlib heapq hmac html html.parser http http.client http.server importlib
    importlib.resources inspect io ipaddress itertools json logging logging.handlers lzma marshal math mimetypes
    multiprocessing multiprocessing.pool operator os os.path pathlib pickle pprint pwd queue random re sched secrets
    shelve shlex shutil signal smtplib socket socketserver sqlite3 statistics string struct subprocess sys tarfile
    tempfile textwrap threading time timeit tomllib traceback types typing unicodedata unittest unittest.mock
    urllib.error urllib.parse urllib.request urllib.robotparser uuid warnings weakref webbrowser
    xml.etree.ElementTree xml.sax.saxutils zipfile zlib zoneinfo
""".split()  # noqa: SIM905 - a block of names reads better than 160 quoted lines

# their methods repeat those of `bytes` and `Decimal`, or are for authors of protocols: no question is about them
_CLASS_ONLY = """
    bytearray decimal.Context asyncio.AbstractEventLoop asyncio.BaseEventLoop configparser.RawConfigParser
    doctest.DocTestRunner http.server.BaseHTTPRequestHandler io.BytesIO io.FileIO socket.SocketType tarfile.TarInfo
""".split()  # noqa: SIM905
# if `str` and `bytes`, or `set` and `frozenset`, share a text, people mean the first
_SECOND_CHOICE = frozenset({"bytes", "frozenset"})
_METHODS = (types.FunctionType, types.MethodDescriptorType, types.BuiltinFunctionType, property)


@dataclass(frozen=True, slots=True)
class PythonDocs:
    """The documents in a fixed order, and the modules that this Python lacks."""

    documents: tuple[Document, ...]
    missing_modules: tuple[str, ...]

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(document.doc_id for document in self.documents)


def build(updated_at_ms: int = 0) -> PythonDocs:
    """Read the standard library of the running interpreter; the same interpreter gives the same corpus.

    Raises:
        RuntimeError: docstrings were stripped (`python -OO`), so there is too little to search.
    """
    if sys.flags.optimize >= 2:
        raise RuntimeError("python -OO strips the docstrings that are the demo's documents; run it without -OO")
    texts: dict[str, str] = {}
    missing: list[str] = []
    seen_texts: set[str] = set()
    seen_objects: set[int] = set()
    for name in MODULES:
        module = _import(name)
        if module is None:
            missing.append(name)
            continue
        for doc_id, thing in _things(module, name, seen_objects):
            text = _text(thing)
            if text and text not in seen_texts and doc_id not in texts:
                seen_texts.add(text)
                texts[doc_id] = text
    documents = (Document(doc_id, doc_id, text, updated_at_ms) for doc_id, text in texts.items())
    return PythonDocs(tuple(documents), tuple(missing))


def _import(name: str) -> types.ModuleType | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def _things(module: types.ModuleType, name: str, seen: set[int]) -> Iterator[tuple[str, object]]:
    """The module, its functions, its classes, then the classes' methods.

    So a function that is a method of a module's hidden instance (as in `random`) comes before the method.
    """
    yield name, module
    exported = sorted(((key, _member(module, key)) for key in _exported(module)), key=_is_alias)
    fresh = [(key, thing) for key, thing in exported if id(thing) not in seen and not inspect.ismodule(thing)]
    prefix = "" if name == "builtins" else f"{name}."
    functions = [(prefix + key, thing) for key, thing in fresh if inspect.isroutine(thing)]
    classes = [(prefix + key, thing) for key, thing in fresh if isinstance(thing, type)]
    for doc_id, thing in functions + classes:
        if id(thing) not in seen:
            seen.add(id(thing))
            yield doc_id, thing
    for doc_id, cls in sorted(classes, key=_precedence):
        if doc_id not in _CLASS_ONLY:
            yield from ((f"{doc_id}.{key}", method) for key, method in _methods(cls, module))


def _precedence(named: tuple[str, type]) -> tuple[bool, int]:
    """Sorts first the class that owns a text which several share: the one nearest to `object`."""
    doc_id, cls = named
    return doc_id in _SECOND_CHOICE, len(cls.__mro__)


def _methods(cls: type, module: types.ModuleType) -> Iterator[tuple[str, object]]:
    """The methods of the class, and those inherited from a private module of its package (`pathlib` since 3.13)."""
    members: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        if base is cls or ("._" in base.__module__ and not hasattr(module, base.__name__)):
            members |= vars(base)
    for key, member in sorted(members.items()):
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        is_method = isinstance(function, _METHODS) or inspect.isroutine(function)
        if is_method and not key.startswith("_") and _belongs(function, module):
            yield key, function


def _is_alias(named: tuple[str, object]) -> bool:
    """Whether `key` is not the object's own name, which comes first: `array.ArrayType` is `array.array`."""
    key, thing = named
    return getattr(thing, "__name__", key) != key


def _exported(module: types.ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(set(listed))
    return [key for key in sorted(vars(module)) if not key.startswith("_") and _is_own(module, key)]


def _is_own(module: types.ModuleType, key: str) -> bool:
    """Whether a module without `__all__` defines this, itself or in its C half, and did not only import it."""
    if module.__name__ == "builtins":
        return True
    return _belongs(_member(module, key), module)


def _belongs(thing: object, module: types.ModuleType) -> bool:
    owner = str(getattr(thing, "__module__", None))
    return owner in {module.__name__, "None"} or owner.startswith("_") or owner.startswith(f"{module.__name__}.")


def _member(module: types.ModuleType, key: str) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(module, key, None)


def _text(thing: object) -> str:
    """The object's docstring, cleaned and cut at the end of a word; empty if it is too short to be found by."""
    doc = getattr(thing, "__doc__", None)
    if not isinstance(doc, str):
        return ""
    text = inspect.cleandoc(doc)
    is_grammar = isinstance(thing, type) and thing.__module__ == "ast" and text.startswith(f"{thing.__name__}(")
    if len(text) < MIN_CHARACTERS or is_grammar or text.startswith("Alias for field number"):
        return ""
    if len(text) <= MAX_CHARACTERS:
        return text
    return text[:MAX_CHARACTERS].rsplit(None, 1)[0] + " ..."
