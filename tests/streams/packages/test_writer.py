"""A package folder is written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from farshore.streams.packages.loader import PackageError, load_package
from farshore.streams.packages.writer import write_package

MANIFEST: dict[str, object] = {
    "name": "sum",
    "version": "1",
    "features": ["a", "b", "c"],
    "input": {"name": "x", "dtype": "float32", "shape": ["batch", 3]},
    "score": {"output": "y", "rule": "column"},
    "threshold": 1.0,
}


def test_what_is_written_loads_and_carries_the_digest(tmp_path: Path, summing_model: bytes) -> None:
    folder = write_package(tmp_path / "deep" / "package", summing_model, MANIFEST)
    assert folder == tmp_path / "deep" / "package"
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.onnx"]
    package = load_package(folder)
    assert package.digest == "sha256:" + hashlib.sha256(summing_model).hexdigest()
    assert package.manifest.features == ("a", "b", "c")


def test_a_stale_digest_and_format_in_the_manifest_are_replaced(tmp_path: Path, summing_model: bytes) -> None:
    stale = MANIFEST | {"model_sha256": "0" * 64, "format": 7}
    assert load_package(write_package(tmp_path / "package", summing_model, stale)).manifest.name == "sum"


def test_names_that_are_not_ascii_survive(tmp_path: Path, summing_model: bytes) -> None:
    names = ["Druck °C", "流量", "a/b~c"]
    folder = write_package(tmp_path / "package", summing_model, MANIFEST | {"features": names})
    assert load_package(folder).manifest.features == tuple(names)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"threshold": "high"}, r"\$\.threshold"),
        ({"threshold": float("nan")}, "not a finite number"),
        ({"provenance": {"made": object()}}, "cannot be written as JSON"),
        ({"provenance": {"loss": float("inf")}}, "cannot be written as JSON"),
        ({"features": ["a", "b"]}, "holds 3 values a row"),
    ],
)
def test_a_refused_manifest_leaves_nothing_behind(
    tmp_path: Path, summing_model: bytes, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(PackageError, match=says):
        write_package(tmp_path / "package", summing_model, MANIFEST | changes)
    assert list(tmp_path.iterdir()) == []


def test_a_package_is_replaced_by_the_next_one_and_no_scratch_remains(
    tmp_path: Path, summing_model: bytes
) -> None:
    write_package(tmp_path / "package", summing_model, MANIFEST)
    write_package(tmp_path / "package", summing_model, MANIFEST | {"version": "2"})
    assert load_package(tmp_path / "package").manifest.version == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_a_folder_that_is_no_package_is_never_replaced(tmp_path: Path, summing_model: bytes) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(PackageError, match=r"'thesis\.txt', which belongs to no model package"):
        write_package(tmp_path / "home", summing_model, MANIFEST)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path, summing_model: bytes) -> None:
    (tmp_path / "package").write_text("")
    with pytest.raises(PackageError, match="is a file"):
        write_package(tmp_path / "package", summing_model, MANIFEST)


def test_a_write_that_breaks_off_leaves_the_package_before_it(
    tmp_path: Path, summing_model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_package(tmp_path / "package", summing_model, MANIFEST)
    rename: Callable[[Path, Path], Path] = Path.rename

    def fail_for_the_fresh_one(path: Path, target: Path) -> Path:
        if path.name == "fresh":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_fresh_one)
    with pytest.raises(PackageError, match="cannot be written: No space left on device"):
        write_package(folder, summing_model, MANIFEST | {"version": "2"})
    assert json.loads((folder / "manifest.json").read_bytes())["version"] == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
