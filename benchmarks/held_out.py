"""Held-out loss of candidate settings: how the default preset was chosen, without labels.

    python -m benchmarks.held_out pbmc68k_reduced path/to/10x_folder --seeds 2

Prints the best held-out loss per cell (in nats; lower is better) for each model, data set and
candidate. What is to be the preset must win here, or by the likelihood of unseen cells.
"""

import argparse
from dataclasses import replace

from scarce.data import load
from scarce.models.parts import Network
from scarce.preprocess import Thresholds, normalise, quality_control, variable_genes
from scarce.presets import MODELS, PRESETS, Settings, build
from scarce.train import TrainConfig

DEFAULT = PRESETS["default"]


def varied(**changes: object) -> Settings:
    """The default settings with fields of the network or of the training replaced."""
    network = {k: v for k, v in changes.items() if k in Network.__dataclass_fields__}
    training = {k: v for k, v in changes.items() if k in TrainConfig.__dataclass_fields__}
    return replace(
        DEFAULT,
        network=replace(DEFAULT.network, **network),
        training=replace(DEFAULT.training, **training),
        **{k: v for k, v in changes.items() if k not in network and k not in training},
    )


CANDIDATES = {
    "default": DEFAULT,
    "Gaussian": varied(likelihood="gaussian"),
    "deep decoder": varied(decoder="deep"),
    "linear decoder": varied(decoder="linear"),
    "input dropout 0.1": varied(input_dropout=0.1),
    "input dropout 0.5": varied(input_dropout=0.5),
    "rate 1e-3": varied(lr=1e-3),
    "rate 1e-3, 400 epochs": varied(lr=1e-3, epochs=400),
    "batch 256": varied(batch_size=256),
    "weight decay 1e-2": varied(weight_decay=1e-2),
    "hidden 64, 64": varied(n_hidden=(64, 64)),
    "hidden 128": varied(n_hidden=(128,)),
    "alpha 0.2": varied(alpha=0.2),
}


def main() -> None:
    """Fit every candidate and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="data set names or paths")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    print(f"{'data':20} {'model':5} {'candidate':24} {'held-out loss by seed':30} seconds")
    for name in options.data:
        adata = load(name)
        if not adata.uns["scarce"]["source"]["filtered"]:
            adata, _ = quality_control(adata, Thresholds())
        normalise(adata)
        variable_genes(adata, DEFAULT.genes)
        genes = adata[:, adata.var["highly_variable"].to_numpy()]
        for model in options.models.split(","):
            for candidate, settings in CANDIDATES.items():
                if candidate.startswith("alpha") and model != "bvsc":
                    continue
                fits = [
                    build(model, settings, seed=seed).fit(genes).history_
                    for seed in range(options.seeds)
                ]
                losses = " ".join(f"{min(fit.losses['held_out']):9.2f}" for fit in fits)
                seconds = sum(fit.seconds for fit in fits)
                source = adata.uns["scarce"]["source"]["name"]
                print(f"{source:20} {model:5} {candidate:24} {losses:30} {seconds:.0f}", flush=True)


if __name__ == "__main__":
    main()
