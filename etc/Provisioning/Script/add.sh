#!/bin/sh
# An example for TYPE = Script: a directory for each entry, with a file that says whose it is.
#
#   add.sh NAME
#
# The daemon starts it without a shell, a terminal or input, with no more than this environment:
#   PROV_ACTION           add, modify or delete
#   PROV_JOB_ID           the job's number
#   PROV_ATTEMPT          1, and higher when the same job is tried again or was cut off by a crash
#   PROV_DN               the entry's name in the directory
#   PROV_REPORT_SOCKET  PROV_JOB_TOKEN    with which `prov-backup-rsnapshot report -p 50` tells how far it is
#   PATH  LANG  LC_ALL
# and for each attribute that ATTRIBUTES names, here mail:
#   PROV_ATTR_MAIL_COUNT  how many values there are; 0 for none
#   PROV_ATTR_MAIL_1 …    each value; their order means nothing
#   PROV_ATTR_MAIL        the value, where there is just one
# A value that is no text, or has control characters other than TAB and line feed, comes in base64 under the same name with _BASE64 at its
# end, such as PROV_ATTR_JPEGPHOTO_BASE64.
#
# NAME is the entry's uid where it has just one, else the value in its DN. It has no control characters, begins with no hyphen and is no
# longer than 255 bytes. That is all that is sure: whoever writes entries chooses it, and it may be `..` or `a/b`.
#
# Exit code 0: done. 75: try again later. Anything else, a signal or running out of time: it stands on the entry as failed, and the end of
# the output goes into the log. After a crash the same action is run again, so bring about a state (mkdir -p) and do not take a step (mkdir).

set -eu
umask 022

# What follows works by name, so the directories must stay root's: nobody else may rename anything in them. To give somebody a place of their own,
# make a directory in it and give that one to them, when it is new: install -d -o USER -m 0700.
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
# Written whole or not at all: a file of another name is put in its place.
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
