"""What a run found, written and read back: nothing is lost, and nothing else is needed."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from scarce import record
from scarce.errors import InputError
from scarce.report import render
from scarce.summary import RunSummary
from summaries import make_summary


@pytest.fixture(scope="module")
def summary() -> RunSummary:
    return make_summary(n_cells=60, types=("one", "two"), titles={"bvsc": "β-VSC"})


@pytest.fixture(scope="module")
def folder(summary: RunSummary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(tmp_path_factory.mktemp("run"))
    record.save(summary, folder)
    return folder


def test_every_array_comes_back_bit_for_bit(summary: RunSummary, folder: Path) -> None:
    found = record.load(folder).cells
    for item in dataclasses.fields(found):
        old, new = getattr(summary.cells, item.name), getattr(found, item.name)
        if isinstance(old, dict):
            assert list(old) == list(new)
            for key in old:
                np.testing.assert_array_equal(old[key], new[key])
        elif isinstance(old, np.ndarray):
            np.testing.assert_array_equal(old, new)
    assert summary.cells.expression is not None
    assert found.expression is not None
    assert (found.expression.counts != summary.cells.expression.counts).nnz == 0
    assert found.expression.genes.tolist() == summary.cells.expression.genes.tolist()


def test_the_page_of_a_summary_read_back_is_the_same_byte_for_byte(
    summary: RunSummary, folder: Path
) -> None:
    assert render(record.load(folder)) == render(summary)


def test_a_number_that_does_not_exist_comes_back_as_such(tmp_path: Path) -> None:
    summary = make_summary(n_cells=20, types=("one", "two"), titles={"pca": "PCA"})
    scores = (dataclasses.replace(summary.scores[0], silhouette=np.nan),)
    labels = dataclasses.replace(summary.labels, recommended=None)
    record.save(dataclasses.replace(summary, scores=scores, labels=labels), tmp_path)
    found = record.load(tmp_path)
    assert np.isnan(found.scores[0].silhouette)
    assert found.labels.recommended is None


def test_equal_summaries_are_written_as_equal_bytes(summary: RunSummary, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        record.save(summary, tmp_path / name)
    for name in ("summary.json", "cells.npz"):
        first, second = (tmp_path / run / name for run in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("missing", ["summary.json", "cells.npz"])
def test_a_folder_of_no_run_is_named(missing: str, summary: RunSummary, tmp_path: Path) -> None:
    record.save(summary, tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(InputError, match=f"folder of a finished run; found no {missing} in"):
        record.load(tmp_path)


@pytest.mark.parametrize("fault", ["no json", "no npz", "no fields"])
def test_a_spoiled_file_is_refused(fault: str, summary: RunSummary, tmp_path: Path) -> None:
    record.save(summary, tmp_path)
    if fault == "no json":
        (tmp_path / "summary.json").write_text("{")
    if fault == "no npz":
        (tmp_path / "cells.npz").write_bytes(b"PK")
    if fault == "no fields":
        (tmp_path / "summary.json").write_text(json.dumps({"config": {}}))
    with pytest.raises(InputError, match="must be as scarce run wrote them"):
        record.load(tmp_path)
