"""The order of the layers: what is imported lies below, and rooms are entered by their door, the package's __init__."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# from the lowest to the highest; a room imports itself and what stands above it in this list
LAYERS = [
    "models.errors",
    "models.runtime",
    "models.weights",
    "models.faces",
    "models.images",
    "models.painting",
    "models.codec",
    "models.privacy",
    "models.magnify",
    "models.evaluation",
    "models.audit",
    "models.training",
    "models.face_codec",
    "models.benchmark_detection",
    "models",
    "transforms.page",
    "transforms.stores",
    "transforms.elements",
    "transforms.workers",
    "transforms.boxes",
    "transforms.policy",
    "transforms.setting_kinds",
    "transforms.settings",
    "transforms.formats",
    "transforms.sources",
    "transforms.sinks",
    "transforms.steps",
    "transforms.restore",
    "transforms.compress",
    "transforms.preview",
    "transforms.redact",
    "transforms.magnify",
    "transforms.one_call",
    "transforms.preload",
    "transforms",
    "pipelines",
    "pipelines.beam_options",
    "pipelines.settings",
    "pipelines.parser",
    "pipelines.cli",
    "pipelines.template",
    "pipelines.__main__",
    "pipelines.mien",
    "pipelines.measured_process",
    "pipelines.failures",
    "pipelines.runs",
    "pipelines.jobs",
    "pipelines.reports",
    "pipelines.benchmark",
]
FILES = sorted(path for folder in ("models", "transforms", "pipelines") for path in (ROOT / folder).rglob("*.py"))


def room(module: str) -> str:
    """The layer of a module, mien.transforms.steps.decode or transforms.steps: the longest that it lies in."""
    name = module.removeprefix("mien.")
    return max((layer for layer in LAYERS if f"{name}.".startswith(f"{layer}.")), key=len)


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of all that a file imports of mien."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mien":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "mien")


def faults(path: Path) -> Iterator[str]:
    """What a file imports that it should not."""
    own = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    here = room(own)
    for module, name in imports(path):
        whole = f"{module}.{name}".removeprefix("mien.")
        there = room(whole if whole in LAYERS else module)
        if there == here:
            continue
        if LAYERS.index(there) > LAYERS.index(here):
            yield f"{own} imports {module}, which lies above it"
        door = there if (ROOT / there.replace(".", "/")).is_dir() else module.removeprefix("mien.")
        if whole != door and module.removeprefix("mien.") not in (door, door.partition(".")[0]):
            yield f"{own} reaches into {there}"
        if name.startswith("_"):
            yield f"{own} imports {name}, which is private to {module}"


def test_every_file_is_in_a_layer() -> None:
    for path in FILES:
        own = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        assert room(own) not in ("models", "transforms") or own == room(own), f"{own} is in no layer"


def test_imports_go_down_and_through_the_door() -> None:
    assert [fault for path in FILES for fault in faults(path)] == []
