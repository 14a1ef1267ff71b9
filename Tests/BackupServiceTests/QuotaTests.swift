import LDAP
import Foundation
import JobCore
import Provisioning
import SystemPackage
import Testing

@testable import BackupService

@Suite struct QuotaTests {
    private let table = MountTable(
        parsing: """
            22 27 0:21 / /proc rw,relatime - proc proc rw
            27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
            31 27 8:1 / /var/backup rw - xfs /dev/sda1 rw
            32 31 8:2 / /var/backup/disk\\0401 rw master:2 propagate_from:1 - ext4 /dev/sda2 rw,quota
            33 31 8:3 / /var/backup/disk\\0401 rw - ext4 /dev/sda3 rw,quota
            34 27 0:40 /sub /srv/pool rw - btrfs /dev/sdb rw
            nonsense

            """)

    @Test("the mount of a path is the one with the longest point, and of two on one point the last")
    func mounts() {
        #expect(table.mount(holding: "/var/backup/3723707", device: "8:1")?.point == "/var/backup")
        #expect(table.mount(holding: "/var/backup/disk 1/x", device: "8:3")?.point == "/var/backup/disk 1")
        #expect(table.mount(holding: "/var/backup/disk 1/x", device: "8:3")?.device == "8:3")
        #expect(table.mount(holding: "/var/backups", device: "254:0")?.point == "/")
        #expect(table.mount(holding: "/srv/pool/a", device: "0:99")?.type == "btrfs", "btrfs shows a device of its own")
        #expect(table.mounts(inside: "/var/backup").map(\.device) == ["8:2", "8:3"])
    }

    @Test(
        "of a long list only the mounts near a path are parsed, with the same results",
        arguments: ["/var/backup/3723707", "/var/backup/disk 1/x", "/var/backups", "/srv/pool/a", "/var/backup", "/"])
    func near(path: FilePath) {
        let text = """
            22 27 0:21 / /proc rw,relatime - proc proc rw
            27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
            31 27 8:1 / /var/backup rw - xfs /dev/sda1 rw
            32 31 8:2 / /var/backup/disk\\0401 rw master:2 propagate_from:1 - ext4 /dev/sda2 rw,quota
            33 31 8:1 / /var/backup/3723707/.snapshots ro - xfs /dev/sda1 rw
            34 31 8:1 / /var/backup/4000000/.snapshots ro - xfs /dev/sda1 rw
            35 27 0:40 /sub /srv/pool rw - btrfs /dev/sdb rw
            nonsense

            """
        let (all, near) = (MountTable(parsing: text), MountTable(parsing: text, near: path))
        for device in ["8:1", "8:2", "254:0", "0:99"] {
            #expect(near.mount(holding: path, device: device) == all.mount(holding: path, device: device))
        }
        #expect(near.mounts(inside: path) == all.mounts(inside: path))
        #expect(path == "/" || path == "/var/backup" || near.mounts.count < all.mounts.count)
    }

    @Test("a mount whose name is not UTF-8 does not hide others")
    func strangeName() throws {
        let directory = try TestDirectory()
        let list = directory.path.appending("mountinfo")
        let lines = "31 27 8:1 / /var/backup rw - xfs /dev/sda1 rw\n32 31 0:50 / /var/backup/3723707/incoming/".utf8
        try Data(lines + [0xff] + " rw - fuse x rw\n".utf8).write(to: URL(fileURLWithPath: list.string))
        let table = try MountTable.current(list: list)
        #expect(table.mount(holding: "/var/backup/4000001", device: "8:1")?.type == "xfs")
        #expect(table.mounts(inside: "/var/backup/3723707").map(\.type) == ["fuse"])
    }

    @Test("the mount of a real directory is found")
    func real() throws {
        let directory = try HeldDirectory(configured: "/proc/self")
        let mount = try MountTable.current().mount(holding: directory)
        #expect(mount?.point == "/proc")
    }

    /// Replaces the programs by scripts that record their arguments.
    private func service(
        _ directory: TestDirectory, _ backend: QuotaBackend, exit code: Int = 0, script: FilePath? = nil,
        files: Int = 100_000
    ) throws -> BackupRsnapshotService {
        for name in ["setquota", "btrfs"] {
            try directory.write(
                "#!/bin/sh\necho \"$@\" > \(directory.path)/given\necho no quota here >&2\nexit \(code)\n",
                to: FilePath("scripts").appending(name), mode: 0o755)
        }
        return try BackupRsnapshotService(
            configuration: directory.configuration {
                ($0.quota, $0.quotaFiles) = (backend, files)
                $0.homeScript = script
                $0.programDirectories.insert(directory.path.appending("scripts"), at: 0)
            })
    }

    @Test(
        "setquota gets the uid, each limit twice, files for each GiB, and the mount point",
        arguments: [
            ("10737418241", "10485761 10485761 1100000 1100000"), ("10737418240", "10485760 10485760 1000000 1000000"),
            ("1", "1 1 100000 100000"), ("1024", "1 1 100000 100000"), ("1025", "2 2 100000 100000"), ("0", "0 0 0 0"),
            ("\(Int64.max)", "9007199254740992 9007199254740992 858993459200000 858993459200000"),
        ])
    func setquota(quota: String, limits: String) async throws {
        let directory = try TestDirectory()
        let service = try service(directory, .setquota)
        var entry = directory.entry()
        entry["sstQuota"] = [AttributeValue(quota)]
        let held = try HeldDirectory(configured: directory.homes)
        let point = try #require(try MountTable.current().mount(holding: held)?.point)
        let steps = try await service.plan(request(.add, entry))
        #expect(steps.map(\.name) == ["home", "quota", "rsnapshot configuration"])
        let command = "-u 3723707 \(limits) \(point)"
        #expect(steps[1].preview.hasPrefix("run \(directory.path)/scripts/setquota \(command)\n"))
        try await service.carryOut(.add, entry)
        #expect(try text(directory.path.appending("given")) == command + "\n")
    }

