#!/bin/bash
# The home script of prov-backup-rsnapshot (setting HOME_SCRIPT), and a model for one of your own.
#
#   create-chroot.sh UID HOME UIDNUMBER GIDNUMBER
#
# The daemon starts it without a shell, without a terminal and with no more than this environment:
#   PROV_ACTION         add, modify or delete
#   PROV_JOB_ID         the job's number
#   PROV_ATTEMPT        1, and higher when the same job is tried again or was cut off by a crash
#   PROV_DN             the entry's name in the directory
#   PROV_UID  PROV_HOME  PROV_UID_NUMBER  PROV_GID_NUMBER    as the arguments
#   PROV_QUOTA_BYTES    the account's limit; 0 is none. The daemon sets it itself, after this script
#   PROV_REPORT_SOCKET  where `prov-backup-rsnapshot report` sends progress to
#   PROV_OWNERSHIP      account: give the account what is its own; none: leave all to the caller (trying out without root)
#
# Exit code 0: all is well. 75: try again later. Anything else, a signal or running out of time: the account is not provisioned, and
# the end of the output goes into the log. It must be idempotent: after a crash the same action is run again.
#
# Who owns what decides whether it is safe. rsnapshot works as root in .snapshots, and sshd demands a chroot that is root's: so all
# folders down to the home, the home and .snapshots are root's. Only incoming (uploads) and .ssh (keys) are the account's.

set -euo pipefail
umask 022
export LC_ALL=C

die() {
    echo "create-chroot.sh: $*" >&2
    exit 1
}

# --- What was asked for -----------------------------------------------------------------------------------------------------------

[ $# -eq 4 ] || die "needs just four arguments: UID HOME UIDNUMBER GIDNUMBER"
uid=$1 home=$2 uid_number=$3 gid_number=$4
action=${PROV_ACTION:-}
ownership=${PROV_OWNERSHIP:-account}

[[ $uid =~ ^[1-9][0-9]{6,9}$ ]] || die "the uid must be a number of seven digits or more"
[[ $uid_number == "$uid" ]] || die "UIDNUMBER must be the same number as UID"
[[ $gid_number =~ ^[1-9][0-9]{3,9}$ ]] || die "GIDNUMBER must be a number of 1000 or more"
[[ $home =~ ^(/[A-Za-z0-9._+=@,-]+)+$ ]] || die "HOME must be an absolute path of letters, digits and ._-+=@,"
[[ $home/ != */../* && $home/ != */./*/./* && $home/ != */./ ]] || die "HOME must have no .. and no more than one /./"
[[ $home == */"$uid" ]] || die "HOME must end in the uid"
case $ownership in
account) [ "$EUID" -eq 0 ] || die "must be run by root, or with PROV_OWNERSHIP=none" ;;
none) ;;
*) die "PROV_OWNERSHIP must be account or none" ;;
esac

case $action in
add | modify) ;;
delete)
    # The daemon keeps, archives or removes the home by itself (setting ON_DELETE) once this script has ended well. Undo here what
    # you did besides the home: bind mounts, a system user, firewall rules.
    exit 0
    ;;
*) die "PROV_ACTION must be add, modify or delete" ;;
esac

# The part before /./ is the chroot.
chroot=
[[ $home == */./* ]] && chroot=${home%%/./*}
path=${home/\/.\///}

# --- Folders ----------------------------------------------------------------------------------------------------------------------

# Folders that only root, or whoever runs this, can change.
trusted() {
    local facts owner mode
    facts=$(stat -c '%u %a' -- "$1")
    owner=${facts% *} mode=${facts#* }
    { [ "$owner" -eq 0 ] || [ "$owner" -eq "$EUID" ]; } && (((8#$mode & 8#022) == 0))
}

# make_folder PATH MODE [OWNER]: makes a folder under a name of its own and renames it when owner and mode are right, so that after a
# crash it is there as it should be or not at all. What exists is left as it is.
make_folder() {
    local folder=$1 mode=$2 owner=${3:-} temporary
    [ ! -L "$folder" ] || die "$folder is a symbolic link"
    if [ -d "$folder" ]; then return; fi
    [ ! -e "$folder" ] || die "$folder is not a folder"
    temporary=${folder%/*}/.new-$uid-${folder##*/}
    [ ! -L "$temporary" ] || die "$temporary is a symbolic link"
    [ -d "$temporary" ] || mkdir -m 0700 -- "$temporary"
    if [ -n "$owner" ] && [ "$ownership" = account ]; then chown -- "$owner" "$temporary"; fi
    chmod -- "$mode" "$temporary"
    # Another account's job may have made a common parent meanwhile: then theirs stays.
    mv -nT -- "$temporary" "$folder" || true
    if [ -d "$temporary" ]; then rmdir -- "$temporary"; fi
    [ -d "$folder" ] || die "$folder could not be made"
}

