"""Builds the wheel and the sdist: hatchling calls the hooks below.

The wheel carries the library and, beside it, where the library looks for it, the ``podkeep`` program. Both are built with
cargo from the crate: the repository that this directory stands in, or the copy of its sources that the sdist brings along
in ``crate/``. ``PODKEEP_BUILD_LIBRARY`` and ``PODKEEP_BUILD_PROGRAM`` name what is built already, for whoever packs them
apart.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

LIBRARY = "libpodkeep.so.0"
PROGRAM = "podkeep"
# What cargo needs of the repository to build them, and its licences.
CRATE = ("Cargo.toml", "Cargo.lock", "build.rs", "src", "README.md", "LICENSE-MIT", "LICENSE-APACHE")


def crate_of(root: str) -> Path:
    """Where the crate is: in an sdist beside this file, else the repository's root."""
    for place in (Path(root, "crate"), Path(root).parents[1]):
        if (place / "Cargo.toml").is_file():
            return place
    raise RuntimeError(f"no Cargo.toml in crate/ nor two directories above {root}: build from the repository or an sdist")


def version_of(crate: Path) -> str:
    package = (crate / "Cargo.toml").read_text("utf-8").split("[package]", 1)[-1]
    found = re.search(r'^version\s*=\s*"([^"]+)"', package, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no version in {crate / 'Cargo.toml'}")
    # 0.1.0-rc.1 is 0.1.0rc1 in Python's spelling.
    return re.sub(r"-(alpha|beta|rc)\.?", lambda m: {"alpha": "a", "beta": "b", "rc": "rc"}[m[1]], found[1])


def build(crate: Path) -> "tuple[Path, Path]":
    """Runs cargo, and asks it where the library and the program are: the target directory may be anywhere."""
    command = ["cargo", "build", "--release", "--lib", "--bin", PROGRAM, "--message-format=json-render-diagnostics"]
    if (crate / "Cargo.lock").is_file():
        command.append("--locked")
    try:
        ran = subprocess.run(command, cwd=crate, stdout=subprocess.PIPE, check=True, text=True)
    except FileNotFoundError:
        raise RuntimeError("cargo was not found: podkeep's library is written in Rust; install Rust first") from None
    library = program = None
    for line in ran.stdout.splitlines():
        message: dict[str, Any] = json.loads(line)
        if message.get("reason") != "compiler-artifact":
            continue
        if "cdylib" in message["target"]["kind"]:
            library = next((name for name in message["filenames"] if name.endswith(".so")), library)
        if message["target"]["name"] == PROGRAM and message.get("executable"):
            program = message["executable"]
    if library is None or program is None:
        raise RuntimeError(f"cargo built no {'shared library' if library is None else 'program'}")
    return Path(library), Path(program)


def built(crate: Path) -> "tuple[Path, Path]":
    """The library and the program."""
    given = [os.environ.get(name) for name in ("PODKEEP_BUILD_LIBRARY", "PODKEEP_BUILD_PROGRAM")]
    if not any(given):
        return build(crate)
    if not all(given):
        raise RuntimeError("PODKEEP_BUILD_LIBRARY and PODKEEP_BUILD_PROGRAM go together: set both or neither")
    for path in given:
        if not Path(str(path)).is_file():
            raise RuntimeError(f"PODKEEP_BUILD_LIBRARY or PODKEEP_BUILD_PROGRAM names {path}, which is no file")
    return Path(str(given[0])), Path(str(given[1]))


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        metadata["version"] = version_of(crate_of(self.root))


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        crate = crate_of(self.root)
        if self.target_name == "sdist":
            for name in CRATE:
                if (crate / name).exists():
                    build_data["force_include"][str(crate / name)] = f"crate/{name}"
            return
        if version == "editable":
            # The package is used where its sources are: nothing can be carried, PODKEEP_LIBRARY names the library.
            return
        library, program = built(crate)
        # Pure Python, one library and one program: any Python 3, this platform.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(library)] = f"podkeep/{LIBRARY}"
        build_data["force_include"][str(program)] = f"podkeep/{PROGRAM}"
