"""Check all of `params.yaml`: every section, every name, and that they fit together."""

from collections.abc import Mapping
from typing import Any

from stages.check.beside import check_choice, check_relation
from stages.check.blocks import check_baselines, check_block
from stages.check.data import check_data, check_latents
from stages.check.gradient_flows import check_gradient_flow
from stages.check.judges import check_judge
from stages.check.methods import check_method, check_sampling
from stages.check.params import Params, check_specs
from stages.check.studies import check_study
from stages.couple import build_pairing
from stages.density import build_plan
from stages.generate import build_seeds
from stages.grid import Rows, expand, studies
from stages.shared.params import parse


def check(content: Mapping[str, Any]) -> Rows:
    """The rows of `grid.yaml`. Raises Refused for the first thing that is wrong."""
    params, rows = parse(Params, content, ""), expand(content)
    build_seeds(content)
    check_data(params)
    for name, row in params.couplings.items():
        build_pairing(row, f"couplings.{name}")
    check_sampling(params)
    build_plan(content, {})
    check_baselines(content, params)
    check_specs(params, "", {}, {})
    for name, method in params.methods.items():
        check_specs(params, f"methods.{name}.", method.network, method.training)
        check_method(name, content, params)
    for name, latents in params.latents.items():
        check_latents(name, latents, params)
    for name, judge in params.judges.items():
        check_judge(name, judge, content, params)
    for name, block in params.grid.items():
        check_block(name, block, content, params)
    for name, choice in params.choices.items():
        check_choice(name, choice, params, rows)
    for name, relation in params.relations.items():
        check_relation(name, relation, content, params, rows)
    for name, flow in params.gradient_flows.items():
        check_gradient_flow(name, flow, content, params, rows)
    for name, study in studies(content).items():
        check_study(name, study, content, params, rows)
    return rows
