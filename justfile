# What there is to do here. `./dev RECIPE` also brings what a recipe needs; `just RECIPE` expects it.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments
set ignore-comments

export NEXTEST_PROFILE := if env("CI", "") == "" { "default" } else { "ci" }

# Where cargo puts programs: the target is named in .cargo/config.toml.
programs := env("CARGO_TARGET_DIR", "target") / `rustc --print host-tuple`

[private]
default:
    @just --list

# The same selection everywhere: a narrower one unifies features differently and compiles again.

# Build every program
build:
    cargo build --workspace --bins

# Format the code
fmt:
    cargo fmt --all

# Formatting, lints, documentation, dependencies: all that needs no test to run
lint: lint-scripts && deny-advisories
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --quiet -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

[private]
lint-scripts:
    @fixtures/install lint
    @fixtures/lint/node_modules/.bin/eslint --config fixtures/lint/eslint.config.js --max-warnings 0 .

# Everything that needs no cluster: lints and each package's own tests
check: lint build
    cargo nextest run --workspace -E 'not package(e2e) + binary(dependencies) + binary(generic)'

# Everything but what Slurm says and does by cgroup: `just slurm` and `just contract` have that, too
test: lint fixtures images build instructions
    @.ci/tests --workspace -E 'not test(/^slurm_cgroup::/)'

# The stories on the embedded cluster; takes names of tests
story *NAMES: fixtures build
    @.ci/tests --workspace -E 'binary(stories) & test(/^embedded::/)' "$@"

# The stories on containers; takes names of tests
e2e *NAMES: fixtures images build
    @.ci/tests --workspace -E 'binary(stories) & test(/^docker/)' "$@"

# The stories on containers with Slurm itself, by linuxproc and by cgroup; takes names of tests
slurm *NAMES: fixtures images build
    @.ci/tests --workspace -E 'binary(stories) & test(/^slurm/)' "$@"

# One table of commands and what Slurm answers, against the mock and Slurm itself; takes groups, such as squeue
contract *NAMES: fixtures images build
    @.ci/tests --workspace -E 'binary(contract)' "$@"

# The story of a real code-server as the IDE, which is installed for it
code-server: fixtures build
    @fixtures/install code-server
    cargo nextest run --workspace --run-ignored only -E 'binary(code_server)'

# What a first-class proxy must do, as a table, against ours or PROXY=path; takes rows, such as A19 or C
conformance *ARGS: build
    @{{ programs }}/debug/conformance "$@"

# Any proxy and any manager by stories and by `conformance`, as a table: takes PROXY=path, MANAGER=url, CLUSTER=docker
judge *ARGS: fixtures build
    @e2e/judge {{ programs }}/debug/judge "$@"

# The same for the original proxy, built by Go from a checkout of one's own: takes SRC=path
judge-original *ARGS: fixtures build
    @e2e/judge-original {{ programs }}/debug/judge "$@"

# Real dev servers in a real browser behind each front, as a matrix; takes cases, fronts, --browser firefox
compat *ARGS: fixtures build
    @fixtures/install `{{ programs }}/debug/compat --packages "$@"`
    {{ programs }}/debug/compat "$@"

# Users work while faults fall, ten minutes: takes SEED=N, MINUTES=N, CLUSTER=docker; a seed takes the same steps again
chaos *ARGS: fixtures build
    @{{ programs }}/debug/chaos "$@"

# A cluster to try by hand: prints an address for each user, ends on Ctrl-C
demo *ARGS: demo-ready
    @exec {{ programs }}/debug/demo "$@"

[private]
demo-ready: fixtures build

# A picture of each state of the manager's page, into docs/screenshots/
screenshots: fixtures build
    cargo nextest run --workspace --run-ignored only -E 'binary(page)'

# Licences, sources, bans and known advisories of every dependency
deny: deny-advisories
    cargo nextest run --workspace -E 'binary(dependencies)'

# The RustSec database in full where cargo-deny and the database are to be had
[private]
deny-advisories:
    @.ci/advisories

# Install the dev servers that stories start and the accessibility checker, from their lock files
fixtures:
    @fixtures/install live-server browser-sync vite socketio axe

# Build the images of the docker and slurm backends
images: fixtures
    @slurm-sim/image/engine.sh .cache/dockerd.log
    @slurm-sim/image/build.sh

# A cluster of real Slurm to try commands on, in containers hpc-slurm-*; takes linuxproc or cgroup
slurm-up PROCTRACK="linuxproc": images
    slurm-sim/image/slurm-by-hand up "$1"

# Remove it
slurm-down:
    slurm-sim/image/slurm-by-hand down

# Write the manual pages and completions of hpc-proxy anew from its command line
reference:
    HPC_PROXY_WRITE_REFERENCE=1 cargo nextest run --workspace -E 'package(hpc-proxy) & test(the_manual_and_the_completions)'

# Build what ships into dist/: the static hpc-proxy, packages, a list of contents, checksums
dist:
    @proxy/packaging/build all dist

# Prove what `dist` has built: the same bytes from another place, in an empty image, each package installed
dist-check:
    @slurm-sim/image/engine.sh .cache/dockerd.log
    @proxy/packaging/check dist

# Build the container image of the manager, hpc-manager:local
manager-image:
    @slurm-sim/image/engine.sh .cache/dockerd.log
    cargo build --release --package manager-sim --bin hpc-manager
    manager-sim/image/build.sh {{ programs }}/release/hpc-manager
    docker run --rm --network none hpc-manager:local --version

# What the proxy costs, alone and beside nginx, HAProxy and none, into bench/RESULTS.md; takes the flags of `bench`
bench *ARGS: release
    @bench/apart {{ programs }}/release/bench "$@"

# Whether a request costs more instructions than it did, by callgrind; --write keeps the counts
instructions *ARGS:
    cargo build --profile counted --package hpc-proxy --example instructions
    {{ programs }}/counted/examples/instructions proxy/benches/instructions.txt "$@"

# What the proxy withstands, at full size; takes names of scenarios and `--scale X`
soak *ARGS: release
    {{ programs }}/release/soak "$@"

# Any bytes against the readers of bytes, SECONDS for each target, into a table; takes names of targets
fuzz SECONDS="1800" *TARGETS:
    @fuzz/run "$@"

# Apart, so that the proxy is built as `dist` builds it.
[private]
release:
    cargo build --release --package hpc-proxy --bin hpc-proxy
    cargo build --release --package bench --bins
    cargo build --release --package manager-sim --package slurm-sim --package ide-stand-in --bins

# Remove what killed runs left behind: containers, networks, directories
clean:
    @.ci/sweep
