"""Broken and hostile files: an input error that says why, never a crash or foreign bytes."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from files import CELLS, COUNTS, WRITERS, h5ad, tenx_h5, zarr
from scarce.data import read
from scarce.errors import InputError


@pytest.mark.parametrize("form", [form for form in WRITERS if form[:3] not in ("csv", "txt")])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.9])
def test_truncated_files_are_an_input_error(form: str, keep: float, tmp_path: Path) -> None:
    path = WRITERS[form](tmp_path)
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    largest = max(files, key=lambda file: ("matrix" in file.name, file.stat().st_size))
    content = largest.read_bytes()
    largest.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError):
        read(path)


@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html><html>", bytes(range(256)) * 8])
@pytest.mark.parametrize("ending", [".h5ad", ".h5", ".loom", ".tsv.gz"])
def test_files_of_another_kind_are_an_input_error(
    content: bytes, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read(path)


def test_broken_file_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(b"barcode\tgene\n")[:-4])
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        "a.tsv.gz must be readable as table; found: Compressed file ended before the end-of-stream "
        "marker was reached. The file is broken or incomplete: copy or make it again."
    )


def replace(name: str, values: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = values

    return change


def external_link(file: h5py.File) -> None:
    del file["X"]
    file["X"] = h5py.ExternalLink("/etc/passwd", "/X")


def soft_link(file: h5py.File) -> None:
    file["layers/again"] = h5py.SoftLink("/X")


def external_storage(file: h5py.File) -> None:
    del file["X/data"]
    file.create_dataset("X/data", (6,), "f4", external=[("/etc/passwd", 0, 24)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(6,), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(6,))
    del file["X/data"]
    file.create_virtual_dataset("X/data", layout)


def bomb(file: h5py.File) -> None:
    del file["X/data"]
    file.create_dataset("X/data", (2**36,), "f4", chunks=(2**20,))


def cycle(file: h5py.File) -> None:
    file["obs/self"] = file["obs"]
    file["uns/root"] = file["/"]
    file["obs"].attrs["column-order"] = ["self"]


MUTANTS: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "index 10^6": (replace("X/indices", [0, 1, 0, 2, 10**6, 1]), "between 0 and 2; found 1000000"),
    "index = columns": (replace("X/indices", [0, 1, 0, 2, 3, 1]), "between 0 and 2; found 3"),
    "index negative": (replace("X/indices", [0, 1, 0, 2, -7, 1]), "between 0 and 2; found -7"),
    "indptr jump": (replace("X/indptr", [0, 1, 10**9, 4, 5, 6]), "falling 1 times in 5 steps"),
    "indptr negative": (replace("X/indptr", [0, -1, 2, 4, 5, 6]), "falling 1 times in 5 steps"),
    "indptr short": (replace("X/indptr", [0, 1, 2, 6]), r"found \(4,\) row starts"),
    "indptr past end": (replace("X/indptr", [0, 1, 2, 4, 5, 9]), "from 0 to 9"),
    "data short": (replace("X/data", [1.0, 2.0]), r"\(6,\) indices and \(2,\) values"),
    "data 2-d": (replace("X/data", np.ones((6, 2))), "found 2 dimensions of float64"),
    "data text": (replace("X/data", ["a"] * 6), "found 1 dimensions of object"),
    "NaN": (replace("X/data", [1, 2, np.nan, 4, 5, 6]), "must be finite; found nan at cell"),
    "infinite": (replace("X/data", [1, 2, np.inf, 4, 5, 6]), "must be finite; found inf at cell"),
    "negative": (replace("X/data", [1, 2, -3, 4, 5, 6]), "must not be negative; found -3 at cell"),
    "fewer cells": (
        replace("obs/_index", CELLS[:4]),
        "The file is broken or incomplete: copy or make it again",
    ),
    "external link": (external_link, "must be inside the file; found a link at /X"),
    "soft link": (soft_link, "must be inside the file; found a link at /layers/again"),
    "external storage": (external_storage, "found an array in another file at /X/data"),
    "virtual data set": (virtual, "found an array in another file at /X/data"),
    "size bomb": (bomb, "found 274877906944 bytes claimed and 0 stored at /X/data"),
    "no obs": (lambda file: file.__delitem__("obs"), "found none at /obs"),
    "old obs": (replace("obs", np.zeros(5, "S3")), "found none at /obs"),
    "X of text": (replace("X", ["a"]), r"found shape \(1,\) at /X"),
    "cycle": (cycle, "The file is broken or incomplete"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutated_h5ad_is_an_input_error_that_says_why(mutant: str, tmp_path: Path) -> None:
    change, message = MUTANTS[mutant]
    path = h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InputError, match=message):
        read(path)


def test_column_beyond_the_last_is_refused_in_10x_h5(tmp_path: Path) -> None:
    path = tenx_h5(tmp_path / "a.h5", version=3)
    with h5py.File(path, "a") as file:
        file["matrix/indices"][0] = 10**6
    with pytest.raises(InputError, match="found 1000000"):
        read(path)


def test_missing_zarr_chunk_is_not_read_as_zeros(tmp_path: Path) -> None:
    path = zarr(tmp_path / "a.zarr", 3)
    shutil.rmtree(path / "X" / "data" / "c")
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        "a zarr array must have all its chunks; found 1 of 1 missing in /X/data. "
        "Copy the folder again."
    )


def test_wrong_shape_is_refused(tmp_path: Path) -> None:
    path = h5ad(tmp_path / "a.h5ad")
    with h5py.File(path, "a") as file:
        file["X"].attrs["shape"] = [5, 4]
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == (
        "counts must have a row per cell and a column per gene, 5 x 3; found shape (5, 4) at /X."
    )


@pytest.fixture(scope="module")
def whole_h5ad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return h5ad(tmp_path_factory.mktemp("whole") / "a.h5ad")


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["data", "indices", "indptr"]), st.integers(0, 23), st.integers(0, 255)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_changed_bytes_of_a_matrix_give_counts_or_an_input_error(
    whole_h5ad: Path, changes: list[tuple[str, int, int]]
) -> None:
    path = whole_h5ad.with_name("changed.h5ad")
    shutil.copy(whole_h5ad, path)
    with h5py.File(path, "a") as file:
        for name, position, value in changes:
            values = file["X"][name][...]
            values.view(np.uint8)[position] = value
            file["X"][name][...] = values
    try:
        found = read(path)
    except InputError:
        return
    assert found.shape == COUNTS.shape
    assert found.X.has_canonical_format
    assert np.all(found.X.data > 0)
    assert np.all(np.rint(found.X.data) == found.X.data)
