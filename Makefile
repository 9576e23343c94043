# Relais: build, run, test. `make help` lists the targets.
#
# Only cargo, cc and make are needed; a missing one is named with how to get it.
# Everything that make makes lies in target/, _FTPROOT/made and _FTPROOT/.relais. Of `make run` nothing is left in
# _FTPROOT/.relais: a cluster that is started later finds no trace of it.

CARGO ?= cargo
PORT = 2122
HOST = localhost

# cargo's own variable moves its output; the links follow it.
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
BIN := $(TARGET)/release
# What servers that make starts remember; `make clean` forgets it.
RELAIS := target/relais
# Where `make docs` writes.
DOCS = $(RELAIS)/docs
PROGRAMS := ftpmaster ftpslave ftpclient
# FILE:BYTES:SEED of the sample files that are made, not kept.
SAMPLES := three-mib.bin:3145728:1 one-mib-and-a-byte.bin:1048577:2 three-hundred-kib.bin:307200:3
MADE := $(foreach s,$(SAMPLES),_FTPROOT/made/$(firstword $(subst :, ,$(s))))

# rustup's folder is not in everybody's PATH right after installing it.
export PATH := $(PATH):$(HOME)/.cargo/bin
export CARGO

.PHONY: build programs samples tools run test test-clients test-long bench bench-full check audit docs master slave client stop clean help
.DELETE_ON_ERROR:

build: programs samples

programs: tools
	$(CARGO) build --release --locked
	@for p in $(PROGRAMS); do ln -sfn "$(BIN)/$$p" "$$p" || exit 1; done

tools:
	@CC='$(CC)' sh packaging/make/tools.sh

samples: $(MADE)

$(MADE): $(RELAIS)/tools/made
	@mkdir -p $(@D)
	@set -- $(subst :, ,$(filter $(@F):%,$(SAMPLES))); $(RELAIS)/tools/made '$@' "$$2" "$$3"

$(RELAIS)/tools/%: packaging/make/%.c | tools
	@mkdir -p $(@D)
	@$(CC) -O2 -Wall -Wextra -o $@.$$$$ $< && mv $@.$$$$ $@

run: build $(RELAIS)/tools/under
	@$(RELAIS)/tools/under 0 sh packaging/make/run.sh $(BIN) $(RELAIS)

# Most tests wait for deadlines more than for the processor, so more of them run at once than there are cores.
# A shell that starts make in the background lets it ignore Ctrl-C; programs under test must not inherit that.
DEFAULT_SIGNALS := env --default-signal=HUP,INT,QUIT,PIPE

test: tools
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-6} $(DEFAULT_SIGNALS) $(CARGO) test --workspace --locked --no-fail-fast

# Other people's FTP clients against the real programs.
test-clients: tools
	@sh packaging/make/clients.sh
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} $(DEFAULT_SIGNALS) $(CARGO) test --locked --features clients --test clients

# What is ignored and called write_... writes files of the repository anew and is no test.
test-long: tools
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-2} $(DEFAULT_SIGNALS) $(CARGO) test --workspace --locked --no-fail-fast -- --ignored --skip write_

# Comparisons with other servers: as root, on a quiet machine. DISK=FOLDER adds the rows on a disk.
bench: programs
	python3 benches/bench.py $(if $(DISK),--disk '$(DISK)')

bench-full: programs
	python3 benches/bench.py --full $(if $(DISK),--disk '$(DISK)') --write benches/RESULTS.md
	python3 benches/ftp.py
	python3 benches/http.py

check: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features relais/clients --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked
	$(CARGO) run --quiet --locked --package relais-structure

# Needs a network: for cargo-deny itself, and for the advisories.
audit: tools
	@command -v cargo-deny >/dev/null 2>&1 || { echo 'make audit needs cargo-deny: cargo install --locked cargo-deny' >&2; exit 1; }
	$(CARGO) deny --locked check

# Manual pages and the shells' completions, out of the definitions that the programs read.
docs: tools
	$(CARGO) run --quiet --locked --example docs -- '$(DOCS)'
	@echo "written: $(DOCS)/man, $(DOCS)/completions"

# Four terminals make a cluster: make master, make slave PORT=2122, make slave PORT=2123, make client
master: build
	@sh packaging/make/serve.sh $(RELAIS)/pids $(BIN)/ftpmaster --state $(RELAIS)/cluster

slave: build
	@sh packaging/make/tidy.sh $(RELAIS) _FTPROOT
	@sh packaging/make/serve.sh $(RELAIS)/pids $(BIN)/ftpslave $(PORT) --cluster-key $(RELAIS)/cluster/cluster.key

client: build
	@XDG_STATE_HOME='$(CURDIR)/$(RELAIS)/client' $(BIN)/ftpclient '$(HOST)'

stop:
	@sh packaging/make/stop.sh $(RELAIS)/pids

clean: stop
	@if command -v '$(CARGO)' >/dev/null 2>&1; then $(CARGO) clean; else echo "no cargo: target is left, but for target/relais"; fi
	rm -rf $(RELAIS) _FTPROOT/.relais _FTPROOT/made $(PROGRAMS)

help:
	@echo 'make [build]            builds the programs and links them here: ./ftpmaster ./ftpslave ./ftpclient'
	@echo 'make run                a master, two slaves, every sample file through them, then the prompt'
	@echo 'make test               all tests but the long ones'
	@echo 'make test-clients       tests with the FTP and HTTP clients that others wrote: curl, lftp, ...'
	@echo 'make test-long          the long ones'
	@echo 'make bench              comparisons with other servers, at most 15 minutes; as root'
	@echo 'make bench-full         all of them; DISK=FOLDER adds the rows on a disk'
	@echo 'make check              formatting, lints, documentation, structure'
	@echo 'make audit              advisories, licences and duplicates of the dependencies, by cargo-deny'
	@echo 'make docs               manual pages and shell completions, into target/relais/docs or DOCS=FOLDER'
	@echo 'make master             a master, in the foreground, on 127.0.0.1:2121'
	@echo 'make slave PORT=2122    a slave that serves _FTPROOT'
	@echo 'make client HOST=localhost'
	@echo '                        the prompt'
	@echo 'make stop               ends the servers that make started'
	@echo 'make clean              removes everything that was built, with the state of the servers'
