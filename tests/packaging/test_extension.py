"""The extension in C: it is built where it can be, without a warning, and farshore works where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from farshore.streams.scoring.native_reader import is_built

from ..compiler import COMPILER, INCLUDE, can_build
from .test_wheel import ROOT, build_wheel, copy_source

needs_compiler = pytest.mark.skipif(not can_build(), reason="no compiler, or no headers of Python")
SOURCE = ROOT / "streams" / "scoring" / "_rows.c"
SCORES = """
from farshore.streams.scoring import decoding, native_reader
from farshore.schemas.manifest import parse_manifest
manifest = parse_manifest({
    "format": 1, "name": "pump", "version": "1", "model_sha256": "0" * 64, "features": ["a", "b"],
    "input": {"name": "x", "dtype": "float32", "shape": ["batch", 2]},
    "score": {"output": "y", "rule": "column"}, "threshold": 1.0,
})
decoder = decoding.EventDecoder(manifest, event_bytes_max=1000)
decoded = decoder.decode([b'{"device":"d","time":1,"readings":{"a":1.5,"b":2}}', b"{"], [None, None])
print(decoding.__file__, native_reader.is_built(), decoded.matrix.tolist(), len(decoded.rejections))
"""


@needs_compiler
def test_it_is_built_here() -> None:
    """So that no run of the tests on a machine that could have built it speaks of the fallback alone."""
    assert is_built()


@needs_compiler
def test_it_compiles_without_a_warning() -> None:
    strict = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-fsyntax-only")
    subprocess.run([str(COMPILER), *strict, f"-isystem{INCLUDE}", SOURCE], check=True)


def test_without_a_compiler_the_install_succeeds_and_events_are_read(tmp_path: Path) -> None:
    source = copy_source(tmp_path / "source")
    wheel = build_wheel(source, tmp_path / "wheel", CC="/nowhere/cc")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith((".so", ".c", ".h"))]
    installed = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", installed, wheel]
    subprocess.run(pip, check=True)
    done = subprocess.run(
        [sys.executable, "-c", SCORES],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(installed))
    assert done.stdout.split(maxsplit=1)[1] == "False [[1.5, 2.0]] 1\n"
