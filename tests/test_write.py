"""Writing: a file or folder is complete or absent, and what was there survives a failure."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from scarce.data import write
from scarce.errors import InputError


def interrupted(path: Path) -> None:
    path.write_text("half")
    raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with write.atomic_path(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert names(tmp_path) == ["a.txt"]


def test_failure_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), write.atomic_path(path) as temporary:
        interrupted(temporary)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_content_is_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, events = tmp_path / "a.txt", []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        flushed = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append((flushed == tmp_path, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    write.text(path, "x")
    assert events == [(False, False), (True, True)]  # the file, then its folder


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write.text(tmp_path / "a.txt", "β-VAE\r\nx\n")
    assert (tmp_path / "a.txt").read_bytes() == "β-VAE\r\nx\n".encode()


@dataclass
class Point:
    x: float
    name: str


def test_json_knows_the_data_of_a_run(tmp_path: Path) -> None:
    content = {
        "point": Point(float("nan"), "β"),
        1: (np.float32(0.5), np.int64(2), True, None),
        "array": np.array([[1.0, np.inf]]),
    }
    write.json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "point": {"x": None, "name": "β"},
        "1": [0.5, 2, True, None],
        "array": [[1.0, None]],
    }
    assert "β" in text
    assert text.endswith("\n")


def test_table_comes_back_as_it_was(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model": ["dae", "pca"], "nmi": [0.1 + 0.2, -1e-17], "n": [1, -2]})
    write.table(tmp_path / "a.csv", frame)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "a.csv", float_precision="round_trip"), frame
    )
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()


def test_table_keeps_an_index_of_names(tmp_path: Path) -> None:
    write.table(
        tmp_path / "a.csv", pd.DataFrame({"n": [1]}, index=pd.Index(["AAAC-1"], name="cell"))
    )
    assert (tmp_path / "a.csv").read_text() == "cell,n\nAAAC-1,1\n"


def test_table_holds_no_formula_a_spreadsheet_would_run(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "=A1": ["=1+1", "+x", "-y", "@z", "ok"],
            "kind": pd.Categorical(["=c", "a", "a", "b", "b"]),
        },
        index=pd.Index(["=cmd", "b", "c", "d", "e"]),
    )
    write.table(tmp_path / "a.csv", frame)
    cells = (tmp_path / "a.csv").read_text().replace("\n", ",").split(",")
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert "'=1+1" in cells


def test_h5ad_comes_back_and_is_the_same_twice(tmp_path: Path) -> None:
    x = csr_matrix(np.eye(3, 2, dtype=np.float32))
    for name in ("a.h5ad", "b.h5ad"):
        write.h5ad(tmp_path / name, AnnData(X=x.copy(), uns={"scarce": {"seed": 1}}))
    found = anndata.read_h5ad(tmp_path / "a.h5ad")
    np.testing.assert_array_equal(found.X.toarray(), x.toarray())
    assert (tmp_path / "a.h5ad").read_bytes() == (tmp_path / "b.h5ad").read_bytes()
    assert names(tmp_path) == ["a.h5ad", "b.h5ad"]


# --- folders --------------------------------------------------------------------------------


def finished_run(path: Path, content: str = "old") -> Path:
    path.mkdir()
    (path / "summary.json").write_text(content)
    return path


def test_folder_appears_only_when_complete(tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    with write.new_directory(out) as temporary:
        (temporary / "models").mkdir()
        (temporary / "models" / "a").write_text("x")
        assert not out.exists()
    assert (out / "models" / "a").read_text() == "x"
    assert names(out.parent) == ["run"]


def test_failure_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), write.new_directory(tmp_path / "run") as temporary:
        interrupted(temporary / "a")
    assert names(tmp_path) == []


def test_existing_folder_is_not_touched_without_force(tmp_path: Path) -> None:
    out = finished_run(tmp_path / "run")
    with pytest.raises(InputError) as error, write.new_directory(out):
        pytest.fail("the body must not run")
    assert str(error.value) == (
        f"--out must not exist yet; found {out}. Choose another directory or pass --force to "
        "replace it."
    )
    assert names(tmp_path) == ["run"]


def test_force_replaces_an_earlier_run_as_a_whole(tmp_path: Path) -> None:
    out = finished_run(tmp_path / "run")
    for name in ("stale.csv", ".DS_Store"):
        (out / name).write_text("x")
    with write.new_directory(out, force=True, replaced=["stale.csv"]) as temporary:
        (temporary / "summary.json").write_text("new")
        assert (out / "summary.json").read_text() == "old"
    assert names(out) == ["summary.json"]
    assert (out / "summary.json").read_text() == "new"
    assert names(tmp_path) == ["run"]


def test_force_keeps_what_no_run_wrote(tmp_path: Path) -> None:
    out = finished_run(tmp_path / "run")
    (out / "reads.fastq").write_text("x")
    new = write.new_directory(out, force=True, replaced=["models"])
    with pytest.raises(InputError, match=r"found reads\.fastq in"), new:
        pytest.fail("the body must not run")
    assert names(out) == ["reads.fastq", "summary.json"]


def test_a_folder_that_another_run_made_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "run"

    def overtaken() -> None:
        with write.new_directory(out) as temporary:
            (temporary / "summary.json").write_text("second")
            finished_run(out, "first")

    with pytest.raises(InputError, match="another run made") as error:
        overtaken()
    assert (out / "summary.json").read_text() == "first"
    kept = Path(str(error.value).split(" are in ")[1].rstrip("."))
    assert (kept / "summary.json").read_text() == "second"
    assert len(names(tmp_path)) == 2


def test_force_keeps_the_earlier_run_after_a_failure(tmp_path: Path) -> None:
    out = finished_run(tmp_path / "run")
    with pytest.raises(KeyError), write.new_directory(out, force=True):
        raise KeyError
    assert (out / "summary.json").read_text() == "old"
    assert names(tmp_path) == ["run"]


def test_earlier_run_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rename = finished_run(tmp_path / "run"), Path.rename

    def fail_for_the_new(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError("busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="busy"), write.new_directory(out, force=True):
        pass
    assert (out / "summary.json").read_text() == "old"
    assert names(tmp_path) == ["run"]


def test_force_fills_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with write.new_directory(tmp_path / "run", force=True) as temporary:
        (temporary / "a").write_text("x")
    assert names(tmp_path / "run") == ["a"]


def test_force_never_replaces_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError) as error, write.new_directory(tmp_path, force=True):
        pytest.fail("the body must not run")
    assert str(error.value) == (
        "--force must only replace the directory of an earlier run and what that wrote; found no "
        f"summary.json in {tmp_path}. Choose another directory, or empty this one yourself."
    )


def test_out_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(InputError) as error, write.new_directory(tmp_path / "a", force=True):
        pytest.fail("the body must not run")
    assert str(error.value) == f"--out must be a directory; found a file, {tmp_path / 'a'}."


def test_parent_that_cannot_be_written_to_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(InputError) as error, write.new_directory(tmp_path / "a" / "run"):
        pytest.fail("the body must not run")
    assert str(error.value) == (
        f"{tmp_path}/a/run must be in a directory that may be written to; found: Not a directory. "
        "Choose another place."
    )

    def forbid(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbid)
    with pytest.raises(InputError, match="found: Permission denied"):  # noqa: SIM117
        with write.new_directory(tmp_path / "run"):
            pytest.fail("the body must not run")


def test_file_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found: No such file or directory"):
        write.text(tmp_path / "missing" / "a.txt", "x")


def test_full_disk_is_one_sentence_and_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error, write.new_directory(tmp_path / "run"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(error.value) == (
        f"there must be space to write {tmp_path / 'run'}; found none left. Free some, or choose "
        "another place."
    )
    with pytest.raises(FileNotFoundError), write.new_directory(tmp_path / "run"):
        raise FileNotFoundError
    assert names(tmp_path) == []


WRITER = """
import sys
from scarce.data import write
print("ready", flush=True)
while True:
    write.text(sys.argv[1], sys.argv[2] * 100_000)
"""


def test_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for letter, seconds in zip("abc", (0.0, 0.007, 0.017), strict=True):
        command = [sys.executable, "-c", WRITER, str(path), letter]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            while not path.exists():
                time.sleep(0.001)
            time.sleep(seconds)
            writer.send_signal(signal.SIGKILL)
        assert path.read_text() in [earlier * 100_000 for earlier in "abc"]
