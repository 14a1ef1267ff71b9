#!/bin/sh
# An example for TYPE = Script: what an entry asks for is the same whether it is new or has changed.
#
#   modify.sh NAME
#
# Arguments, environment and exit codes: see add.sh.

set -eu
exec "${0%/*}/add.sh" "$@"
