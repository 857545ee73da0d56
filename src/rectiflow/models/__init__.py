"""Models: what was trained."""

from rectiflow.registry import Registry

MODELS = Registry(
    {
        "velocity": "rectiflow.models.velocity:Velocity",
        "conditional": "rectiflow.models.conditional:Conditional",
        "flow_map": "rectiflow.models.flow_map:FlowMap",
        "conditional_map": "rectiflow.models.conditional_map:ConditionalMap",
        "consistency": "rectiflow.models.consistency:Consistency",
        "generator": "rectiflow.models.generator:Generator",
        "energy": "rectiflow.models.energy:Energy",
        "autoencoder": "rectiflow.models.autoencoder:Autoencoder",
        "vq": "rectiflow.models.vq:VQ",
        "fsq": "rectiflow.models.fsq:FSQ",
        "displacement": "rectiflow.models.displacement:Displacement",
        "coupling_layers": "rectiflow.models.coupling_layers:CouplingLayers",
        "autoregressive_layers": "rectiflow.models.autoregressive_layers:AutoregressiveLayers",
        "glow": "rectiflow.models.glow:Glow",
        "tokens": "rectiflow.models.tokens:TokenFlow",
        "conditional_tokens": "rectiflow.models.tokens:ConditionalTokenFlow",
        "autoregressive": "rectiflow.models.autoregressive:Autoregressive",
        "conditional_autoregressive": "rectiflow.models.autoregressive:ConditionalAutoregressive",
        "gaussian": "rectiflow.models.gaussian:Gaussian",
        "predictive": "rectiflow.models.predictive:Predictive",
        "classifier": "rectiflow.models.classifier:Classifier",
    }
)
