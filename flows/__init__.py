"""Prefect flows: they order the stages of `dvc.yaml`, watch them and record what came out. No science, no formulas."""

import sys

from flows.running.home import module_started, prepare, private_server
from stages.shared.kernels import settle

settle()
prepare()  # before anything imports Prefect, which reads its settings once
if module_started() in ("flows.repro", "flows.sweep"):
    private_server(sys.orig_argv)  # it takes as long to start as Prefect to be imported: side by side
