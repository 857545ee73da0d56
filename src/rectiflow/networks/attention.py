"""Self-attention."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from rectiflow.ranges import at_least


class Attention(nn.Module):
    """Self-attention of tokens by several heads (Vaswani et al., arXiv 1706.03762): for each, `softmax(q k^T / sqrt(d)) v`
    with d numbers a token. Where it is `causal`, a token hears those before it and itself alone.
    """

    def __init__(self, width: int, heads: int, fused: bool, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.fused, self.causal = heads, fused, causal
        self.seen, self.said = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """What tokens `(batch, n, width)` say to each other, shaped like them."""
        q, k, v = self.seen(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        if self.fused:
            mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            logits = q @ k.mT / math.sqrt(q.shape[-1])
            if self.causal:
                logits = logits.masked_fill(torch.ones_like(logits, dtype=torch.bool).triu(1), -torch.inf)
            mixed = logits.softmax(-1) @ v
        found: Tensor = self.said(mixed.transpose(1, 2).flatten(2))
        return found


def check_heads(heads: int, width: int) -> None:
    """Raises ValueError unless all heads get equally many of the numbers."""
    at_least(1, heads=heads)
    if width % heads:
        raise ValueError(f"heads: {heads} do not share {width} numbers equally")
