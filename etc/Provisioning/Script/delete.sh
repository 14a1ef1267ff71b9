#!/bin/sh
# An example for TYPE = Script: the directory of an entry goes.
#
#   delete.sh NAME
#
# Arguments, environment and exit codes: see add.sh. To be asked for something that is gone already is no failure.

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

# Nothing that is mounted below is emptied.
rm -rf --one-file-system -- "$root/$name"
echo "delete: $root/$name is gone"
