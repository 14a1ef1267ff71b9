#!/bin/sh
# An example for TYPE = Script: a directory for each entry, with a file that names its owner.
#
#   add.sh NAME
#
# The daemon starts it without a shell, a terminal or input, with only this environment:
#   PROV_ACTION           add, modify or delete
#   PROV_JOB_ID           the job's number
#   PROV_ATTEMPT          1, and higher when the same job is tried again or was interrupted by a crash
#   PROV_DN               the entry's DN
#   PROV_REPORT_SOCKET  PROV_JOB_TOKEN    for `prov-backup-rsnapshot report -p 50`, which reports progress
#   PATH  LANG  LC_ALL
# and for each attribute that ATTRIBUTES names, here mail:
#   PROV_ATTR_MAIL_COUNT  the number of values
#   PROV_ATTR_MAIL_1 …    each value, in no order
#   PROV_ATTR_MAIL        the value, if there is exactly one
# A value that is not text, or has control characters other than TAB and line feed, is encoded in base64, and the name of its variable ends in
# _BASE64, such as PROV_ATTR_JPEGPHOTO_BASE64.
#
# NAME is the entry's uid if it has exactly one, else the value in its DN. It has no control characters, does not begin with a hyphen and is at
# most 255 bytes long. Nothing else is guaranteed: the writer of the entry chooses it, and it may be `..` or `a/b`. No two entries are worked on
# with one uid, but a value from the DN may be that of another entry as well: this example takes both for the same directory.
#
# Exit code 0: done. 75: try again later. Anything else, a signal or the time limit: the entry gets the state failed, and the end of the
# output is logged. After a crash the same action is run again, so it must be idempotent: write mkdir -p, not mkdir.

set -eu
umask 022

# This script works by name as root, so the directories must belong to root, and other users must not be able to rename anything in them. To give
# a user a directory, make one inside and give that to the user when it is new: install -d -o USER -m 0700.
root=/srv/directories # the same in delete.sh

name=$1
case $name in
. | .. | */*)
    echo "add.sh: $name cannot be the name of a directory" >&2
    exit 1
    ;;
esac
if [ ! -d "$root" ]; then
    echo "add.sh: $root is not there yet" >&2
    exit 75
fi

mkdir -p -- "$root/$name"
# Written to another name and renamed, so that the file is never incomplete.
new=$root/$name/.owner.new
{
    printf '%s\n' "$PROV_DN"
    number=1
    while [ "$number" -le "${PROV_ATTR_MAIL_COUNT:-0}" ]; do
        # A value that is no text has another name, and is left out here.
        eval "value=\${PROV_ATTR_MAIL_$number-}"
        if [ -n "$value" ]; then printf 'mail: %s\n' "$value"; fi
        number=$((number + 1))
    done
} >"$new"
mv -f -- "$new" "$root/$name/.owner"
echo "$PROV_ACTION: $root/$name is there"
