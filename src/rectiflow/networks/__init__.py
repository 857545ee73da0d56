"""Networks: frozen descriptions whose weights are passed in."""

from rectiflow.registry import Registry

NETWORKS = Registry(
    {
        "mlp": "rectiflow.networks.mlp:MLP",
        "convolutions": "rectiflow.networks.convolutions:Convolutions",
        "unet": "rectiflow.networks.unet:UNet",
        "dit": "rectiflow.networks.dit:DiT",
        "transformer": "rectiflow.networks.transformer:Transformer",
        "convnet": "rectiflow.networks.convnet:ConvNet",
    }
)
