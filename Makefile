# Every target does its own set-up: on a machine with Python and make, `make bench` and `make test` are all one types.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# One thread for each process: threads of two processes on the same cores wait for each other.
TESTENV := OMP_NUM_THREADS=1 MPLBACKEND=Agg

.PHONY: bench bench-masking bench-neurocodec bench-eeg2speech test slow lint report leaderboard clean

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
