"""Wasserstein gradient flows by minimising movements: schemes for the steps of Jordan, Kinderlehrer and Otto (1998)."""

from rectiflow.registry import Registry

SCHEMES = Registry(
    {
        "grid": "rectiflow.gradient_flows.grid:Grid",
        "exact": "rectiflow.gradient_flows.line:Line",
        "particles": "rectiflow.gradient_flows.particles:Particles",
        "langevin": "rectiflow.gradient_flows.langevin:Langevin",
        "flow": "rectiflow.gradient_flows.flow:Flow",
        "velocity": "rectiflow.gradient_flows.velocity:Velocity",
        "neural": "rectiflow.gradient_flows.neural:Neural",
    }
)
