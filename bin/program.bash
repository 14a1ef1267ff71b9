# Sets `program` to prov-backup-rsnapshot: the one installed beside the caller, else the one built in this checkout.
# shellcheck shell=bash disable=SC2034
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for program in "$here/prov-backup-rsnapshot" "$here"/../.build/{release,debug}/prov-backup-rsnapshot; do
    if [ -x "$program" ]; then return; fi
done
echo "$(basename "$0"): prov-backup-rsnapshot is not built yet; run: swift build" >&2
exit 69
