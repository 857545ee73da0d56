"""The variational autoencoder (Kingma and Welling, arXiv 1312.6114)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rectiflow.models.bottleneck import LOG_2PI, Bottleneck, Bound
from rectiflow.networks.activations import seedwise

REACH = 7.0  # deviations of the prior that are integrated over: what lies beyond has a weight of 3e-12
NODES, MOST = 101, {1: 12801, 2: 801}  # of an axis, to begin with and at most: so few latents can be summed out
CLOSE = 1e-4  # nats that the mean of log p may move by when the nodes are doubled
NUMBERS = 2**22  # that are alive at once


@dataclass(frozen=True)
class Autoencoder(Bottleneck):
    """The prior of the latents is N(0, I), their posterior `N(mu(x), sigma(x)^2)`, with a sigma for each."""

    @property
    def said(self) -> int:
        """mu and log sigma."""
        return 2 * self.latent

    @property
    def noise(self) -> int:
        """As many as z has."""
        return self.latent

    def prior(self, x0: Tensor) -> Tensor:
        """The first `latent` coordinates."""
        return x0[..., : self.latent].mT

    def posterior(self, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """mu, sigma and log sigma of points, each `(seeds, latent, batch)`."""
        mu, log_sigma = self.encode(columns).chunk(2, 1)
        return mu, seedwise(torch.exp, log_sigma), log_sigma

    def latents(self, x: Tensor, noise: Tensor) -> Tensor:
        """`mu + sigma noise`."""
        mu, sigma, _ = self.posterior(self.columns(x))
        return mu.mT + sigma.mT * noise

    def bound(self, x: Tensor, noise: Tensor) -> Bound:
        """The rate in closed form, `sum (mu^2 + sigma^2 - 1) / 2 - log sigma`; one z of the posterior for the distortion."""
        columns = self.columns(x)
        mu, sigma, log_sigma = self.posterior(columns)
        rate = ((mu.square() + sigma.square() - 1) / 2 - log_sigma).sum(1)
        distortion = self.cost(columns, self.decode(mu + sigma * noise.mT.contiguous()))
        return Bound(rate, distortion, torch.zeros_like(rate))

    def importance(self, x: Tensor, noise: Tensor) -> Tensor:
        """`log 1/k sum_k p(x, z_k) / q(z_k | x)`, `(seeds, batch)`, by noise `(k, seeds, batch, latent)`: a lower bound of
        log p(x), to which it rises with k (Burda et al., arXiv 1509.00519).
        """
        columns = self.columns(x)
        mu, sigma, log_sigma = self.posterior(columns)
        found = []
        for part in noise:
            eps = part.mT.contiguous()
            z = mu + sigma * eps
            log_ratio = ((eps.square() - z.square()) / 2 + log_sigma).sum(1)  # log p(z) / q(z | x)
            found.append(log_ratio - self.cost(columns, self.decode(z)))
        weights = torch.stack(found, 1)
        return torch.stack([part.logsumexp(0) for part in weights]) - math.log(len(noise))

    def exact(self, x: Tensor, nodes: int) -> Tensor:
        """`log p(x) = log int N(z; 0, I) p(x | z) dz`, `(seeds, batch)` in double precision, by a sum over a grid of so many
        nodes an axis, which converges fast once they are closer than p(x | z) varies.
        """
        axis = torch.linspace(-REACH, REACH, nodes, dtype=torch.float64, device=x.device)
        z = torch.cartesian_prod(*[axis] * self.latent).reshape(-1, self.latent).mT
        log_weight = self.latent * math.log(2 * REACH / (nodes - 1)) - (z.square() + LOG_2PI).sum(0) / 2
        return torch.stack([self.seed(k)._exact(x[k : k + 1], z.to(x)[None], log_weight) for k in range(len(x))])

    def _exact(self, x: Tensor, z: Tensor, log_weight: Tensor) -> Tensor:
        """One seed's, `(batch,)`, by nodes z `(1, latent, nodes)`."""
        columns, means = self.columns(x)[0].double(), self.decode(z)[0].double()
        log_deviation, precision = (float(part) for part in self._decoder(1))
        constant = len(columns) * (log_deviation + float(self.frame.scale.double().log()) + LOG_2PI / 2)
        node = log_weight - precision / 2 * means.square().sum(0)
        found = []
        for part in columns.split(max(1, NUMBERS // len(node)), 1):
            near = torch.addmm(node, part.mT, means, alpha=precision)  # squares taken apart, to be a product
            found.append(near.logsumexp(1) - precision / 2 * part.square().sum(0))
        return torch.cat(found) - constant

    def closer(self, x: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """`iw_bound`, by all samples, and for few latents `nll_exact`, with `nll_exact_coarse` by half the nodes."""
        found = {"iw_bound": -self.importance(x, noise)}
        if self.latent in MOST:
            pairs = [self.seed(k).refined(x[k : k + 1]) for k in range(len(x))]
            fine, coarse = (torch.cat(part) for part in zip(*pairs, strict=True))
            found |= {"nll_exact": -fine, "nll_exact_coarse": -coarse}
        return found

    def refined(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One seed's `exact`, with nodes doubled until little changes, and with half of them."""
        nodes, fine = NODES, self.exact(x, NODES)
        while True:
            nodes, coarse = 2 * nodes - 1, fine
            fine = self.exact(x, nodes)
            if nodes >= MOST[self.latent] or abs(float((fine - coarse).mean())) < CLOSE:
                return fine, coarse
