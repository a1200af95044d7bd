"""The documentation of Python's own standard library as a collection: every machine has it, and people do search it.

One document per module, class, function, method or property with a docstring, read by introspection. What this Python
lacks is skipped and counted; nothing that acts when it is imported (prints, opens a window or a browser) is listed.
"""

from __future__ import annotations

import importlib
import inspect
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from flywheel.events import Document

MAX_CHARACTERS = 1_000
MIN_CHARACTERS = 15

# In order of precedence: an object that several modules export is a document of the first.
MODULES = """
    builtins abc argparse array ast asyncio atexit base64 binascii bisect bz2 cProfile calendar cmath cmd codecs
    collections collections.abc colorsys compileall concurrent.futures configparser contextlib contextvars copy csv
    ctypes ctypes.util dataclasses datetime dbm decimal difflib dis doctest email email.header email.message
    email.mime.image email.mime.multipart email.mime.text email.parser email.policy email.utils enum faulthandler
    filecmp fileinput fnmatch fractions functools gc getopt getpass gettext glob graphlib grp gzip hashlib heapq
    hmac html html.parser http http.client http.cookies http.server importlib importlib.metadata importlib.resources
    importlib.util inspect io ipaddress itertools json keyword linecache locale logging logging.config
    logging.handlers lzma marshal math mimetypes mmap multiprocessing multiprocessing.connection
    multiprocessing.pool multiprocessing.shared_memory operator os os.path pathlib pdb pickle pkgutil platform
    plistlib pprint pwd queue random re reprlib resource runpy sched secrets select selectors shelve shlex shutil
    signal site smtplib socket socketserver sqlite3 ssl statistics string struct subprocess sys sysconfig syslog
    tarfile tempfile textwrap threading time timeit tokenize tomllib trace traceback tracemalloc types typing
    unicodedata unittest unittest.mock urllib.error urllib.parse urllib.request urllib.robotparser uuid venv
    warnings wave weakref webbrowser wsgiref.simple_server xml.dom.minidom xml.etree.ElementTree xml.sax.saxutils
    xmlrpc.client zipapp zipfile zlib zoneinfo
""".split()  # noqa: SIM905 - a block of names reads better than 160 quoted lines

# Their methods repeat, one by one, those of `bytes` and of `decimal.Decimal`: no question could tell the two apart.
_TWINS = frozenset({"bytearray", "decimal.Context"})
_METHODS = (types.FunctionType, types.MethodDescriptorType, types.BuiltinFunctionType, property)


@dataclass(frozen=True, slots=True)
class Corpus:
    """The documents in a fixed order, and the modules that this Python could not give."""

    documents: tuple[Document, ...]
    missing_modules: tuple[str, ...]

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(document.doc_id for document in self.documents)


def build(updated_at_ms: int = 0) -> Corpus:
    """Read the standard library of the running interpreter; the same interpreter gives the same corpus.

    Raises:
        RuntimeError: docstrings were stripped (`python -OO`), so there is nothing to search.
    """
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
    if len(texts) < len(MODULES):
        raise RuntimeError("the standard library has no docstrings here; run Python without -OO")
    documents = (Document(doc_id, doc_id, text, updated_at_ms) for doc_id, text in texts.items())
    return Corpus(tuple(documents), tuple(missing))


def _import(name: str) -> types.ModuleType | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def _things(module: types.ModuleType, name: str, seen: set[int]) -> Iterator[tuple[str, object]]:
    """The module, its functions, its classes, then what the classes define: an instance's bound twin comes second."""
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
    for doc_id, cls in classes:
        if doc_id in _TWINS:
            continue
        for key, member in sorted(vars(cls).items()):
            function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            if not key.startswith("_") and (isinstance(function, _METHODS) or inspect.isroutine(function)):
                yield f"{doc_id}.{key}", function


def _is_alias(named: tuple[str, object]) -> bool:
    """`array.ArrayType` is `array.array`: the name that the object itself bears comes first."""
    key, thing = named
    return getattr(thing, "__name__", key) != key


def _exported(module: types.ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(set(listed))
    return [key for key in sorted(vars(module)) if not key.startswith("_") and _is_own(module, key)]


def _is_own(module: types.ModuleType, key: str) -> bool:
    """A module without `__all__` owns what it or its C half defines, not what it imported for itself."""
    owner = str(getattr(_member(module, key), "__module__", None))
    return owner in {module.__name__, "None"} or owner.startswith("_") or owner.startswith(f"{module.__name__}.")


def _member(module: types.ModuleType, key: str) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(module, key, None)


def _text(thing: object) -> str:
    """Its own docstring, cleaned and cut at a word's end; empty where there is too little to find it by."""
    doc = getattr(thing, "__doc__", None)
    if not isinstance(doc, str):
        return ""
    text = inspect.cleandoc(doc)
    if len(text) < MIN_CHARACTERS or text.startswith(("Alias for field number", "partial(func")):
        return ""
    if len(text) <= MAX_CHARACTERS:
        return text
    return text[:MAX_CHARACTERS].rsplit(None, 1)[0] + " ..."
