# The front door. Each target first installs what it needs and says so (scripts/prepare.py); .venv and build/ hold all
# that is made, and `make clean` removes both.
PYTHON ?= python3

VENV := .venv/bin/python
SHORT := c python
FULL := lint gcc clang debug sanitizers threads ftz emulated avx512 musl windows fuzz fast-math consume combinations

PREFIX ?= /usr/local

.PHONY: help demo install test test-all $(addprefix test-,$(SHORT) $(FULL)) test-scale test-peers wheels bench bench-files bench-peers docs lint format fuzz coverage mutate clean

help:
	@echo 'make demo             install what is missing, build, and quantize word vectors and a sentence encoder'
	@echo 'make test             install what is missing, build once, and test all that the product does: some minutes'
	@echo 'make test-all         what that leaves out: every compiler, sanitizer and processor, other builds, lint'
	@echo 'make test-NAME        one part of the first ($(SHORT))'
	@echo '                      or of the second ($(FULL))'
	@echo 'make test-scale       plans, tables and vectors on Dask, Ray, MPI and Spark, which it installs: some minutes'
	@echo 'make test-peers       the programs whose files this one reads and writes, which it installs where it can, say'
	@echo '                      whether they find the same numbers: some minutes, and a quarter of an hour of compiling'
	@echo 'make wheels           the wheels that can be built here, each tested: native, sdist, aarch64, free-threaded, musl;'
	@echo '                      the last two build a CPython first: half an hour (KINDS="native sdist" makes some)'
	@echo 'make install          build the C libraries and the tool, and install them (PREFIX=/usr/local, DESTDIR)'
	@echo 'make bench            measure this machine: GB/s of every operation against the memory limit'
	@echo 'make bench-files      measure the tool on model files against copying them'
	@echo 'make bench-peers      measure products and searches beside other libraries, which it installs, and'
	@echo '                      PyTorch and ggml (llama-cpp-python) where they are installed;'
	@echo '                      the table of searches goes to docs/performance.md: 20 minutes'
	@echo 'make docs             build the documentation: build/docs/index.html'
	@echo 'make lint             check form and find likely mistakes, in C and Python'
	@echo 'make format           bring the sources into form'
	@echo 'make fuzz             feed broken files to the readers, FUZZ_SECONDS=60 for each of their kinds'
	@echo 'make coverage         which lines and branches of the file library its C tests reach (FOLDER=containers)'
	@echo 'make mutate           plant small bugs one at a time, to see which of them the tests notice: half an hour'
	@echo 'make clean            remove build/ and .venv/'

demo:
	@$(PYTHON) scripts/prepare.py build
	@$(VENV) scripts/test.py --install
	@$(VENV) examples/demo/demo.py
	@$(VENV) examples/demo/sentences.py

install:
	@$(PYTHON) scripts/prepare.py build
	@mkdir -p build/logs
	@.venv/bin/cmake --log-level=WARNING -S . -B build/install -DCMAKE_INSTALL_PREFIX=$(PREFIX) \
	    -DQUANTIZE_BUILD_TESTS=OFF -DQUANTIZE_BUILD_BENCH=OFF > build/logs/install.log
	@.venv/bin/cmake --build build/install >> build/logs/install.log
	@.venv/bin/cmake --install build/install

test:
	@$(PYTHON) scripts/prepare.py test
	@$(VENV) scripts/test.py

test-all:
	@$(PYTHON) scripts/prepare.py all
	@$(VENV) scripts/test.py all

$(addprefix test-,$(SHORT)): test-%:
	@$(PYTHON) scripts/prepare.py test
	@$(VENV) scripts/test.py $*

$(addprefix test-,$(FULL)): test-%:
	@$(PYTHON) scripts/prepare.py all
	@$(VENV) scripts/test.py $*

test-scale:
	@$(PYTHON) scripts/prepare.py scale
	@$(VENV) scripts/test.py scale

test-peers:
	@$(PYTHON) scripts/prepare.py test
	@$(VENV) scripts/test.py peers

wheels:
	@$(PYTHON) scripts/prepare.py wheels
	@$(VENV) scripts/wheels.py $(KINDS)

bench:
	@$(PYTHON) scripts/prepare.py build
	@$(VENV) scripts/test.py --install
	@.venv/bin/cmake --log-level=WARNING -S . -B build/bench -DQUANTIZE_BUILD_TESTS=OFF > build/logs/bench.log
	@.venv/bin/cmake --build build/bench >> build/logs/bench.log
	@$(VENV) bench/report.py $(if $(JSON),--json $(JSON))

bench-files:
	@$(PYTHON) scripts/prepare.py build
	@$(VENV) scripts/test.py --install
	@$(VENV) bench/files.py

bench-peers:
	@$(PYTHON) scripts/prepare.py peers
	@$(VENV) scripts/test.py --install
	@OPENBLAS_NUM_THREADS=1 $(VENV) bench/peers_products.py
	@OPENBLAS_NUM_THREADS=1 $(VENV) bench/peers_search.py build/vectors --write docs/performance.md

docs:
	@$(PYTHON) scripts/prepare.py build
	@$(VENV) scripts/test.py --install
	@$(VENV) -m sphinx -q -b html docs build/docs
	@echo build/docs/index.html

FUZZ_SECONDS ?= 60
fuzz:
	@$(PYTHON) scripts/prepare.py fuzz
	@$(VENV) scripts/fuzz.py $(FUZZ_SECONDS)

coverage:
	@$(PYTHON) scripts/prepare.py coverage
	@$(VENV) scripts/coverage.py $(FOLDER)

mutate:
	@$(PYTHON) scripts/prepare.py test
	@$(VENV) scripts/test.py --install
	@$(VENV) scripts/mutate.py $(if $(SAMPLE),--sample $(SAMPLE))

lint:
	@$(PYTHON) scripts/prepare.py lint
	@$(VENV) scripts/lint.py

format:
	@$(PYTHON) scripts/prepare.py build
	@$(VENV) scripts/lint.py --fix

clean:
	rm -rf build .venv
