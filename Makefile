# Every target works from a bare clone: the first one run builds .venv.
# Kept to what GNU Make 3.81 understands, which is what macOS ships.

.DEFAULT_GOAL := help
.PHONY: help repro queue pull push verify s3 test test-all lint bench smoke \
  verify-repro lock venv clean

BIN := .venv/bin
# Stages are run as `python stages/NAME.py`: that python must be the venv's.
WITH_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"

# What looks random is a hash here: dvc.lock and requirements.lock are full of them.
SECRETS := --no-verify --disable-plugin HexHighEntropyString \
  --disable-plugin Base64HighEntropyString

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
	while IFS='|' read -r target text; do printf '  make %-14s %s\n' "$$target" "$$text"; done

repro: venv ## run the pipeline, only what changed (dvc repro), and check the cache
	@$(WITH_VENV) $(BIN)/python -m tools.repro $(ARGS)

queue: venv ## run the queued experiments, tell which have no result
	@$(WITH_VENV) $(BIN)/python -m tools.experiments $(ARGS)

pull: venv ## fetch models, demonstrations and videos, verify them, check them out
	@$(WITH_VENV) $(BIN)/python -m tools.storage pull $(ARGS)

push: venv ## send them to the remote and read them back
	@$(WITH_VENV) $(BIN)/python -m tools.storage push $(ARGS)

verify: venv ## rehash cache and workspace, heal what is damaged
	@$(WITH_VENV) $(BIN)/python -m tools.storage verify $(ARGS)

s3: venv ## run an S3 server on this machine and make it the remote
	@$(WITH_VENV) $(BIN)/python -m tools.s3 $(ARGS)

test: venv ## run the fast tests, on all cores
	@$(WITH_VENV) $(BIN)/python -m pytest -n logical -m "not slow"

test-all: test ## run every test, the slow ones too
	@$(WITH_VENV) $(BIN)/python -m pytest -m slow

lint: venv ## check style, formatting, types and that dvc.yaml parses
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/dvc stage list --name-only > /dev/null
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook $(SECRETS)

bench: venv ## measure speed against the machine's limit (twelve minutes)
	@$(WITH_VENV) $(BIN)/python -m benchmarks

smoke: venv ## run the whole pipeline, small, and the notebook in a throw-away copy
	@$(WITH_VENV) $(BIN)/python -m tools.smoke

verify-repro: venv ## run the small pipeline in two clones and compare every byte
	@$(WITH_VENV) $(BIN)/python -m tools.verify_repro

lock: venv ## renew requirements.lock to the newest versions that fit
	$(BIN)/uv pip compile pyproject.toml --group dev --group fceumm --universal \
	  --python-version 3.13 \
	  --generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
	  --upgrade --quiet --output-file requirements.lock

venv: ## build .venv from requirements.lock if it is not up to date
	@sh tools/setup_venv.sh

clean: ## remove .venv and caches of tools; keep data, models, metrics, plots
	@sh tools/setup_venv.sh remove
	rm -rf benchmarks/.legacy-venv .pytest_cache .ruff_cache .hypothesis dvc_plots
	find . -name .git -prune -o -name .dvc -prune -o -type d -name __pycache__ \
	  -exec rm -rf {} +
