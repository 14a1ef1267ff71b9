#!/bin/bash
# Proves that a limit set by the daemon really limits: boots Debian's user-mode-linux, which needs neither root nor virtualisation, with an
# ext4 and a btrfs that have quotas, and runs the tests named KernelQuotaInsideTests there.
#
#   Tests/quota/kernel-quota.sh TEST_EXECUTABLE      (.build/debug/prov-backup-rsnapshotPackageTests.xctest)
#
# The guest sees the host's files through a file system that is mounted read-only, so it can change nothing here.
# Last line: `kernel-quota: passed`, `kernel-quota: failed`, or `kernel-quota: skipped: …` with what is missing. Exit code 0, 1, 77.
set -euo pipefail

skip() {
    echo "kernel-quota: skipped: $*"
    exit 77
}

executable=$(realpath -- "${1:?usage: kernel-quota.sh TEST_EXECUTABLE}")
uml=$(command -v linux.uml) || skip "linux.uml is not installed (apt install user-mode-linux)"
export PATH=$PATH:/usr/sbin:/sbin
for program in mkfs.ext4 setquota perl setpriv; do
    command -v "$program" >/dev/null || skip "$program is not installed (apt install e2fsprogs quota perl-base util-linux)"
done
[ "$(uname -m)" = x86_64 ] || skip "the number of finit_module is known here for x86_64 only"
modules=$(echo /usr/lib/uml/modules/*/kernel/fs/quota)
[ -f "$modules/quota_v2.ko" ] || skip "there is not just one set of modules in /usr/lib/uml/modules"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
truncate -s 64M "$work/ext4"
mkfs.ext4 -q -O quota "$work/ext4"
disks=("ubd0=$work/ext4")
if command -v mkfs.btrfs >/dev/null && command -v btrfs >/dev/null; then
    truncate -s 256M "$work/btrfs"
    mkfs.btrfs -q "$work/btrfs" >/dev/null
    disks+=("ubd1=$work/btrfs")
else
    echo "kernel-quota: btrfs is left out (apt install btrfs-progs)"
fi

# The first process of the guest. Its words come out of the guest's console.
cat >"$work/init" <<GUEST
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/
mount -t proc proc /proc
# insmod is in no package that is needed otherwise; 313 is finit_module.
for module in quota_tree quota_v2; do
    perl -e 'open(my \$f, "<", \$ARGV[0]) or die; syscall(313, fileno(\$f), my \$none = "", 0) == 0 or die "\$ARGV[0]: \$!\n"' \\
        "$modules/\$module.ko" || echo "kernel-quota: \$module cannot be loaded"
done
mount -t tmpfs none /mnt
mkdir /mnt/ext4 /mnt/btrfs
# Without usrquota ext4 counts and does not limit.
mount -t ext4 -o usrquota /dev/ubda /mnt/ext4 || echo "kernel-quota: ext4 cannot be mounted"
export PROV_TEST_QUOTA_MOUNT=/mnt/ext4 SWIFT_BACKTRACE=enable=no
if [ -b /dev/ubdb ]; then
    mount -t btrfs /dev/ubdb /mnt/btrfs && btrfs quota enable /mnt/btrfs || echo "kernel-quota: btrfs cannot be mounted"
    export PROV_TEST_BTRFS_MOUNT=/mnt/btrfs
fi
if "$executable" --testing-library swift-testing --filter KernelQuotaInsideTests; then
    echo "kernel-quota-guest: passed"
else
    echo "kernel-quota-guest: failed"
fi
umount /mnt/ext4 /mnt/btrfs
echo o >/proc/sysrq-trigger
sleep 60
GUEST
chmod 0755 "$work/init"

# The guest's memory lies in TMPDIR and its control socket in HOME: both go with the folder.
HOME=$work TMPDIR=$work "$uml" mem=1024M "${disks[@]}" root=/dev/root rootfstype=hostfs rootflags=/ ro quiet \
    "init=$work/init" con=null con0=null,fd:1 con1=null,fd:1 </dev/null 2>&1 | tee "$work/log"

# A run in which a test was left out counts as passed for the test library, and not here.
passed() { grep -q "Test \"$1: .* passed after" "$work/log"; }
if grep -q 'kernel-quota-guest: passed' "$work/log" && passed ext4 && { [ ${#disks[@]} -eq 1 ] || passed btrfs; }; then
    echo "kernel-quota: passed"
else
    echo "kernel-quota: failed"
    exit 1
fi
