#!/bin/sh
# numba must be able to write to its cache folder: it gets a copy of the loops compiled when the image was built. They
# replace those of another version in a folder that is kept: numba does not see that a loop's callee has changed.
set -eu
if ! { mkdir -p "$NUMBA_CACHE_DIR" && cp -R --remove-destination /opt/fraud-worker/compiled/. "$NUMBA_CACHE_DIR"; }; then
    echo "fraud-worker: NUMBA_CACHE_DIR = $NUMBA_CACHE_DIR cannot be written to: mount a tmpfs at /tmp" >&2
    exit 2
fi
exec fraud-worker "$@"
