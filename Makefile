# `make demo` and `make test` are the two commands of the README; each does all that it needs, from
# the machine's packages on. There is one profile, --release, so that RocksDB is built once.

# Outside the work tree: a fresh clone finds what another one has built.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/logd/target
# ccache stands in for the compilers where it is installed; a folder that is missing does no harm.
export PATH := /usr/lib/ccache:$(PATH):$(HOME)/.cargo/bin
export RUSTDOCFLAGS ?= -D warnings

CARGO := cargo
FLAGS := --release --locked
BIN := $(CARGO_TARGET_DIR)/release

.DEFAULT_GOAL := help
.PHONY: help demo build test lint doc deny check bench bench-peers sim sim-build bugs torture torture-long setup setup-test setup-torture setup-peers deb deb-test setup-page page-test screenshots

help:
	@echo 'make demo    a three-node cluster on this machine: messages, a killed primary, nothing lost'
	@echo 'make test    format, lints, documentation and all tests'
	@echo 'make build   logd and logctl, in $(BIN)'
	@echo 'make deb     Debian packages of logd and logctl, in $(DEBS)'
	@echo 'make lint    format and lints'
	@echo 'make check   everything of make test but the tests, and cargo deny where it is installed'
	@echo 'make sim     whole clusters in virtual time under faults; N=2000 seeds, or SEED=7 again'
	@echo 'make bugs    plants one bug after the other, and the simulator finds each'
	@echo 'make page-test     looks at the page in Chromium, which it installs'
	@echo 'make screenshots   takes the pictures of docs/page.md'
	@echo 'make bench   replication latency beside the disk and the network, as JSON'
	@echo 'make bench-peers   the same beside etcd and NATS JetStream, in turn, in one run'
	@echo 'make torture       power cuts and kills under load, for some minutes; appends to the ledger'
	@echo 'make torture-long  the same for hours, until the ledger has enough; can be ended and goes on'

demo: build
	$(BIN)/logctl demo

build: setup
	$(CARGO) build $(FLAGS) --workspace --bins

# Installs nothing; lintian looks at them where it is there.
DEBS ?= $(CARGO_TARGET_DIR)/debian
deb: build
	@tools/deb $(BIN) $(DEBS)
	@if lintian --version >/dev/null 2>&1; then \
	lintian --allow-root --fail-on error,warning $(DEBS)/*.deb; \
	else echo 'lintian is not installed: the packages are not checked'; fi

# In a fresh root of Debian, as root, by mmdebstrap.
deb-test: deb
	@tools/deb-test $(DEBS)

# So many seeds are part of every `make test`, and the planted bugs that are quickly found.
SEEDS ?= 2000
test: lint doc build
	$(CARGO) test $(FLAGS) --workspace
	@$(MAKE) --no-print-directory sim N=$(SEEDS)
	@$(MAKE) --no-print-directory bugs ARGS=--noted

lint: setup-test
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(FLAGS) --workspace --all-targets -- -D warnings

doc: setup
	$(CARGO) doc $(FLAGS) --workspace --no-deps --quiet

# Licences, sources and banned crates are checked by `make test` too, from cargo's own metadata;
# cargo-deny adds the advisories, for which it needs the network.
deny:
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny check; \
	else echo 'cargo-deny is not installed (cargo install cargo-deny): advisories not checked'; fi

check: lint doc deny

# What a browser makes of the page. `make test` does the same where Chromium is installed already.
page-test: build setup-page
	$(CARGO) test $(FLAGS) --workspace --test it -- page_in_browser

screenshots: build setup-page
	LOGD_SCREENSHOTS=$(CURDIR)/docs/pictures $(CARGO) test $(FLAGS) --workspace --test it -- page_in_browser

# Arguments in BENCH, as in: make bench BENCH='--seconds 20 --dir /mnt/disk --out bench.json'
bench: build
	@$(BIN)/benches $(BENCH)

# A workspace of its own: nothing of what the clients of others need is in the product's lock file.
# Arguments in PEERS, as in: make bench-peers PEERS='--rounds 9 --in-flight 1,256'
PEERS_BIN := $(or $(LOGD_TOOLS),$(HOME)/.cache/logd/tools)/peers/usr/bin
bench-peers: build setup-peers
	$(CARGO) build $(FLAGS) --manifest-path benches/peers/Cargo.toml
	@$(BIN)/peers --etcd $(PEERS_BIN)/etcd --nats $(PEERS_BIN)/nats-server $(PEERS)

# Power cuts are made by root, on file systems in files; where those cannot be mounted, the row is
# skipped. Arguments in TORTURE, as in: make torture TORTURE='--seconds 600'
LEDGER := torture/ledger.tsv
torture: build setup-torture
	$(BIN)/torture short --ledger $(LEDGER) $(TORTURE)

torture-long: build setup-torture
	$(BIN)/torture long --ledger $(LEDGER) $(TORTURE)

# The simulator has a build of its own, with bugs in it that it can switch on.
sim-build: setup
	@$(CARGO) build $(FLAGS) --workspace --bin sim --features sim/planted

# N seeds from FROM on, or one SEED and what happens in it; more in ARGS, as in ARGS='--log'.
sim: sim-build
	@$(BIN)/sim $(if $(SEED),--seed $(SEED),--seeds $(or $(N),200) --from $(or $(FROM),1)) $(ARGS)

bugs: sim-build
	@$(BIN)/sim --bugs $(ARGS)

setup:
	@tools/setup

setup-test:
	@tools/setup test

setup-torture:
	@tools/setup torture

setup-page:
	@tools/setup page

setup-peers:
	@tools/setup peers
