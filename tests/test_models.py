"""Every model keeps the protocol; every closed form equals an independent computation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.integrate import quad
from scipy.stats import norm

from scarce.errors import InputError
from scarce.likelihoods import LIKELIHOODS, Likelihood
from scarce.models.autoencoder import AutoencoderNet
from scarce.models.beta_vae import BetaVAENet
from scarce.models.beta_vsc import BetaVSCNet, Units
from scarce.models.parts import Body, Network, ramp
from scarce.models.posteriors import (
    SpikeAndSlabPrior,
    freed,
    gaussian_kl,
    gaussian_sample,
    soft_gate,
    spike_and_slab_kl,
)
from scarce.models.vasc import DroppedOut, VASCNet
from scarce.sparse.batches import Batch, Batches

N_GENES, N_LATENT = 40, 3
SMALL = Network(n_hidden=(8, 6))
PLAIN = Network(
    (8, 6),
    normalise=False,
    first_linear=True,
    input_dropout=0.0,
    likelihood="squared_error",
    decoder="deep",
)


def body(network: Network, likelihood: type[Likelihood] | None = None) -> Body:
    return Body(N_GENES, N_LATENT, network, likelihood=likelihood)


def bvsc(
    network: Network,
    *,
    hard: bool = True,
    slab: tuple[float, float] = (0.0, 1.0),
    learned: bool = False,
) -> BetaVSCNet:
    return BetaVSCNet(
        body(network),
        SpikeAndSlabPrior(N_LATENT, 0.2, slab=slab, learned=learned),
        Units(slab=slab, opening=(0.05, 0.3)),
        beta=1.0,
        warm_up=0.3,
        hard=hard,
    )


NETS = {
    "dae": lambda net: AutoencoderNet(body(net), N_LATENT),
    "dae with relu code": lambda net: AutoencoderNet(body(net), N_LATENT, relu_code=True),
    "bvae": lambda net: BetaVAENet(body(net), N_LATENT, beta=1.0, warm_up=0.3),
    "vasc": lambda net: VASCNet(body(net, DroppedOut), N_LATENT, l1=0.01),
    "bvsc": lambda net: bvsc(net, hard=True),
    "bvsc with soft gates": lambda net: bvsc(net, hard=False),
    "bvsc with a slab away from zero": lambda net: bvsc(net, slab=(1.0, 0.5)),
    "bvsc with a learned prior": lambda net: bvsc(net, learned=True),
}

every_net = pytest.mark.parametrize("name", NETS)
NETWORKS = {
    "default": SMALL,
    "paper": PLAIN,
    **{name: replace(SMALL, likelihood=name) for name in LIKELIHOODS if name != SMALL.likelihood},
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def cells(n: int = 20, likelihood: str = "gaussian") -> sp.csr_matrix:
    counts = np.random.default_rng(0).poisson(0.4, (n, N_GENES)).astype(float)
    return sp.csr_matrix(counts if LIKELIHOODS[likelihood].counts else np.log1p(counts))


def both_paths(x: sp.csr_matrix) -> tuple[Batch, Batch]:
    """The same cells as a sparse and as a dense batch."""
    served = (Batches(x, batch_size=x.shape[0], path=path) for path in ("sparse", "dense"))
    sparse, dense = (next(batches.ordered()) for batches in served)
    return sparse, dense


def build(name: str, network: Network = SMALL) -> torch.nn.Module:
    torch.manual_seed(0)
    return NETS[name](network)


def decode(net: torch.nn.Module, batch: Batch) -> torch.Tensor:
    return net.body.decode(net.encode(batch), batch.covariates)


def loss(net: torch.nn.Module, batch: Batch, progress: float = 0.5):  # noqa: ANN201
    return net.loss(batch, progress=progress, generator=torch.Generator().manual_seed(1))


@every_net
@every_network
def test_every_term_of_the_loss_is_finite(name: str, network: Network) -> None:
    found = loss(build(name, network), both_paths(cells(likelihood=network.likelihood))[0])
    assert all(math.isfinite(term.item()) for term in found.terms.values())


@every_net
@every_network
def test_gradients_reach_every_parameter(name: str, network: Network) -> None:
    net = build(name, network)
    with torch.no_grad():  # what reads the hidden layers may begin at zero, but does not stay
        net.body.likelihood.weight.normal_()
    loss(net, both_paths(cells(likelihood=network.likelihood))[0]).total.backward()
    learned = ((name, p) for name, p in net.named_parameters() if p.requires_grad)
    for parameter, value in learned:
        assert value.grad is not None, parameter
        assert value.grad.abs().sum() > 0, parameter


def test_a_relu_code_begins_alive_and_decoded_like_a_linear_one() -> None:
    linear, relu = build("dae", PLAIN), build("dae with relu code", PLAIN)
    torch.nn.init.zeros_(linear.head.bias)
    batch, _ = both_paths(cells())
    assert (relu.encode(batch) > 0).all()
    torch.testing.assert_close(decode(relu, batch), decode(linear, batch), rtol=0, atol=1e-4)


def test_a_decoder_of_both_kinds_is_the_sum_of_a_linear_and_a_deep_one() -> None:
    both, z, none = body(SMALL).eval(), torch.randn(5, N_LATENT), torch.empty(5, 0)
    linear = body(replace(SMALL, decoder="linear"))
    deep = body(replace(SMALL, decoder="deep"))
    deep.decoder = both.decoder
    weight = torch.randn(N_GENES, N_LATENT + 8 + 1)
    with torch.no_grad():
        both.likelihood.weight.copy_(weight)
        linear.likelihood.weight.copy_(torch.cat([weight[:, :N_LATENT], weight[:, -1:]], 1))
        deep.likelihood.weight.copy_(
            torch.cat([weight[:, N_LATENT:-1], torch.zeros(N_GENES, 1)], 1)
        )
    sum_of_two = linear.decode(z, none) + deep.decode(z, none)
    torch.testing.assert_close(both.decode(z, none), sum_of_two)


def test_hidden_layers_begin_as_nothing_beside_weights() -> None:
    fresh, z, none = body(SMALL), torch.randn(5, N_LATENT), torch.empty(5, 0)
    middle = fresh.decode(z.mean(0, keepdim=True), none[:1])[0]
    torch.testing.assert_close(fresh.decode(z, none).mean(0), middle)  # linear in the code


def test_a_training_step_leaves_out_most_of_the_hidden_layer_and_keeps_its_mean() -> None:
    net, z, none = body(SMALL), torch.randn(1, N_LATENT).expand(20_000, -1), torch.empty(20_000, 0)
    whole = net.hidden(z[:1], none[:1])[0]
    draws = net.hidden(z, none, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws[:, :N_LATENT], z)
    torch.testing.assert_close(draws.mean(0), whole, rtol=0.05, atol=1e-6)
    left_out = (draws[:, N_LATENT:] == 0).float().mean(0)[whole[N_LATENT:] > 0]
    torch.testing.assert_close(left_out, torch.full_like(left_out, 0.6), rtol=0.03, atol=0)


@every_net
@every_network
def test_sparse_and_dense_paths_agree(name: str, network: Network) -> None:
    net = build(name, network).double().eval()
    sparse, dense = both_paths(cells(likelihood=network.likelihood))
    known = sparse.covariates.double()
    results = []
    for x in (sparse.x.map(torch.Tensor.double), dense.x.double()):
        batch = Batch(x, known)
        net.zero_grad()
        total = loss(net, batch).total
        total.backward()
        grads = [p.grad for p in net.parameters() if p.requires_grad]
        results.append([total.detach(), *grads, net.encode(batch)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@every_net
def test_code_is_deterministic_and_decodes_to_all_genes(name: str) -> None:
    net = build(name).eval()
    batch, _ = both_paths(cells())
    z = net.encode(batch)
    assert z.shape == (20, N_LATENT)
    torch.testing.assert_close(z, net.encode(batch), rtol=0, atol=0)
    assert decode(net, batch).shape == (20, N_GENES)


def test_unit_noise_is_the_plain_squared_error() -> None:
    net = build("dae", PLAIN)
    x, dense = both_paths(cells())
    expected = (decode(net, x) - dense.x).square().sum() / dense.n_cells
    torch.testing.assert_close(loss(net, x).total, expected)


def test_noise_per_gene_is_the_gaussian_log_likelihood() -> None:
    net = build("dae", NETWORKS["gaussian"]).eval()
    x, dense = both_paths(cells())
    net.body.likelihood.start_from(dense.x.mean(0), dense.x.var(0))
    mean = decode(net, x).detach().numpy()
    sd = net.body.likelihood.log_variance.exp().sqrt().detach().numpy()
    expected = -norm.logpdf(dense.x.numpy(), mean, sd).sum() / dense.n_cells
    assert loss(net, x).total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("mu", "s"), [(0.0, 1.0), (1.3, 0.4), (-2.0, 1.7)])
def test_gaussian_kl_equals_numerical_integration(mu: float, s: float) -> None:
    q, p = norm(mu, s), norm(0, 1)
    integral, _ = quad(lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), mu - 12 * s, mu + 12 * s)
    ours = gaussian_kl(torch.tensor([[mu]]), torch.tensor([[2 * math.log(s)]]))
    assert ours.item() == pytest.approx(integral, abs=1e-5)


@pytest.mark.parametrize(("gamma", "alpha"), [(0.3, 0.5), (0.9, 0.1), (0.02, 0.2)])
def test_spike_and_slab_kl_equals_integration_over_both_parts(gamma: float, alpha: float) -> None:
    mu, s = 0.8, 0.6
    slab, p = norm(mu, s), norm(0, 1)

    def density(z: float) -> float:
        q = gamma * slab.pdf(z)
        return q * (math.log(q) - math.log(alpha) - p.logpdf(z))

    integral, _ = quad(density, mu - 10 * s, mu + 10 * s)
    expected = integral + (1 - gamma) * math.log((1 - gamma) / (1 - alpha))
    logit = torch.tensor([[math.log(gamma / (1 - gamma))]], dtype=torch.float64)
    prior = torch.tensor([math.log(alpha / (1 - alpha))], dtype=torch.float64)
    ours = spike_and_slab_kl(torch.tensor([[mu]]), torch.tensor([[2 * math.log(s)]]), logit, prior)
    assert ours.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("logit", [-200.0, -30.0, 30.0, 200.0])
def test_spike_and_slab_kl_is_finite_and_feels_the_prior_at_saturated_gates(logit: float) -> None:
    a = torch.tensor([[logit]], requires_grad=True)
    kl = spike_and_slab_kl(torch.ones(1, 1), torch.zeros(1, 1), a, torch.tensor([-1.4]))
    kl.sum().backward()
    assert math.isfinite(kl.item())
    assert math.isfinite(a.grad.item())


def test_samples_have_the_posterior_moments() -> None:
    generator = torch.Generator().manual_seed(0)
    z = gaussian_sample(torch.full((200_000, 1), 1.5), torch.full((200_000, 1), -1.0), generator)
    assert z.mean().item() == pytest.approx(1.5, abs=0.01)
    assert z.var().item() == pytest.approx(math.exp(-1), rel=0.02)


@pytest.mark.parametrize("gamma", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("c", [50.0, 200.0])
def test_soft_gates_have_their_closed_form_mean(gamma: float, c: float) -> None:
    logit = torch.full((400_000, 1), math.log(gamma / (1 - gamma)))
    w = soft_gate(logit, c, torch.Generator().manual_seed(0))
    expected = (np.logaddexp(0, c * gamma) - np.logaddexp(0, c * (gamma - 1))) / c
    assert w.mean().item() == pytest.approx(expected, abs=4e-3)
    assert (w > 0.5).float().mean().item() == pytest.approx(gamma, abs=4e-3)


def test_hard_gates_decode_exact_zeros() -> None:
    net = build("bvsc")
    gate = net._gate(torch.randn(50, 3), 0.5, torch.Generator().manual_seed(0))
    assert set(gate.unique().tolist()) == {0.0, 1.0}


def test_vsc_code_is_the_gated_mean() -> None:
    net = build("bvsc").eval()
    x, _ = both_paths(cells())
    mu = net.posterior(net.body.features(x)).mu
    torch.testing.assert_close(net.encode(x), net.inclusion(x) * mu)


def test_units_without_gates_are_always_on() -> None:
    x, _ = both_paths(cells())
    assert (build("bvae").inclusion(x) == 1).all()


def test_a_code_that_is_a_point_has_no_price() -> None:
    x, _ = both_paths(cells())
    with pytest.raises(InputError, match=r"must have a distribution .* found a point in a Auto"):
        build("dae").unit_kl(x)


def test_free_bits_are_the_price_below_which_a_unit_pays_no_less() -> None:
    kl = torch.tensor([[0.1, 2.0, 0.0], [0.5, 4.0, 0.2]], requires_grad=True)
    assert freed(kl, 0.0).item() == pytest.approx(kl.mean(0).sum().item())
    cost = freed(kl, 0.4)
    assert cost.item() == pytest.approx(0.4 + 3.0 + 0.4)
    cost.backward()
    np.testing.assert_array_equal(kl.grad, [[0, 0.5, 0], [0, 0.5, 0]])


@pytest.mark.parametrize(
    ("name", "freed"), [("bvae", {"free_bits": 5.0}), ("bvsc", {"units": Units(free_bits=5.0)})]
)
def test_divergence_of_the_units_adds_up_to_the_term_of_the_loss(
    name: str, freed: dict[str, object]
) -> None:
    net = build(name).eval()
    batch, _ = both_paths(cells())
    term = loss(net, batch, progress=1.0).terms["kl"]
    assert net.unit_kl(batch).shape == (20, N_LATENT)
    torch.testing.assert_close(net.unit_kl(batch).sum(1).mean(), term)
    vars(net).update(freed)
    assert loss(net, batch, progress=1.0).terms["kl"].item() >= 5.0 * N_LATENT


def test_kl_weight_rises_over_the_warm_up_and_then_stays() -> None:
    assert [ramp(p, 0.0, 0.4) for p in (0.0, 0.2, 0.4, 1.0)] == [0.0, 0.5, 1.0, 1.0]
    assert [ramp(p, 0.2, 0.4) for p in (0.0, 0.2, 0.3, 1.0)] == pytest.approx([0, 0, 0.5, 1])
    assert ramp(0.0, 0.0, 0.0) == 1.0
