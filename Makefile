# Each target sets up what it needs in .venv first; nothing is installed outside the checkout.
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
TORCH := 2.13.0
# All dependencies have wheels for 3.10 to 3.13.
CANDIDATES := python3.11 python3.12 python3.13 python3.10 python3

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE := 1

# PYTHON=python3 takes a Python that has torch, the package's other dependencies and pytest, and installs nothing.
READY := $(if $(filter $(VENV)/bin/python,$(PYTHON)),$(STAMP))
FIGURES := Resources/benchmark-cuda.md
FAMILIES := scribbleprompt multiverseg limnet propagation verse tis

.PHONY: help demo test lint test-cuda cuda-figures test-slicer tour

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' $(MAKEFILE_LIST)

demo: $(STAMP) ## build a small study, segment it, write demo/report.html
	$(VENV)/bin/interactive-seg demo --output demo

test: lint ## run the linter and all tests
	QT_QPA_PLATFORM=offscreen $(PYTHON) -m pytest

test-cuda: $(READY) ## with a CUDA device: the tests that need it, then cuda-figures; a test that fails is told in the end
	@rm -f $(FIGURES)
	@failed=0; \
	$(PYTHON) -m pytest -m cuda Testing/lib/test_cuda.py || failed=$$?; \
	$(MAKE) --no-print-directory cuda-figures || failed=$$?; \
	test $$failed = 0 || echo "make test-cuda: something failed, see above; the figures are in $(FIGURES)." >&2; \
	exit $$failed

cuda-figures: $(READY) ## add memory and speed on CUDA to FIGURES=file, one family after the other: FAMILIES="verse tis"
	@failed=0; \
	for family in $(FAMILIES); do \
		$(PYTHON) -m InteractiveSegLib.cli benchmark --memory --families $$family --device cuda >> $(FIGURES) || failed=1; \
		$(PYTHON) -m InteractiveSegLib.cli benchmark --families $$family --device cuda >> $(FIGURES) || failed=1; \
		case $(if $(AUTHORS),$$family,none) in multiverseg|limnet|propagation|verse) \
			$(PYTHON) -W ignore Testing/authors.py $(AUTHORS) --rows $$family --device cuda >> $(FIGURES) || failed=1;; \
		esac; \
	done; \
	cat $(FIGURES); exit $$failed

test-slicer: ## run the self-tests in an application: make test-slicer SLICER=/path/to/Slicer
	@test -x "$(SLICER)" || { echo "Give the application: make test-slicer SLICER=/path/to/Slicer" >&2; exit 2; }
	Testing/slicer/run.sh "$(SLICER)"

tour: $(STAMP) ## draw a radiologist's hour on slicer-core into tour/, and time the write-back
	QT_QPA_PLATFORM=offscreen $(PYTHON) Testing/lib/extension/tour.py --output tour $(if $(SCREENSHOTS),--screenshots $(SCREENSHOTS))

lint: $(STAMP) ## run the linter
	$(VENV)/bin/ruff check .

# Torch first and alone: it is the largest download, and pip does not repeat it when another package fails.
$(STAMP): pyproject.toml
	@if ! $(PYTHON) -c '' 2>/dev/null; then \
		for python in $(CANDIDATES); do \
			if $$python -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
				echo "$$python -m venv $(VENV)" && $$python -m venv --clear $(VENV) && break; \
			fi; \
		done; \
	fi; \
	$(PYTHON) -c '' 2>/dev/null || { \
		echo "Python 3.10 to 3.13 with its venv module is needed: install it (Debian and Ubuntu: apt install python3-venv)." >&2; \
		exit 1; \
	}
	$(PYTHON) -m pip install --quiet torch==$(TORCH)
	$(PYTHON) -m pip install --quiet --editable '.[test]'
	@touch $@
