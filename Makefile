# `make demo` and `make test` are all that a newcomer needs: both install what is missing first (Debian 12, as root, with Rust).
#   make demo DEMO_ARGS="--headless --sorties 2 --seed 1 --summary summary.json"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

CARGO ?= cargo
DEMO_ARGS ?=
# 1000 are the promise of docs/delivery.md; on a busy machine they take half an hour.
SOAK_KILLS ?= 250

.PHONY: help setup build demo test soak lint fmt-check clippy deny unit-score deb test-deb arm64 test-arm64 test-systemd clean

help:
	@echo "make demo    a simulated station on this machine; prints the address of its page (DEMO_ARGS=\"...\" for its options)"
	@echo "make test    all tests"
	@echo "make soak    delivery broken on purpose and measured, some 15 minutes: docs/delivery.md"
	@echo "make build   target/release/aerie"
	@echo "make lint    formatting, clippy, licences and sources of the dependencies"
	@echo "make setup   only what the others install: Debian packages, ONNX Runtime, the web page"
	@echo "make deb     the Debian packages for amd64 and arm64 in target/package"
	@echo "make test-deb      installs, runs, upgrades and purges both packages in fresh Debian trees"
	@echo "make arm64   target/aarch64-unknown-linux-gnu/release/aerie"
	@echo "make test-arm64    its unit tests and a sortie, under emulation"
	@echo "make test-systemd  the package under a real systemd, in an emulated machine"
	@echo "make clean   what was built and fetched into this folder"

setup:
	@scripts/setup.sh

build: setup
	@if [ -e target/release/aerie ]; then $(CARGO) build --release --locked --quiet; \
	else echo "building aerie; the first time takes some minutes"; $(CARGO) build --release --locked; fi

# The demo prints the address of its page as soon as that is up. `exec`: Ctrl-C ends the demo in good order, not make in front of it.
demo: build
	@exec target/release/aerie demo $(DEMO_ARGS)

test:
	@scripts/setup.sh test
	@[ -n "$${AERIE_TEST_DATA:-}" ] || [ -d ../shared/data ] || \
	  echo "skipped: what compares with real pictures and surveyed points, ../shared/data is absent (or name it in AERIE_TEST_DATA)"
	@[ -n "$${AERIE_SITL_ARDUPILOT:-}" ] || echo "skipped: flights on ArduPilot, AERIE_SITL_ARDUPILOT names no running autopilot"
	@[ -n "$${AERIE_SITL_PX4:-}" ] || echo "skipped: flights on PX4, AERIE_SITL_PX4 names no running autopilot"
	@$(CARGO) nextest run --locked

# Each prints JSON; those that judge fail when the promise is broken. Niced: a measurement must not stop the machine.
SOAK := nice -n 5 target/release/aerie
soak: build
	@command -v strace >/dev/null || apt-get install -q -y --no-install-recommends strace >/dev/null
	@rm -rf soak-out && mkdir -p soak-out
	$(SOAK) soak kill --kills $(SOAK_KILLS) | tee soak-out/kill.json
	$(SOAK) soak trace | tee soak-out/trace.json
	$(SOAK) soak accept | tee soak-out/accept.json
	$(SOAK) soak fill && $(SOAK) soak drain | tee soak-out/drain.json
	$(SOAK) fleet simulate --stations 1000 --out soak-out/fleet --json | tee soak-out/fleet.json

lint: fmt-check clippy deny

fmt-check:
	@$(CARGO) fmt --check

# The profile of the tests, so that build scripts and macros are compiled once for both.
clippy: setup
	@$(CARGO) clippy --quiet --locked --all-targets -- -D warnings

# Without vulnerabilities: that database is not in the registry, and CI must pass without further network.
deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || { echo "installing cargo-deny (some minutes, once)"; \
	  CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --quiet --locked --debug --no-default-features cargo-deny; }
	@$(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources

# How open the station's unit is, by systemd's own reckoning: 0 closed, 10 open. docs/deploying.md has the reasons for what is left.
unit-score:
	@command -v systemd-analyze >/dev/null || scripts/setup.sh test
	@systemd-analyze security --offline=true --no-pager --threshold=15 systemd/aerie.service | tail -1

# Beside the tests, not among them: they take long, and root.
deb: setup
	@cross/deb.sh amd64
	@cross/deb.sh arm64

test-deb: deb
	@cross/try-deb.sh amd64
	@cross/try-deb.sh arm64

arm64: setup
	@cross/arm64.sh build

test-arm64: setup
	@cross/arm64.sh test

test-systemd: setup
	@cross/deb.sh amd64
	@cross/try-systemd.sh

clean:
	@$(CARGO) clean --quiet
	@rm -rf .deps demo-out soak-out src/console/web/dist src/console/web/node_modules