# The account's own folder is a subvolume where the file system is btrfs, so that it can have a limit of its own.
make_account_folder() {
    if [ ! -e "$1" ] && [ "$(stat -f -c %T -- "${1%/*}")" = btrfs ] && command -v btrfs >/dev/null; then
        btrfs subvolume create "$1" >/dev/null
    fi
    make_folder "$1" 0755
}

# take_over FOLDER: a folder of an earlier time that the account could change becomes root's. The one above it is root's already, so
# nobody can put something else in its place meanwhile.
take_over() {
    trusted "$1" && return
    [ "$ownership" = account ] || die "$1 can be changed by others: chmod go-w $1"
    chown -h -- root:root "$1"
    chmod -- go-w "$1"
}

current=
own=no # whether the walk has come to the account's own folder
rest=${path#/}/
while [ -n "$rest" ]; do
    name=${rest%%/*}
    rest=${rest#*/}
    parent=${current:-/}
    current=$current/$name
    if [ "$own" = yes ]; then
        make_folder "$current" 0755
        take_over "$current"
    elif [ "$name" = "$uid" ]; then
        own=yes
        trusted "$parent" || die "$parent can be changed by others than root: chown root $parent; chmod go-w $parent"
        make_account_folder "$current"
        take_over "$current"
    elif [ -L "$current" ]; then
        # A link on the way to the homes is the administrator's choice, where nobody else can have put it.
        trusted "$parent" || die "$current is a symbolic link in a folder that others can change"
        [ -d "$current" ] || die "$current is a symbolic link that leads to no folder"
    elif [ ! -d "$current" ]; then
        trusted "$parent" || die "$parent can be changed by others than root: chown root $parent; chmod go-w $parent"
        make_folder "$current" 0755
    fi
done

# --- The chroot -------------------------------------------------------------------------------------------------------------------

if [ -n "$chroot" ]; then
    # In a chroot of an earlier time the account may have left links and folders of its own, such as etc -> /etc, and what follows would
    # write through them. Its own folders in the home are no part of this.
    foreign=$(find "$chroot" -path "$path" -prune -o ! -uid 0 ! -uid "$EUID" -print -quit)
    [ -z "$foreign" ] || die "$foreign, where programs are put for the account, belongs to another than root: move it away"
    if [ "$ownership" = none ]; then
        echo "PROV_OWNERSHIP is none: $chroot gets its folders and no programs"
    elif ! command -v jk_init >/dev/null; then
        echo "jailkit is not installed: $chroot gets its folders and no programs (apt install jailkit)"
    else
        # What a client needs to upload: sftp, scp and rsync.
        jk_init -j "$chroot" sftp scp rsync
        mkdir -p -m 0755 -- "$chroot/etc"
        for file in passwd group; do
            [ ! -L "$chroot/etc/$file" ] || die "$chroot/etc/$file is a symbolic link"
        done
        # The account must know itself by name inside.
        grep -qs "^$uid:" "$chroot/etc/passwd" ||
            echo "$uid:x:$uid_number:$gid_number::/${home#*/./}:/bin/sh" >>"$chroot/etc/passwd"
        grep -qs "^[^:]*:[^:]*:$gid_number:" "$chroot/etc/group" || echo "$uid:x:$gid_number:" >>"$chroot/etc/group"
    fi
fi

# --- What clients of the service expect in a home -----------------------------------------------------------------------------------

make_folder "$path/incoming" 0750 "$uid_number:$gid_number"
make_folder "$path/.ssh" 0700 "$uid_number:$gid_number"
# Last, so that its presence says that the home is whole. With SNAPSHOTS = readonly the daemon mounts the snapshots here.
make_folder "$path/.snapshots" 0755
take_over "$path/.snapshots"
