"""The package itself: light to import, lazy names, one version."""

import importlib
import subprocess
import sys
from importlib.metadata import version

import pytest

import scarce


def test_importing_the_package_loads_no_heavy_library() -> None:
    heavy = "{'anndata', 'matplotlib', 'pandas', 'scanpy', 'sklearn', 'torch'}"
    script = f"import sys, scarce; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["VASC", "BetaVAE", "BetaVSC", "DeepAutoencoder", "LinearVSC"])
def test_estimators_are_found_by_name(name: str) -> None:
    assert getattr(scarce, name).__module__.startswith("scarce.estimators")


@pytest.mark.parametrize("name", ["BenchmarkConfig", "TuneConfig", "benchmark", "tune"])
def test_studies_are_found_by_name(name: str) -> None:
    assert getattr(scarce, name).__module__.startswith("scarce.study.")


@pytest.mark.parametrize("name", ["programmes", "stability"])
def test_what_latents_mean_is_found_by_name(name: str) -> None:
    importlib.import_module("scarce.meaning.programme")
    assert getattr(scarce, name).__module__.startswith("scarce.meaning.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'scarce' has no attribute 'BetaGAN'"):
        _ = scarce.BetaGAN  # type: ignore[attr-defined]


def test_dir_lists_the_public_names() -> None:
    assert set(dir(scarce)) == set(scarce.__all__)


def test_the_installed_version_is_the_one_in_the_source() -> None:
    assert version("scarce") == scarce.__version__
