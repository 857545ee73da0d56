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
        "distil": "rectiflow.objectives.distil:Distil",
    }
)
