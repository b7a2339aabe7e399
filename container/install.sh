#!/bin/sh
# Install slicesplat into an environment that nothing has to be written to afterwards: install.sh SOURCE FOLDER
#
# SLICESPLAT_PROCESSOR names the processor to compile for. PIP_EXTRA_INDEX_URL may name the index with PyTorch's CPU
# builds; without it pip takes what it finds, on x86-64 several gigabytes for CUDA.
set -eu
source=$1 folder=$2

python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --only-binary :all: --constraint "$source/constraints.txt" "$source"

# What no run needs: PyTorch's headers, its tests and its developers' tools but for the one that its import looks for.
torch=$(echo "$folder"/lib/python3*/site-packages/torch)
rm -rf "$torch/include" "$torch/test"
find "$torch/bin" -type f ! -name torch_shm_manager -delete

"$folder/bin/slicesplat" compile
"$folder/bin/pip" uninstall --quiet --yes setuptools pip
chmod -R a+rX,go-w "$folder"
