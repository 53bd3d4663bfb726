# The commands of this project. Every one first looks for what it needs and installs it where it can
# (deploy/setup.sh). Settings come from the environment or the command line:
#
#   CARGO_TARGET_DIR  where compiled code goes (default: target)
#   ARGS              arguments of `bellwether demo` or of `cargo test`, e.g. make demo ARGS=--serve

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

export CARGO_TARGET_DIR ?= $(CURDIR)/target
ARGS ?=

# ccache by its directory of compiler names, not by CC: cargo runs the build script of RocksDB (ten minutes)
# again whenever CC changes, so `make test` and a plain `cargo test` would undo each other's work.
CCACHE_DIRS := $(wildcard /usr/lib/ccache /usr/lib64/ccache /opt/homebrew/opt/ccache/libexec /usr/local/opt/ccache/libexec)
ifneq ($(CCACHE_DIRS),)
export PATH := $(firstword $(CCACHE_DIRS)):$(PATH)
endif

# What `cargo build` makes of the dev profile: the demo and the tests share it, so that RocksDB compiles once.
BELLWETHER := $(CARGO_TARGET_DIR)/debug/bellwether

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Build and show it at work on real history, with nothing but the binary (ARGS=--serve keeps it up)
	@deploy/setup.sh --for demo
	@echo "Building (the first time compiles RocksDB: about ten minutes on two cores) ..."
	cargo build -p bellwether --locked
	"$(BELLWETHER)" demo $(ARGS)

.PHONY: test
test: ## Run all tests, against a real Kafka and schema registry
	@deploy/setup.sh --for test
	tests/harness/kafka-local.sh fetch
	tests/harness/registry-local.sh fetch
	tests/harness/helm-local.sh fetch
	# Of the whole workspace, as the tests are: for one package dependencies would be built once more, with other features.
	cargo build --workspace --bin bellwether --locked
	cargo test --workspace --locked $(ARGS)

# SCHEDULES: how many (each from a seed of its own, which a failure names).
SCHEDULES ?= 1000000
.PHONY: simulate
simulate: ## Simulate workers under faults, SCHEDULES times (default: a million; about 200 a second on two cores)
	BELLWETHER_SIMULATION_SCHEDULES=$(SCHEDULES) cargo test --release -p bellwether-tests --locked --test simulation -- --nocapture

.PHONY: hot-account
hot-account: ## Measure what other accounts wait beside one with most of the traffic (two minutes)
	cargo build -p bellwether --locked
	cargo test -p bellwether-tests --locked --test hot_account -- --ignored --nocapture

# KIT: directory of the evaluation kit, which is no part of this repository. SET: openstack, oulad, learned, nab, power, calibration, ablation or all. PYTHON: one with the packages
# of the kit's requirements.txt. OUT: where scores, alerts, figures and report.html go.
KIT ?=
SET ?= all
PYTHON ?= python3
OUT ?= $(CARGO_TARGET_DIR)/evaluation
.PHONY: evaluate
evaluate: ## Judge the engine on the evaluation kit (KIT=DIR, PYTHON=…, SET=…, OUT=DIR), and renew the README's tables (three hours)
	cargo build -p bellwether --locked
	"$(BELLWETHER)" evaluate "$(SET)" $(if $(KIT),--kit "$(KIT)") --python "$(PYTHON)" --out "$(OUT)" --readme README.md $(ARGS)
	cp "$(OUT)/evaluation.json" benches/results/evaluation.json

# PEER: directory of the Kafka Streams peer, which is no part of this repository; without it only Bellwether and the floor are measured.
PEER ?=
.PHONY: bench
bench: ## Measure the peer's job on a real Kafka, beside the peer (PEER=DIR, ARGS=…), into benches/results/bench.json
	@deploy/setup.sh --for test
	cargo build --release -p bellwether -p bellwether-benches --locked
	"$(CARGO_TARGET_DIR)/release/bench" $(if $(PEER),--peer "$(PEER)") $(ARGS)

.PHONY: micro
micro: ## Time the parts of the event path one by one, with criterion (ARGS=… for one, e.g. ARGS=decode)
	@deploy/setup.sh --for build
	cargo bench -p bellwether-benches --locked $(if $(ARGS),-- $(ARGS))

.PHONY: scale
scale: ## Measure how cost grows with accounts, signals, history, partitions and processes, and renew the README's tables (ARGS=--quick: look only)
	@deploy/setup.sh --for test
	cargo build --release -p bellwether -p bellwether-benches --locked
	"$(CARGO_TARGET_DIR)/release/scale" $(ARGS)
ifeq ($(ARGS),)
	"$(CARGO_TARGET_DIR)/release/bench" --processes 1,2,4,8 --accounts 20000 --work "$(CARGO_TARGET_DIR)/processes"
	"$(CARGO_TARGET_DIR)/release/scale" --render
endif

.PHONY: profile
profile: ## Show where the time of the process goes, with perf beside the benchmark's job, in benches/results/profile.txt
	@deploy/setup.sh --for test
	cargo build --release -p bellwether -p bellwether-benches --locked
	benches/profile.sh "$(CARGO_TARGET_DIR)/release"

.PHONY: instructions
instructions: ## Count the instructions of the event path anew, for what later builds are held to
	@deploy/setup.sh --for test
	cargo build --workspace --bin instructions --locked
	"$(CARGO_TARGET_DIR)/debug/instructions"

.PHONY: lint
lint: ## Check format, lints and dependencies
	@deploy/setup.sh --for lint
	@$(MAKE) fmt-check clippy deny

.PHONY: setup
setup: ## Look for what building, testing and linting need; install what is missing
	@deploy/setup.sh --for test
	@deploy/setup.sh --for lint

.PHONY: fmt-check
fmt-check:
	cargo fmt --all --check

.PHONY: clippy
clippy:
	cargo clippy --workspace --all-targets --locked -- -D warnings

# cargo-deny takes four minutes to build on two cores, so it is no condition of `make lint`: without it the check
# is left out, loudly. DENY=required (for CI that brings it) makes its absence an error.
.PHONY: deny
deny: ## Check licences, bans and sources of the dependencies with cargo-deny, where it is installed
	@if command -v cargo-deny > /dev/null; then \
	  echo "cargo deny --locked check -A duplicate licenses bans sources"; \
	  cargo deny --locked check -A duplicate licenses bans sources; \
	elif [ "$${DENY:-}" = required ]; then \
	  echo "cargo-deny is missing; run: cargo install cargo-deny --locked" >&2; exit 1; \
	else \
	  echo "WARNING: licences and sources of the dependencies were NOT checked: cargo-deny is missing;" >&2; \
	  echo "WARNING: to check them, run: cargo install cargo-deny --locked && make deny" >&2; \
	fi

.PHONY: deny-advisories
deny-advisories: ## Check the dependencies against the RustSec advisories (clones their database from the network)
	cargo deny --locked check advisories

.PHONY: clean
clean: ## Remove compiled code
	cargo clean
