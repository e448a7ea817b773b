# Each target does all its own set-up, in an environment of its own; it needs Python 3.10+ and make.
PYTHON ?= python3
TORCH_REQ ?= torch==2.13.0
VENV ?= .venv
# One environment per interpreter, so that `make test-runtime PYTHON=python3.10` leaves the others alone.
RUNTIME_VENV ?= .venv-runtime-$(notdir $(PYTHON))
DEMO_VENV ?= .venv-demo
OUT ?= gpu_check
# Of all kinds of file together.
MINUTES ?= 60
# Two test processes, however many cores there are: each may hold a network in training.
WORKERS ?= -n 2 --dist worksteal
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-all test-runtime fuzz gpu-check lint clean

$(VENV)/ready: setup.py
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP_INSTALL) "$(TORCH_REQ)"
	$(VENV)/bin/python $(PIP_INSTALL) -e '.[test]'
	touch $@

$(RUNTIME_VENV)/ready: setup.py
	$(PYTHON) -m venv $(RUNTIME_VENV)
	$(RUNTIME_VENV)/bin/python $(PIP_INSTALL) -e '.[test-runtime]'
	touch $@

$(DEMO_VENV)/ready: setup.py
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python $(PIP_INSTALL) -e '.[cpu,eval]'
	touch $@

# Under ten minutes, training included.
test: $(VENV)/ready lint
	$(VENV)/bin/python -m pytest $(WORKERS) -m "not full"

# What takes longer or needs more: the tests marked full, then all that runs a model as on other machines: with BF16
# and without, whatever this CPU has, and without OpenVINO and torch.
test-all: $(VENV)/ready test-runtime
	$(VENV)/bin/python -m pytest $(WORKERS) -m full
	EDGE_SSD_ASSUME_BF16=1 $(VENV)/bin/python -m pytest $(WORKERS) -m "not torch and not full"
	EDGE_SSD_ASSUME_BF16=0 $(VENV)/bin/python -m pytest $(WORKERS) -m "not torch and not full"

# What runs on a robot: no torch, no OpenVINO.
test-runtime: $(RUNTIME_VENV)/ready
	$(RUNTIME_VENV)/bin/python -m pytest $(WORKERS) -m "not torch and not full"

# Mutated files of every kind; what fails is kept in fuzz_failures/. With Atheris (extra `fuzz`), guided by coverage:
# python -m tests.fuzz KIND --guided
fuzz: $(VENV)/ready
	$(VENV)/bin/python -m tests.fuzz --minutes $(MINUTES)

lint: $(VENV)/ready
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	rm -rf build/typed && mkdir -p build/typed
	cp -r edge_ssd build/typed/ && cp -r kernels build_engine build/typed/edge_ssd/
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

# The demo model on the rendered camera: a video, JSON lines and a picture in demo_output/, then its AP
# against the camera's own truth, on frames that training never saw.
demo: $(DEMO_VENV)/ready
	$(DEMO_VENV)/bin/edge-ssd run --source 'demo://?seed=1000&frames=500' --output demo_output/demo.mp4 \
		--output demo_output/demo.jsonl --output demo_output/demo.png
	$(DEMO_VENV)/bin/edge-ssd eval --data 'demo://?seed=1000&frames=500' --report demo_output/ap.json

# On a machine with a GPU, with its own Python and what is installed there; nine minutes at most.
gpu-check:
	$(PYTHON) -m benchmarks.gpu.check --out $(OUT)

clean:
	rm -rf .venv* demo_output gpu_check build dist *.egg-info
