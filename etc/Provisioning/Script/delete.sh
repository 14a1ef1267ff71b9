#!/bin/sh
# An example for TYPE = Script: removes the directory of an entry.
#
#   delete.sh NAME
#
# Arguments, environment and exit codes: see add.sh. If the directory does not exist, the script succeeds.

set -eu

root=/srv/directories # the same in add.sh

name=$1
case $name in
. | .. | */*)
    echo "delete.sh: $name cannot be the name of a directory" >&2
    exit 1
    ;;
esac
if [ ! -d "$root" ]; then
    echo "delete.sh: $root is not there, perhaps it is not mounted" >&2
    exit 75
fi

# Mounts below are not emptied.
rm -rf --one-file-system -- "$root/$name"
echo "delete: $root/$name is gone"
