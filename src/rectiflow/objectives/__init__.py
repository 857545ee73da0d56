"""Objectives: what training minimises."""

from rectiflow.registry import Registry

OBJECTIVES = Registry(
    {
        "matching": "rectiflow.objectives.matching:Matching",
        "likelihood": "rectiflow.objectives.likelihood:Likelihood",
        "cnf": "rectiflow.objectives.cnf:Cnf",
        "meanflow": "rectiflow.objectives.meanflow:MeanFlow",
        "eulerian": "rectiflow.objectives.eulerian:Eulerian",
        "lagrangian": "rectiflow.objectives.lagrangian:Lagrangian",
        "shortcut": "rectiflow.objectives.shortcut:Shortcut",
        "consistency": "rectiflow.objectives.consistency:Consistency",
        "adversarial": "rectiflow.objectives.adversarial:Adversarial",
        "diffflow": "rectiflow.objectives.diffflow:DiffFlow",
        "distil": "rectiflow.objectives.distil:Distil",
        "energy": "rectiflow.objectives.energy:ScoreMatching",
        "elbo": "rectiflow.objectives.elbo:Elbo",
        "tokens": "rectiflow.objectives.tokens:TokenMatching",
        "autoregressive": "rectiflow.objectives.autoregressive:NextToken",
        "predictive": "rectiflow.objectives.predictive:Prediction",
        "crossentropy": "rectiflow.objectives.crossentropy:CrossEntropy",
    }
)
