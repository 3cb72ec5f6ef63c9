#!/usr/bin/env bash
# Checks the product's files and numbers with the tools that will read them: PyTorch, transformers, tokenizers, numpy.
# Python: $ASCENDFLOW_PYTHON, else .venv, which is made where there is none. One line a check, also to $INTEROP_REPORT.
set -euo pipefail
cd "$(dirname "$0")/../.."

python="${ASCENDFLOW_PYTHON:-.venv/bin/python}"
packages=(torch transformers safetensors tokenizers numpy)
has_packages() { "$python" -c 'import numpy, safetensors, tokenizers, torch, transformers' 2>/dev/null; }
stop() {
  echo "test/interop: $1" >&2
  exit 1
}

if ! has_packages; then
  [[ -z "${ASCENDFLOW_PYTHON:-}" ]] || stop "ASCENDFLOW_PYTHON ($python) cannot import all of: ${packages[*]}"
  echo "making .venv with ${packages[*]} (once; some minutes)"
  python3 -m venv .venv || stop 'python3 -m venv .venv failed: is Python 3.10 or newer, with venv, installed?'
  "$python" -m pip install --quiet --disable-pip-version-check --retries 2 "${packages[@]}" ||
    stop "pip could not install ${packages[*]}"
  has_packages || stop "installed, but cannot be imported: ${packages[*]}"
fi

node scripts/build-if-stale.mjs

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
report="${INTEROP_REPORT:-$work/report.txt}"
: >"$report"
export INTEROP_REPORT="$report" HF_HUB_OFFLINE=1 HF_HUB_DISABLE_PROGRESS_BARS=1 TRANSFORMERS_VERBOSITY=error
export PYTHONDONTWRITEBYTECODE=1 TOKENIZERS_PARALLELISM=false
# Two threads of OpenMP spin a hundred times longer than they compute where another process has one of two cores.
export OMP_NUM_THREADS=1

for check in legality checkpoint reshard round_trip text training quickstart; do
  mkdir "$work/$check"
  status=0
  "$python" "test/interop/$check.py" "$work/$check" || status=$?
  [[ "$status" == 0 ]] || echo "not ok $check - stopped with exit code $status" | tee -a "$report"
done

passed="$(grep -c '^ok ' "$report" || true)"
failed="$(grep -c '^not ok ' "$report" || true)"
echo "$passed checks passed, $failed failed"
[[ "$failed" == 0 && "$passed" -gt 0 ]]
