"""On a GPU: losses and gradients are those of the processor. Skipped where there is none."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scarce.likelihoods import LIKELIHOODS
from scarce.models.autoencoder import AutoencoderNet
from scarce.models.parts import Body, Network
from scarce.sparse.batches import Arithmetic, Batches

DEVICE = "cuda"

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def loss_and_gradients(likelihood: str, path: Arithmetic, device: str) -> list[torch.Tensor]:
    torch.manual_seed(0)
    counts = np.random.default_rng(0).poisson(0.4, (64, 90))
    x = sp.csr_matrix(np.log1p(counts).astype(np.float32))
    net = AutoencoderNet(Body(90, 3, Network((16, 8), likelihood=likelihood)), 3).to(device).eval()
    (batch,) = Batches(x, batch_size=64, path=path, device=device).ordered()
    total = net.loss(batch, progress=1.0, generator=torch.Generator(device)).total
    total.backward()  # type: ignore[no-untyped-call]
    return [total.detach().cpu(), *(p.grad.cpu() for p in net.parameters() if p.grad is not None)]


@pytest.mark.parametrize("path", ["sparse", "dense"])
@pytest.mark.parametrize("likelihood", [n for n, kind in LIKELIHOODS.items() if not kind.counts])
def test_one_step_is_that_of_the_processor(likelihood: str, path: Arithmetic) -> None:
    ours, reference = (loss_and_gradients(likelihood, path, where) for where in (DEVICE, "cpu"))
    assert len(ours) == len(reference) > 1
    for found, expected in zip(ours, reference, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
