#!/bin/sh
# The laws of the C functions once more, with the address and undefined behaviour sanitizers of gcc watching.
#
# Everything happens in a copy: the built module of the tree stays as it is. Python takes its memory from malloc, so
# that the sanitizer also sees the borders of buffers that Python owns. Usage: tests/sanitize.sh PYTHON [PYTEST ARGUMENTS]
set -eu
python=$1
shift
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r media signaling server tests load_tests setup.py pyproject.toml "$copy"
cd "$copy"
rm -f media/native/_fanout*.so load_tests/native/_generator*.so
CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -g -O1" \
    "$python" setup.py build_ext --inplace >build.log 2>&1
ls media/native/_fanout*.so load_tests/native/_generator*.so >/dev/null || { cat build.log; exit 1; }
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
    PYTHONMALLOC=malloc CONSILIUM_FORWARD=c CONSILIUM_GENERATOR=c "$python" -m pytest -q -p no:cacheprovider --capture=no "$@" \
    tests/property/test_media_account_laws.py tests/property/test_media_fanout_laws.py \
    tests/property/test_media_intake_laws.py tests/property/test_media_check_laws.py \
    tests/property/test_load_generator_laws.py tests/property/test_load_generator_wire_laws.py
