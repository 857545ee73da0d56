"""The kinds of sections that look into one question: what they compare is a row of `studies` in `params.yaml`.

Each says first what was found, with its numbers, and no more than the seeds can tell: differences are paired by seed, their
t tests Holm-corrected within a table. A kind is a function `(study, evidence) -> parts` in a module of its own, with its
figures; a new one is a file and a line here.
"""

from rectiflow.registry import Registry

STUDIES = Registry(
    {
        "paths": "stages.report.studies.paths:paths",
        "rounds": "stages.report.studies.rounds:rounds",
        "steps": "stages.report.studies.steps:steps",
        "one_step": "stages.report.studies.one_step:one_step",
        "paradigms": "stages.report.studies.paradigms:paradigms",
        "bottlenecks": "stages.report.studies.bottlenecks:bottlenecks",
        "images": "stages.report.studies.images:images",
        "latents": "stages.report.studies.latents:latents",
        "transitions": "stages.report.studies.transitions:transitions",
        "predictive": "stages.report.studies.predictive:predictive",
        "diffflow": "stages.report.studies.diffflow:diffflow",
        "tokens": "stages.report.studies.tokens:tokens",
        "fields": "stages.report.studies.fields:fields",
        "choice": "stages.report.studies.choice:choice",
        "likelihood": "stages.report.studies.likelihood:likelihood",
        "published": "stages.report.studies.published:published",
    }
)
