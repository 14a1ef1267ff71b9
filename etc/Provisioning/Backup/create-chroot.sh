#!/bin/bash
# The home script of prov-backup-rsnapshot (setting HOME_SCRIPT), and a model for one of your own.
#
#   create-chroot.sh UID HOME UIDNUMBER GIDNUMBER
#
# The daemon starts it without a shell, without a terminal and with only this environment:
#   PROV_ACTION         add, modify or delete
#   PROV_JOB_ID         the job's number
#   PROV_ATTEMPT        1, and higher when the same job is tried again or was interrupted by a crash
#   PROV_DN             the entry's DN
#   PROV_UID  PROV_HOME  PROV_UID_NUMBER  PROV_GID_NUMBER    as the arguments
#   PROV_QUOTA_BYTES    the account's quota; 0: none. The daemon sets it after this script
#   PROV_REPORT_SOCKET  where `prov-backup-rsnapshot report` sends progress to
#   PROV_OWNERSHIP      account: give directories to the account; none: do not (for trying out without root)
#
# Exit code 0: done. 75: try again later. Anything else, a signal or the time limit: the account is not provisioned, and the end of
# the output is logged. It must be idempotent: after a crash the same action is run again.
#
# It makes the directory HOME, those above it, and a chroot around it. The daemon makes incoming, .ssh and .snapshots afterwards.
#
# This script works by name as root, so other users must not be able to rename any directory of the path. The daemon takes over directories
# that an account could change before it starts this script; run by hand on such a home, it refuses. Nothing below HOME is touched.

set -Eeuo pipefail
umask 022
export LC_ALL=C

die() {
    echo "create-chroot.sh: $*" >&2
    exit 1
}

# Whether the volume of the home is full, has no inodes left, or is read-only. That is not the account's failure.
lacks_room() {
    local place=${account:-/} free size inodes free_inodes
    while [ ! -d "$place/." ]; do place=${place%/*}; done
    [ -w "$place/." ] || return 0
    read -r free size inodes free_inodes <<<"$(stat -f -c '%f %S %c %d' -- "$place/.")"
    # btrfs counts no inodes.
    ((free * size < 1048576 || inodes > 0 && free_inodes == 0))
}
trap 'if lacks_room; then exit 75; fi' ERR

# --- The request ------------------------------------------------------------------------------------------------------------------

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

# --- Directories ------------------------------------------------------------------------------------------------------------------

# The missing directories, and those that determine whether it is safe to make them: all that exist above the account's own, the deepest of
# them, and the account's own. A symbolic link above the account's directory is accepted if it belongs to root.
missing=() above=() deepest=/ own=() account=
rest=${path#/}/ current=
while [ -n "$rest" ]; do
    current=$current/${rest%%/*}
    if [ -z "$account" ] && [ "${rest%%/*}" = "$uid" ]; then account=$current; fi
    rest=${rest#*/}
    if [ ! -e "$current" ] && [ ! -L "$current" ]; then
        missing+=("$current")
    elif [ -n "$account" ]; then
        own+=("$current")
    else
        [ -d "$current" ] || die "$current is not a directory"
        above+=("$current" "$current/.") deepest=$current/.
    fi
done

# find does not follow links in its arguments. In a directory with the sticky bit, such as /tmp, users can rename only their own files.
foreign=(! -uid 0 ! -uid "$EUID")
unsafe=$(find / "${above[@]}" -maxdepth 0 \( "${foreign[@]}" -o ! -type l -perm /022 ! -perm -1000 \) -print -quit)
[ -n "$unsafe" ] ||
    unsafe=$(find "$deepest" "${own[@]}" -maxdepth 0 \( ! -type d -o "${foreign[@]}" -o -perm /022 \) -print -quit)
unsafe=${unsafe%/.}
if [ -n "$unsafe" ]; then
    [[ ! -L $unsafe || -z $account || $unsafe/ != "$account"/* ]] || die "$unsafe is a symbolic link"
    [ -d "$unsafe" ] || die "$unsafe is not a directory"
    die "$unsafe can be changed by others than root: let the daemon take it over (modify), or chown -h root $unsafe; chmod go-w $unsafe"
fi

# After a power failure each directory has its mode or does not exist. Another account's job may make the same parents at the same time.
make_directories() { [ $# -eq 0 ] || mkdir -p -m 0755 -- "$@"; }

# On btrfs the account's own directory is a subvolume, so that it can have a quota.
if [ ! -e "$account" ] && command -v btrfs >/dev/null; then
    above=()
    while [ "${missing[0]}" != "$account" ]; do above+=("${missing[0]}") missing=("${missing[@]:1}"); done
    make_directories "${above[@]}"
    if [ "$(stat -f -c %T -- "${account%/*}")" = btrfs ]; then
        btrfs subvolume create "$account" >/dev/null
        missing=("${missing[@]:1}")
    fi
fi
make_directories "${missing[@]}"

# --- The chroot -------------------------------------------------------------------------------------------------------------------

[ -n "$chroot" ] || exit 0
if [ "$ownership" = none ]; then
    echo "PROV_OWNERSHIP is none: $chroot gets its directories and no programs"
    exit 0
elif ! command -v jk_init >/dev/null; then
    echo "jailkit is not installed: $chroot gets its directories and no programs (apt install jailkit)"
    exit 0
fi

# The commands below would write through links and into files of other users. The home is not checked, nor directories of root with the
# sticky bit such as /tmp, in which no program is installed.
foreign=$(find "$chroot" -path "$path" -prune -o -uid 0 -type d -perm -1000 -prune -o \( ! -uid 0 -o -perm /022 ! -type l ! -type c \) -print -quit)
[ -z "$foreign" ] || die "$foreign, where programs are put for the account, can be changed by others than root: move it away"

# has FILE PATTERN: whether a line matches.
has() {
    local line
    [ -e "$1" ] || return 1
    while IFS= read -r line; do
        # shellcheck disable=SC2053 # It is a pattern.
        [[ $line != $2 ]] || return 0
    done <"$1"
    return 1
}

# For uploads: sftp, scp and rsync. jk_init ends with 0 also after a file that it could not copy in whole, and does not touch a file that
# is there. So a mark says that files may be damaged, until all are on the disk: then the next run makes all of them again.
mark=$chroot/.incomplete
again=()
[ ! -e "$mark" ] || again=(-f)
: >"$mark"
if ! copied=$(jk_init "${again[@]}" -j "$chroot" sftp scp rsync 2>&1); then
    echo "create-chroot.sh: jk_init failed: $copied" >&2
    if lacks_room; then exit 75; else exit 1; fi
fi
[ -z "$copied" ] || printf '%s\n' "$copied"
if [[ $copied == *ERROR:* ]]; then
    echo "create-chroot.sh: not all programs could be copied into $chroot" >&2
    exit 75
fi

make_directories "$chroot/etc"
for file in "$chroot/etc" "$chroot/etc/passwd" "$chroot/etc/group"; do
    [ ! -L "$file" ] || die "$file is a symbolic link"
done
# The account's own name must be known in the chroot.
isNew=
[[ $copied != *Copying* ]] || isNew=yes
if ! has "$chroot/etc/passwd" "$uid:*"; then
    echo "$uid:x:$uid_number:$gid_number::/${home#*/./}:/bin/sh" >>"$chroot/etc/passwd"
    isNew=yes
fi
if ! has "$chroot/etc/group" "*:*:$gid_number:*"; then
    echo "$uid:x:$gid_number:" >>"$chroot/etc/group"
    isNew=yes
fi
[ -z "$isNew" ] || sync -f -- "$chroot"
rm -- "$mark"
