# Every target does its own set-up: on a machine with Python and make, `make bench` and `make test` are all one types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# One thread for each process: threads of two processes on the same cores wait for each other.
TESTENV := OMP_NUM_THREADS=1 MPLBACKEND=Agg

# Benchmarks that state ratios, and the suites of the committed leaderboard.
RATIOS := $(addprefix benchmarks/test_, latency.py scoring_speed.py controls_speed.py loader_speed.py report_speed.py \
	start_speed.py step_speed.py)
# As few as give ratios that repeat within some per cent: all of them take a quarter of an hour.
FEWER := SCORING_PAIRS=20 CONTROLS_SEGMENTS=2 REPORT_RECORDS=2000 LATENCY_SECONDS=4 STEP_SYSTEMS=dprnn,tfgridnet
BENCHMARKS := $(FEWER) $(TESTENV) $(BIN)/python -m pytest $(RATIOS) --benchmark-enable \
	--benchmark-json=runs/benchmarks.json
SUITES := $(addprefix --suite benchmarks/, leaderboard.yaml masking.yaml neurocodec.yaml retrieval.yaml \
	generation.yaml generation-baselines.yaml)
# Networks that have a published size.
PUBLISHED := basen brain_encoder dprnn eeg2speech m3anet neurocodec tfgridnet ubesd

.PHONY: bench bench-masking bench-neurocodec bench-eeg2speech bench-compare bench-store latency test slow lint report leaderboard clean

bench: $(READY)
	$(BIN)/eeg2speech run benchmarks/bench.yaml --out runs/bench

bench-masking: $(READY)
	$(BIN)/eeg2speech run benchmarks/bench-masking.yaml --out runs/bench

bench-neurocodec: $(READY)
	$(BIN)/eeg2speech run benchmarks/bench-neurocodec.yaml --out runs/bench

bench-eeg2speech: $(READY)
	$(BIN)/eeg2speech run benchmarks/bench-retrieval.yaml --out runs/bench
	$(BIN)/eeg2speech run benchmarks/bench-generation.yaml --out runs/bench

test: $(READY)
	$(TESTENV) $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

slow: $(READY)
	$(TESTENV) $(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# On an idle machine: ratios of a new run against the stored ones. What is worse by more than 20 %, or misses a bound of
# its own, is measured twice more; it fails if it does every time.
bench-compare: $(READY)
	mkdir -p runs
	$(BENCHMARKS) || test $$? = 1
	$(FEWER) $(TESTENV) $(BIN)/python benchmarks/compare.py runs/benchmarks.json --looks 3

bench-store: $(READY)
	mkdir -p runs
	$(BENCHMARKS) || test $$? = 1
	$(FEWER) $(TESTENV) $(BIN)/python benchmarks/compare.py runs/benchmarks.json --looks 3 --store

# On an idle machine, some three hours: all that results/latency holds of a CPU; what is there is not measured again.
latency: $(READY)
	$(BIN)/eeg2speech profile $(SUITES) --growth --missing
	for name in $(PUBLISHED); do \
		$(BIN)/eeg2speech profile $$name --set size=paper --name $$name-paper --grid short --window 4 --missing || exit 1; \
	done
	$(BIN)/eeg2speech report

report: $(READY)
	$(BIN)/eeg2speech report

leaderboard: $(READY)
	$(BIN)/eeg2speech leaderboard

# mamba-ssm and other extras are left out: they are for machines with a GPU.
$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip setuptools wheel
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
# What is left of the build lists the entry points of this day, and would hide those of a later one from `python -m`.
	rm -rf eeg2speech.egg-info
# descript-audiotools pins protobuf below 3.20, although nothing here needs that: it is installed without its
# dependencies. It is only there to check the two implementations of DAC against each other.
	$(BIN)/python -m pip install --quiet -c constraints.txt einops julius flatten-dict ffmpy importlib-resources randomname docstring-parser
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt descript-audio-codec descript-audiotools argbind
	touch $(READY)

clean:
	rm -rf runs build *.egg-info .mypy_cache .ruff_cache .pytest_cache
