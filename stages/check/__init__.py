"""The first stage: what is wrong with `params.yaml` is said before anything runs."""
