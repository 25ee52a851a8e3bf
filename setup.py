"""The folders models, transforms and pipelines are installed as mien.models, mien.transforms and mien.pipelines."""

from setuptools import find_packages, setup

FOLDERS = ["pipelines", "transforms", "models"]
found = find_packages(include=[pattern for folder in FOLDERS for pattern in (folder, f"{folder}.*")])
setup(
    packages=[f"mien.{name}" for name in found],
    package_dir={f"mien.{folder}": folder for folder in FOLDERS},
    package_data={
        "": ["py.typed", "*.pyi"],
        "mien.models": ["weights/**"],
        "mien.pipelines": ["*.yaml"],
        "mien.pipelines.reports": ["*.html"],
        "mien.transforms": ["*.html"],
    },
)
