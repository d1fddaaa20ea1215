"""Plugins: users' Python files with components.

A plugin carries its source and that of the local modules that it imports. Workers run that source, so that a file that changes
during a run changes nothing. Local modules are identified without running any code: they are the modules next to the file that
its import statements name, and that are not installed.
"""

import ast
import importlib.util
import linecache
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from fathomlab.base.errors import PLUGIN_FILE, UserError, format_value, user_code_location
from fathomlab.base.identity import canonical_json
from fathomlab.base.user_code import contained, describe_error

PREFIX = "fathomlab_plugin_"
MAX_BYTES = 1_000_000
LIBRARIES = (
    "fathomlab",
    "numpy",
    "numpy.random",
    "random",
    "torch",
    "torch.autograd",
    "torch.linalg",
    "torch.nn.functional",
)


@dataclass(frozen=True)
class LocalModule:
    """A module next to a plugin.

    Attributes:
        name: Dotted name in import statements.
        file: Path below the plugin's directory, such as `blocks/residual.py`.
        source: Its text.
    """

    name: str
    file: str
    source: str


@dataclass(frozen=True)
class Plugin:
    """A user's Python file with components.

    Attributes:
        name: File name, without its directory.
        sha256: SHA-256 of the file; with local modules, of the digests of all files.
        source: Its text.
        modules: The local modules that it imports, directly or through others, sorted by name.
    """

    name: str
    sha256: str
    source: str
    modules: tuple[LocalModule, ...] = ()

    @property
    def module_name(self) -> str:
        """Name of the module in this process. It depends on the content and the file name only."""
        return f"{PREFIX}{self.sha256[:16]}_{Path(self.name).stem}"


def read_plugin(path: Path) -> Plugin:
    """Read a plugin and its local modules. No code runs.

    Raises:
        UserError: If a file cannot be read or parsed.
    """
    return make_plugin(path.name, _read(path), path.parent)


def make_plugin(name: str, source: str, directory: Path) -> Plugin:
    """Return the plugin of a source, with the local modules in `directory` that it imports. No code runs.

    Raises:
        UserError: If a file cannot be read or parsed.
    """
    modules: dict[str, LocalModule] = {}
    pending = list(_imported(source, name, ""))
    while pending:
        module = pending.pop()
        file = None if module in modules else _local_file(directory, module)
        if file is None or file == directory / name:
            continue
        relative = file.relative_to(directory).as_posix()
        modules[module] = LocalModule(module, relative, _read(file))
        package = module if file.name == "__init__.py" else module.rpartition(".")[0]
        pending += _imported(modules[module].source, relative, package)
    local = tuple(modules[module] for module in sorted(modules))
    return Plugin(name, _digest(source, local), source, local)


def load_module(plugin: Plugin) -> ModuleType:
    """Run a plugin, once per process, and return its module.

    Raises:
        UserError: If the source has another digest, or the plugin raises an error; names the file and the line.
    """
    if plugin.module_name in sys.modules:
        return sys.modules[plugin.module_name]
    if _digest(plugin.source, plugin.modules) != plugin.sha256:
        raise UserError("plugin-changed", f"{plugin.name}: its source does not have the digest {plugin.sha256}")
    _FINDER.serve(plugin.modules)
    module = ModuleType(plugin.module_name)
    module.__file__ = PLUGIN_FILE.format(plugin.name)
    module.__dict__["__plugin__"] = plugin
    sys.modules[plugin.module_name] = module
    try:
        with contained():
            exec(_compiled(plugin.source, plugin.name), module.__dict__)
    except BaseException as error:  # a plugin may call sys.exit, too
        del sys.modules[plugin.module_name]
        if isinstance(error, KeyboardInterrupt):
            raise
        where = "" if user_code_location(error) else plugin.name
        raise UserError("plugin-error", describe_error(error, where)) from error
    if replaced := _replaced_name():
        del sys.modules[plugin.module_name]
        text = "which would change other trials; define a function of another name"
        raise UserError("plugin-error", f"{plugin.name}: must not replace {replaced}, {text}")
    return module


