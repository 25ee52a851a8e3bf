"""The folders models, transforms and pipelines are installed as mien.models, mien.transforms and mien.pipelines.

pipelines/mien holds what the package mien itself has: its version, and `python -m mien`.
"""

from setuptools import find_packages, setup

FOLDERS = ["pipelines", "transforms", "models"]
ROOT = "pipelines.mien"
found = find_packages(include=[pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")], exclude=[ROOT])
setup(
    packages=["mien", *(f"mien.{name}" for name in found)],
    package_dir={"mien": ROOT.replace(".", "/")} | {f"mien.{folder}": folder for folder in FOLDERS},
    package_data={
        "": ["py.typed", "*.pyi"],
        "mien.models": ["weights/**"],
        "mien.pipelines": ["*.yaml"],
        "mien.pipelines.reports": ["*.html", "*.js"],
        "mien.transforms": ["*.html"],
    },
)