    @Test("QUOTA_FILES = 0 sets no limit of files, and the kernel accepts its maximum")
    func files() async throws {
        for (files, limits) in [(0, "0 0"), (1_000_000_000, "8589934592000000000 8589934592000000000")] {
            let directory = try TestDirectory()
            let service = try service(directory, .setquota, files: files)
            var entry = directory.entry()
            entry["sstQuota"] = [AttributeValue("\(Int64.max)")]
            #expect(try await service.plan(request(.add, entry))[1].preview.contains(" 9007199254740992 \(limits) /"))
        }
    }

    @Test("a quota that cannot be set is code 6 with the program's output, and no configuration is written")
    func failure() async throws {
        let directory = try TestDirectory()
        let failure = try await service(directory, .setquota, exit: 1).failure(.add, directory.entry())
        #expect(failure?.code == .cannotSetQuota)
        #expect(failure?.output == "no quota here\n")
        #expect(failure?.hint.isEmpty == false)
        #expect(!exists(directory.configurations.appending("3723707.conf")))
    }

    @Test("a missing quota program is code 3", arguments: [QuotaBackend.setquota, .btrfs])
    func missing(backend: QuotaBackend) async throws {
        let directory = try TestDirectory()
        try FileManager.default.createSymbolicLink(
            atPath: directory.path.pushing("scripts/rsync").string, withDestinationPath: "/usr/bin/rsync")
        let script = try directory.script("/bin/mkdir -p \"$2\"")
        let configuration = try directory.configuration {
            $0.quota = backend
            $0.homeScript = script
            $0.programDirectories = [directory.path.appending("scripts")]
        }
        let failure = try await BackupRsnapshotService(configuration: configuration).failure(.add, directory.entry())
        #expect(failure?.code == .runtimeRequirementNotSatisfied)
        #expect(failure?.hint == "apt install \(backend == .setquota ? "quota" : "btrfs-progs")")
    }

    @Test("a btrfs limit needs a subvolume, and the plan shows the command for the account's directory")
    func btrfs() async throws {
        let directory = try TestDirectory()
        let service = try service(directory, .btrfs, script: directory.script("mkdir -p \"$2\""))
        let steps = try await service.plan(request(.add, directory.entry()))
        #expect(
            steps.contains {
                $0.preview.hasPrefix(
                    "run \(directory.path)/scripts/btrfs qgroup limit 10737418240 \(directory.homes)/3723707\n")
            })
        let failure = try await service.failure(.add, directory.entry())
        #expect(failure?.code == .cannotSetQuota)
        #expect(failure?.reason.contains("not a btrfs subvolume") == true)
        #expect(!exists(directory.path.appending("given")))
    }

    @Test(
        "on btrfs a full quota, which binds the home script too, does not prevent that it is raised",
        .enabled(if: canMountBtrfs, "needs root, loop devices and btrfs-progs"))
    func fullSubvolume() async throws {
        let directory = try TestDirectory()
        try await mountBtrfs(in: directory)
        try await runTool("/usr/bin/btrfs", "quota", "enable", directory.homes.string)
        let account = directory.homes.appending("3723707")
        let script = try directory.script(
            """
            [ -e \(account) ] || btrfs subvolume create \(account)
            mkdir -p "$2"
            dd if=/dev/urandom of=\(account)/program bs=256K count=1 conv=fsync
            """)
        let configuration = try directory.configuration { ($0.quota, $0.homeScript) = (.btrfs, script) }
        let service = BackupRsnapshotService(configuration: configuration)
        var entry = accountEntry(home: "\(account)/chroot/./home/3723707")
        func isFull() async throws -> Bool {
            let file = account.pushing("chroot/home/3723707/incoming/file")
            let result = try await ScriptRunner().run(
                ScriptInvocation(
                    executable: "/usr/bin/dd",
                    arguments: ["if=/dev/urandom", "of=\(file)", "bs=64K", "count=256", "conv=fsync"],
                    environment: ["LC_ALL": "C"], timeLimit: .seconds(60), grace: .seconds(1)))
            return result.outputTail.contains("Disk quota exceeded")
        }
        for mebibytes in [2, 1, 4] {
            entry["sstQuota"] = [AttributeValue(String(mebibytes << 20))]
            try await service.carryOut(.modify, entry)
            #expect(try await isFull(), "\(mebibytes) MiB")
        }
        let file = account.pushing("chroot/home/3723707/incoming/file")
        func size() -> Int { status(file).map { Int($0.st_size) } ?? 0 }
        #expect(size() > 2 << 20, "raised to 4 MiB")
        // A step that fails leaves no account without its limit.
        try directory.write("#!/bin/sh\nexit 1\n", to: "failing.sh", mode: 0o755)
        let failing = try directory.configuration {
            ($0.quota, $0.homeScript) = (.btrfs, directory.path.appending("failing.sh"))
        }
        #expect(try await BackupRsnapshotService(configuration: failing).failure(.modify, entry) != nil)
        #expect(try await isFull(), "after a failure")
        let steps = try await service.plan(request(.modify, entry)).map(\.name)
        #expect(steps.first == "lift quota" && steps.contains("quota"))
    }

    @Test("btrfs without a home script is wrong configuration, before anything is done")
    func btrfsWithoutScript() async throws {
        let directory = try TestDirectory()
        let failure = try await service(directory, .btrfs).failure(.add, directory.entry())
        #expect(failure?.code == .cannotSetQuota)
        #expect(failure?.failureClass == .configuration)
        #expect(!exists(directory.homes.appending("3723707")))
    }
}