def loaded_plugin(name: str, sha256: str) -> Plugin | None:
    """Return the plugin of this file name and digest if this process has loaded it."""
    module = sys.modules.get(Plugin(name, sha256, "").module_name)
    return module.__dict__["__plugin__"] if module else None


def plugin_of(component: object) -> Plugin | None:
    """Return the plugin that defines a component; None for a built-in one."""
    module = sys.modules.get(type(component).__module__)
    return module.__dict__.get("__plugin__") if module else None


class _LocalModules(InspectLoader, MetaPathFinder):
    """Imports the local modules of plugins from the source that the plugins carry."""

    def __init__(self) -> None:
        self._served: dict[str, LocalModule] = {}

    def serve(self, modules: tuple[LocalModule, ...]) -> None:
        """Provide these modules. Modules of these names are forgotten: the files may have been edited since."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)
        for module in modules:
            sys.modules.pop(module.name, None)
            self._served[module.name] = module

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of a local module."""
        if fullname not in self._served:
            return None
        origin = PLUGIN_FILE.format(self._served[fullname].file)
        return ModuleSpec(fullname, self, origin=origin, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        """Whether a local module is a directory with `__init__.py`."""
        return self._served[fullname].file.endswith("__init__.py")

    def get_source(self, fullname: str) -> str:
        """Return the source of a local module."""
        return self._served[fullname].source

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of a local module."""
        return _compiled(self.get_source(fullname), self._served[fullname].file)


_FINDER = _LocalModules()


def _replaced_name() -> str:
    """The name of a function of a library in whose place there is one of a plugin, such as `torch.relu`; or `""`."""
    prefix, _ = PLUGIN_FILE.split("{}")
    holders: dict[str, object] = {
        name: module for name, module in sys.modules.items() if name in LIBRARIES or name.startswith("fathomlab.")
    }
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        holders |= {"torch.Tensor": torch.Tensor, "torch.nn.Module": torch.nn.Module}
    for name, holder in holders.items():
        for key, value in vars(holder).items():
            if isinstance(value, FunctionType) and value.__code__.co_filename.startswith(prefix):
                return f"{name}.{key}"
    return ""


def _compiled(source: str, file: str) -> CodeType:
    """Compile a file; its lines can be shown in tracebacks, and by `inspect.getsource`."""
    name, text = PLUGIN_FILE.format(file), source.removeprefix("\ufeff")
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    return compile(text, name, "exec", dont_inherit=True)


def _read(path: Path) -> str:
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError("not a regular file")  # a pipe would be waited for
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES:,} bytes")
        return content.decode("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError("unreadable-file", f"{format_value(path.name)}: cannot read file: {reason}") from None


def _digest(source: str, modules: tuple[LocalModule, ...]) -> str:
    """SHA-256 of the file, as `sha256sum` prints it; with local modules, of the digests of all files."""
    digest = sha256(source.encode()).hexdigest()
    if not modules:
        return digest
    others: Mapping[str, str] = {module.name: sha256(module.source.encode()).hexdigest() for module in modules}
    return sha256(canonical_json([digest, others]).encode()).hexdigest()


def _imported(source: str, file: str, package: str) -> Iterator[str]:
    """Yield the dotted names that import statements of a file may load, at any depth, with their parents.

    Raises:
        UserError: If Python cannot parse the file.
    """
    try:
        tree = ast.parse(source.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line, text = (error.lineno, error.msg) if isinstance(error, SyntaxError) else (None, str(error))
        where = file if line is None else f"{file}:{line}"
        raise UserError("plugin-error", f"{where}: {type(error).__name__}: {text}") from None
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            if node.level and not package:
                continue  # Python refuses it: a plugin is not part of a package
            module = importlib.util.resolve_name(relative, package) if node.level else relative
            names = [module, *(f"{module}.{name}" for name in names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _local_file(directory: Path, name: str) -> Path | None:
    """Return the file of a module next to a plugin; None if there is none, or Python would import another one."""
    top, *_ = name.split(".")
    if top in sys.stdlib_module_names:
        return None
    path = directory.joinpath(*name.split("."))
    file = next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)
    if file is None:
        return None
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != directory.resolve()]
    return None if PathFinder.find_spec(top, others) else file
