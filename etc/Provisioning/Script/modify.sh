#!/bin/sh
# An example for TYPE = Script: does the same for a changed entry as add.sh for a new one.
#
#   modify.sh NAME
#
# Arguments, environment and exit codes: see add.sh.

set -eu
exec "${0%/*}/add.sh" "$@"
