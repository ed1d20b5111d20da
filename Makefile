# The front door: `make` lists what there is. CI calls nothing but these targets.

SHELL       := /bin/bash
CARGO       ?= cargo
# A shell that was open while rustup was installed does not know cargo yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
export CARGO
# Checks that the programs of a target are installed.
TOOLS       := @conf/tools.sh
# Beside the artefacts, for all of them, in whatever order they are built.
CHECKSUMS   := @conf/packages/checksums.sh "$${CARGO_TARGET_DIR:-target}/packages"
# Without AWS-LC and mimalloc, whose C code takes long to compile. `make check` tests with them.
QUICK       := --no-default-features --features acme
# The subjects whose tests run a second time without the fast path.
BOTH_WAYS   := affinity:: failover:: http:: listener::client_limits listener::concurrent_requests \
               listener::login_limits listener::stalled_clients monitoring::access_log routing::access \
               routing::routes selection::freshness

.DEFAULT_GOAL := help
.PHONY: help run test check bench balance live fresh scale wrk faults dist packages static image fmt

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Start the simulated Acme cluster and icm in front of it; Ctrl-C ends both
	$(TOOLS) build
	@$(CARGO) build $(QUICK) --bin acme --bin icm
	@CARGO_TARGET="$${CARGO_TARGET_DIR:-target}" conf/demo.sh

test: ## Run all tests, those of the fast path both ways
	$(TOOLS) build test
	$(CARGO) test $(QUICK)
	FAST_PATH=off $(CARGO) test $(QUICK) --test integration -- $(BOTH_WAYS)

check: ## What must be clean before a commit: format, lints, tests, documentation, dependencies
	$(TOOLS) build test
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --features acme,bench -- -D warnings
	$(CARGO) test --features acme
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --lib
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	else echo "check: cargo-deny is not installed, dependencies were not checked (cargo install --locked cargo-deny)"; fi

# Short measurements: the whole run, without the builds, takes two minutes.
bench: ## Measure single functions (criterion): URLs, gate, directory, selection
	$(TOOLS) build
	$(CARGO) bench --features bench --bench url --bench gate --bench directory --bench select -- --warm-up-time 0.3 --measurement-time 0.7

balance: ## Simulate how requests are balanced, beside the rules of others; see benches/README.md
	$(TOOLS) build
	$(CARGO) bench --bench balance

# The executables are release builds: sixteen clusters share the machine with the load.
live: ## The same live, behind icm, nginx and HAProxy at once, in five minutes; see benches/README.md
	$(TOOLS) build live
	$(CARGO) build --release --features acme --bin acme --bin icm
	LIVE=1 ICM="$${ICM:-$${CARGO_TARGET_DIR:-target}/release/icm}" ACME="$${ACME:-$${CARGO_TARGET_DIR:-target}/release/acme}" \
	    $(CARGO) bench --bench live

# It counts and measures no speed, so development builds will do.
fresh: ## Count stale reads when a server dies and returns, behind icm, nginx and HAProxy; see benches/README.md
	$(TOOLS) build live
	$(CARGO) build $(QUICK) --bin acme --bin icm
	FRESH=1 ICM="$${ICM:-$${CARGO_TARGET_DIR:-target}/debug/icm}" ACME="$${ACME:-$${CARGO_TARGET_DIR:-target}/debug/acme}" \
	    $(CARGO) bench --profile dev $(QUICK) --bench fresh

scale: ## Load, index and swap a directory of a million databases under load; see benches/README.md
	$(TOOLS) build
	$(CARGO) bench --bench scale

wrk: ## Load-test icm beside a minimal Pingora proxy, nginx and HAProxy; see benches/README.md
	$(TOOLS) build wrk
	@benches/wrk/run.sh

faults: ## Kill and freeze servers under load, behind icm, nginx and HAProxy; see benches/README.md
	$(TOOLS) build
	@benches/wrk/faults.sh

dist: ## Build icm for distribution, optimised for a load that it was trained with: target/dist/icm
	$(TOOLS) build wrk dist
	@benches/dist/build.sh

static: ## Build an icm that needs no library of the system, and pack it: target/packages/*-linux-musl.tar.gz
	$(TOOLS) build static
	@conf/container/static.sh archive
	$(CHECKSUMS)

image: ## Build the container images of icm and of Acme from static executables: target/packages/*-image.tar
	$(TOOLS) build static image
	@conf/container/build.sh
	$(CHECKSUMS)

# The executable is a release build, unless ICM names one.
packages: ## Build the .deb, the .rpm, an SBOM and checksums: target/packages; see docs/install.md
	$(TOOLS) build packages
	@conf/packages/build.sh

fmt: ## Format the sources
	$(CARGO) fmt
