# Everything runs in .venv, which is made on first use.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export NO_MKDOCS_2_WARNING := 1
# torch's kernels for AVX-512 sum in blocks of another size: without them the bytes are those of every other processor.
ifneq (,$(findstring avx512f,$(shell grep -m1 flags /proc/cpuinfo 2>/dev/null)))
export ATEN_CPU_CAPABILITY ?= avx2
endif
# Stages are many short processes: without cached bytecode each compiles the project anew, 0.2 s a stage.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help repro dvc exercises table densities gradient-flows one-step paradigms images tokens transitions bench bench-gpu costs ui ui-stop docs audit test lint check

help:           ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

repro: .venv/ready   ## data to report: re-runs what a change touched, stages side by side
	rectiflow check
	rectiflow repro

dvc: .venv/ready     ## the same by `dvc repro`, one stage after the other
	rectiflow check
	dvc repro

exercises: .venv/ready   ## five questions about flow matching -> experiments/exercises/reports/index.html
	rectiflow check --root experiments/exercises
	rectiflow repro --root experiments/exercises

table: .venv/ready       ## five methods beside a published table -> experiments/transport_table/reports/index.html
	rectiflow check --root experiments/transport_table
	rectiflow repro --root experiments/transport_table

densities: .venv/ready   ## likelihoods and outliers -> experiments/densities/reports/index.html
	rectiflow check --root experiments/densities
	rectiflow repro --root experiments/densities

one-step: .venv/ready       ## ways to one step beside rectification -> experiments/one_step/reports/index.html
	rectiflow check --root experiments/one_step
	rectiflow repro --root experiments/one_step

gradient-flows: .venv/ready   ## minimising movements by every scheme -> experiments/gradient_flows/reports/index.html
	rectiflow check --root experiments/gradient_flows
	rectiflow repro --root experiments/gradient_flows

paradigms: .venv/ready      ## kinds of models side by side -> experiments/paradigms/reports/index.html
	rectiflow check --root experiments/paradigms
	rectiflow repro --root experiments/paradigms

tokens: .venv/ready         ## discrete data: flows of tokens beside autoregressive laws -> experiments/tokens/reports/index.html
	rectiflow check --root experiments/tokens
	rectiflow repro --root experiments/tokens

images: .venv/images          ## pictures: classes, guidance, rounds, latents -> experiments/images/reports/index.html
	rectiflow check --root experiments/images
	rectiflow repro --root experiments/images

transitions: .venv/ready    ## the next state given state and action, rolled out -> experiments/transitions/reports/index.html
	rectiflow check --root experiments/transitions
	rectiflow repro --root experiments/transitions

ui: .venv/ready      ## Prefect's UI on this machine: trigger and watch experiments
	rectiflow ui start

ui-stop: .venv/ready ## end it
	rectiflow ui stop

bench: repro .venv-bench/ready   ## hot paths beside the neighbours' -> reports/benchmarks.json
	python -m bench

costs: .venv/ready   ## what grows with seeds, points, dimensions, stages -> reports/costs.json
	python -m bench.costs

bench-gpu: .venv/ready .venv-bench/ready   ## training beside eager PyTorch on this machine's GPU
	python -m bench --device cuda

docs: .venv/docs     ## the documentation -> site/index.html, which opens from disk
	python -m mkdocs build

audit: .venv/ready   ## known vulnerabilities of what constraints.txt pins
	test -x .venv-audit/bin/pip-audit || { python3 -m venv .venv-audit && .venv-audit/bin/python -m pip install --quiet pip-audit==2.10.1; } || true
	python -m tools.audit .venv-audit/bin/pip-audit

test: .venv/tests    ## the tests
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/tests    ## style and types: ruff and mypy
	ruff check .
	ruff format --check .
	mypy

check: .venv/ready   ## is params.yaml right?
	rectiflow check

.venv/ready: pyproject.toml constraints.txt
	python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rectiflow needs Python 3.11 or later")'
	test -x .venv/bin/python || python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[flows]'
	touch $@

.venv/tests: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

.venv/images: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[images]'
	touch $@

.venv/docs: .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

.venv-bench/ready: bench/neighbours.txt
	test -x .venv-bench/bin/python || python3 -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c bench/neighbours.txt torch
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r bench/neighbours.txt
	.venv-bench/bin/python -c 'import bench.theirs'
	touch $@
