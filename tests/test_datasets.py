"""Data sets by name: found without internet, and checked to be what they say."""

import gzip
import io
import shutil
import socket
import tarfile
from pathlib import Path

import numpy as np
import pooch
import pytest
import scanpy
from scipy.sparse import csr_matrix

from scarce.data import DATASETS, load, simulate
from scarce.data.datasets import _counts_behind
from scarce.errors import InputError
from shared import PBMC3K, SHARED, needs_pbmc3k

URL = (
    "https://cf.10xgenomics.com/samples/cell-exp/1.1.0/pbmc3k/"
    "pbmc3k_filtered_gene_bc_matrices.tar.gz"
)


def test_pbmc68k_reduced_holds_counts_that_give_the_values_scanpy_ships() -> None:
    adata = load("pbmc68k_reduced")
    shipped = scanpy.datasets.pbmc68k_reduced()
    assert adata.shape == (700, 765)
    assert np.all(adata.X.data == np.rint(adata.X.data))
    # Log-normalised again, with the one free factor per cell, they agree to the stored decimals.
    logs = shipped.raw.X.toarray().astype(np.float64)
    counts = adata.X.toarray().astype(np.float64)
    factor = (np.expm1(logs) * counts).sum(axis=1) / (counts**2).sum(axis=1)
    np.testing.assert_allclose(np.log1p(counts * factor[:, None]), logs, atol=1e-3)
    assert list(adata.obs["bulk_labels"]) == list(shipped.obs["bulk_labels"])
    assert adata.obs["bulk_labels"].dtype == "category"
    source = adata.uns["scarce"]["source"]
    assert source["filtered"]
    assert source["name"] == "pbmc68k_reduced"
    assert len(source["sha256"]) == 64


def test_values_that_are_no_scaled_counts_are_refused() -> None:
    logs = csr_matrix(np.log1p([[1.0, 2.5], [1.0, 3.0]]))
    with pytest.raises(InputError) as error:
        _counts_behind(logs)
    assert str(error.value).startswith(
        "pbmc68k_reduced must hold logarithms of scaled counts; found a value 0."
    )


def test_simulated_is_the_default_simulation() -> None:
    assert (load("simulated").X != simulate().X).nnz == 0


@needs_pbmc3k
@pytest.mark.parametrize("folder", [SHARED, PBMC3K])
def test_pbmc3k_is_found_in_a_folder(folder: Path) -> None:
    adata = load("pbmc3k", data_dir=folder)
    assert adata.uns["scarce"]["source"]["name"] == "pbmc3k"
    assert not adata.uns["scarce"]["source"]["filtered"]


def archive_of(content: dict[str, bytes], path: Path) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@needs_pbmc3k
def test_pbmc3k_is_found_through_the_environment_as_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        "matrix.mtx": "matrix.mtx",
        "features.tsv": "genes.tsv",
        "barcodes.tsv": "barcodes.tsv",
    }
    content = {
        f"filtered_gene_bc_matrices/hg19/{new}": gzip.decompress(
            (PBMC3K / f"{old}.gz").read_bytes()
        )
        for old, new in names.items()
    }
    content["../../escaped.tsv"] = b"never written"
    archive_of(content, tmp_path / "pbmc3k_filtered_gene_bc_matrices.tar.gz")
    monkeypatch.setenv("SCARCE_DATA_DIR", str(tmp_path))
    adata = load("pbmc3k")
    assert (adata.X != load("pbmc3k", data_dir=SHARED).X).nnz == 0
    assert not list(tmp_path.parent.rglob("escaped.tsv"))


def test_another_10x_folder_is_not_taken_for_pbmc3k(tmp_path: Path) -> None:
    folder = tmp_path / "pbmc3k"
    folder.mkdir()
    (folder / "matrix.mtx").write_text(
        "%%MatrixMarket matrix coordinate integer general\n1 2 1\n1 2 3\n"
    )
    (folder / "genes.tsv").write_text("ENSG1\tCD3E\n")
    (folder / "barcodes.tsv").write_text("a\nb\n")
    with pytest.raises(InputError) as error:
        load("pbmc3k", data_dir=tmp_path)
    assert str(error.value) == (
        "pbmc3k must hold 2,700 cells, 32,738 genes, 2,286,884 nonzeros, 6,390,631 UMIs; found "
        f"2 cells, 1 genes, 1 nonzeros, 3 UMIs in {folder}. Get it from {URL}."
    )


@pytest.mark.parametrize("folder", ["", "missing"])
def test_folder_without_pbmc3k_says_what_it_must_hold(folder: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load("pbmc3k", data_dir=tmp_path / folder)
    assert str(error.value) == (
        "the data folder must hold a 10x folder pbmc3k or pbmc3k_filtered_gene_bc_matrices.tar.gz; "
        f"found neither in {tmp_path / folder}. Get it from {URL}."
    )


def test_broken_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pbmc3k_filtered_gene_bc_matrices.tar.gz"
    path.write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"must be the archive that 10x distributes; found: "):
        load("pbmc3k", data_dir=tmp_path)


def test_without_internet_pbmc3k_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.delenv("SCARCE_DATA_DIR", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(InputError) as error:
        load("pbmc3k")
    assert str(error.value) == (
        "pbmc3k must be downloaded once, which failed (ConnectionError). Get "
        f"{URL} by other means, and pass --data-dir or set SCARCE_DATA_DIR to the folder that "
        "holds it. Data sets without a download: pbmc68k_reduced, simulated."
    )


@needs_pbmc3k
def test_a_download_is_read_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCARCE_DATA_DIR", raising=False)
    monkeypatch.setattr(pooch, "retrieve", lambda *arguments: str(PBMC3K))
    assert load("pbmc3k").shape == (2700, 32738)


def test_name_of_a_data_set_means_the_data_set_and_a_path_means_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "simulated").mkdir()
    assert load("simulated").shape == (2000, 1000)
    with pytest.raises(InputError, match="a 10x folder must hold"):
        load("./simulated")
    shutil.copytree("simulated", "mine")
    with pytest.raises(InputError, match="a 10x folder must hold"):
        load("mine")


def test_unknown_name_lists_the_data_sets() -> None:
    with pytest.raises(InputError) as error:
        load("pbmc3")
    assert str(error.value) == (
        "data must be one of 'pbmc68k_reduced', 'pbmc3k', 'simulated'; found 'pbmc3'. Did you "
        "mean 'pbmc3k'? Or give an existing file or folder."
    )
    assert list(DATASETS) == ["pbmc68k_reduced", "pbmc3k", "simulated"]


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing at"):
        load(tmp_path / "cells.h5ad")


def test_data_sets_have_no_layers() -> None:
    with pytest.raises(InputError) as error:
        load("simulated", layer="counts")
    assert str(error.value) == ("layer must be left out for data set 'simulated'; found 'counts'.")
