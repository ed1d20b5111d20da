# The front door: `make` lists what there is. CI calls nothing but these targets.

SHELL       := /bin/bash
CARGO       ?= cargo
# A shell that was open while rustup was installed does not know cargo yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help run test check bench balance live scale wrk faults dist fmt tools tools-test tools-wrk tools-live tools-dist

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: tools ## Start the simulated Acme cluster and icm in front of it; Ctrl-C ends both
	@$(CARGO) build --features acme --bin acme --bin icm
	@CARGO_TARGET="$${CARGO_TARGET_DIR:-target}" conf/demo.sh

test: tools tools-test ## Run all tests
	$(CARGO) test --features acme

check: tools tools-test ## What must be clean before a commit: format, lints, tests, documentation, dependencies
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --features acme -- -D warnings
	$(CARGO) test --features acme
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --lib
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	else echo "check: cargo-deny is not installed, dependencies were not checked (cargo install --locked cargo-deny)"; fi

# Short measurements: the whole run, without the builds, takes two minutes.
bench: tools ## Measure single functions (criterion): URLs, gate, directory, selection
	$(CARGO) bench --bench url --bench gate --bench directory --bench select -- --warm-up-time 0.3 --measurement-time 0.7

balance: tools ## Simulate how requests are balanced, beside the rules of others; see benches/README.md
	$(CARGO) bench --bench balance

# The executables are release builds: sixteen clusters share the machine with the load.
live: tools tools-live ## The same live, behind icm, nginx and HAProxy at once, in five minutes; see benches/README.md
	$(CARGO) build --release --features acme --bin acme --bin icm
	LIVE=1 ICM="$${ICM:-$${CARGO_TARGET_DIR:-target}/release/icm}" ACME="$${ACME:-$${CARGO_TARGET_DIR:-target}/release/acme}" \
	    $(CARGO) bench --bench live

scale: tools ## Load, index and swap a directory of a million databases under load; see benches/README.md
	$(CARGO) bench --bench scale

wrk: tools tools-wrk ## Load-test icm beside a minimal Pingora proxy, nginx and HAProxy; see benches/README.md
	@CARGO="$(CARGO)" benches/wrk/run.sh

faults: tools ## Kill and freeze servers under load, behind icm, nginx and HAProxy; see benches/README.md
	@CARGO="$(CARGO)" benches/wrk/faults.sh

dist: tools tools-wrk tools-dist ## Build icm for distribution, optimised for a load that it was trained with: target/dist/icm
	@CARGO="$(CARGO)" benches/dist/build.sh

fmt: ## Format the sources
	$(CARGO) fmt

# What a fresh Debian lacks: a C library under Pingora builds with cmake.
tools:
	@command -v $(firstword $(CARGO)) >/dev/null || { echo "make: cargo is missing, install Rust from https://rustup.rs" >&2; exit 1; }
	@$(call ensure,cmake)

# The README's tour is run as it stands there. Where Chromium cannot be had, its tests say so and are skipped.
tools-test:
	@$(call ensure,curl)
	@$(call ensure,openssl)
	@( $(call ensure,chromium) ) && ( $(call ensure,chromedriver,chromium-driver) ) || true
	@( $(call ensure,keepalived) ) || echo "make: going on without it, the tests of the floating address are skipped"

tools-wrk:
	@$(call ensure,wrk)
	@$(call ensure,openssl)

# What reads the counts of a build, and lays another one out by them: of the very LLVM that the compiler is made of. Where
# there is no BOLT, there is no layout.
tools-dist:
	@$(call ensure,curl)
	@llvm=$$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p'); \
	{ [ -x "$$(rustc --print sysroot)/lib/rustlib/$$(rustc -vV | sed -n 's/^host: //p')/bin/llvm-profdata" ] || \
	( $(call ensure,llvm-profdata-$$llvm,llvm-$$llvm) ); } && \
	{ ( $(call ensure,llvm-bolt-$$llvm,bolt-$$llvm) ) && ( $(call ensure,llvm-strip-$$llvm,llvm-$$llvm) ) || true; }

tools-live:
	@$(call ensure,nginx)
	@$(call ensure,haproxy)

# $(call ensure,COMMAND) or $(call ensure,COMMAND,PACKAGE) where its Debian package has another name.
define ensure
command -v $(1) >/dev/null && exit 0; \
install="apt-get update -qq && apt-get install -y --no-install-recommends $(or $(2),$(1))"; \
if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
    echo "make: installing $(1)"; DEBIAN_FRONTEND=noninteractive bash -c "$$install" >/dev/null && exit 0; \
elif command -v apt-get >/dev/null && command -v sudo >/dev/null; then \
    echo "make: installing $(1) with sudo"; sudo env DEBIAN_FRONTEND=noninteractive bash -c "$$install" >/dev/null && exit 0; \
fi; \
echo "make: $(1) is missing; as root: $$install" >&2; exit 1
endef
