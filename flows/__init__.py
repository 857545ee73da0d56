"""Prefect flows: they order the stages of `dvc.yaml`, watch them and record what came out. No science, no formulas."""

from flows.running.home import prepare

prepare()  # before anything imports Prefect, which reads its settings once
