import LDAP
import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The restrictions of the shipped unit, read from the file itself, and the daemon's whole work with them.
enum ShippedUnit {
    private static let directory = DaemonHarness.checkout.appending(path: "etc/systemd")
    static let file = directory.appending(path: "prov-backup-rsnapshot.service").path
    static let dropIn = directory.appending(path: "no-mounts.conf").path

    /// The only capabilities that the daemon and all that it starts have.
    static func capabilities() throws -> [String] {
        let key = "CapabilityBoundingSet="
        return try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").filter { $0.hasPrefix(key) }
            .flatMap { $0.dropFirst(key.count).split(separator: " ").map(String.init) }
    }

    /// Adds an account with a chroot, changes its group, copies it, runs a job as another user, sends mail and deletes the account.
    static func exercise(
        _ harness: DaemonHarness, snapshots: String = "readonly", _ start: () async throws -> RunningProgram
    ) async throws {
        let (uid, group) = ("3724300", "3724399")
        let home = harness.home(uid).appending(path: "chroot/home/\(uid)")
        let uploads = home.appending(path: "incoming")
        defer { umount2(home.appending(path: ".snapshots").path, Int32(MNT_DETACH)) }
        try settings(harness, snapshots: snapshots)
        let daemon = try await start()

        try await harness.add(uid, home: "\(harness.home(uid).path)/chroot/./home/\(uid)")
        try await harness.reached("added", uid)
        #expect(status(harness.home(uid).appending(path: "chroot/dev/null")).map { $0.st_mode & S_IFMT } == S_IFCHR)

        let shared = uploads.appending(path: "shared")
        try FileManager.default.createDirectory(at: shared, withIntermediateDirectories: true)
        let number = try #require(UInt32(uid))
        #expect(chown(shared.path, number, number) == 0 && chmod(shared.path, 0o2700) == 0)
        let tool = shared.appending(path: "tool")
        try "".write(to: tool, atomically: false, encoding: .utf8)
        #expect(chown(tool.path, number, number) == 0 && chmod(tool.path, 0o2750) == 0)
        try await harness.request(uid, "modify", ["gidNumber": group])
        try await harness.reached("modified", uid)
        for (place, mode) in [(shared, 0o2700), (tool, 0o2750)] as [(URL, mode_t)] {
            #expect(status(place).map { $0.st_gid } == UInt32(group))
            #expect(status(place).map { $0.st_mode & 0o7777 } == mode)
        }

        let file = shared.appending(path: "file")
        try "precious".write(to: file, atomically: false, encoding: .utf8)
        #expect(chown(file.path, number, UInt32(group) ?? 0) == 0 && chmod(file.path, 0) == 0)
        let backup = try await harness.command("backup", "daily")
        #expect(backup.status == 0 && backup.output.contains("1 success"), "\(backup.output)")
        let copy = home.appending(path: ".snapshots/daily.0/shared/file")
        #expect(try String(contentsOf: copy, encoding: .utf8) == "precious")

        let job = try await harness.ended(try await harness.run("other"))
        // With any right left it would have succeeded; and only failures are mailed.
        #expect(job.result == .failed, "\(job)")
        #expect(job.reportText.contains("left processes behind, which were ended: sleep ("), "\(job.report)")
        try await eventually("a mail is sent") { try !harness.mails().isEmpty }
        #expect(try String(contentsOfFile: harness.path("group"), encoding: .utf8) == "65534\n")

        try await harness.request(uid, "delete", ["sstIsActive": "FALSE"])
        try await harness.reached("deleted", uid)
        #expect(!FileManager.default.fileExists(atPath: harness.home(uid).path))
        await harness.stop(daemon)
        let refusals = daemon.output.split(separator: "\n").filter {
            $0.contains("not permitted") || $0.contains("ermission denied") || $0.contains("cannot be built")
        }
        #expect(refusals == [], "a right is missing")
    }

    private static func settings(_ harness: DaemonHarness, snapshots: String) throws {
        for name in ["pre_script.sh", "post_script.sh"] { _ = try harness.script("hooks/\(name)", "exit 0") }
        // Root runs it only where it is root's.
        let script = harness.path("create-chroot.sh")
        try FileManager.default.copyItem(
            at: DaemonHarness.checkout.appending(path: "etc/Provisioning/Backup/create-chroot.sh"),
            to: URL(filePath: script))
        #expect(chown(script, 0, 0) == 0)
        let rightless = "[ $(id -u) = 65534 ] && grep -q 'CapEff:.0000000000000000' /proc/self/status || exit 0"
        // Until it has taken on its program it goes by the script's name.
        let sleeper = "sleep 3600 &\nuntil read name </proc/$!/comm && [ $name = sleep ]; do :; done"
        let job = try harness.script("other.sh", "\(rightless)\n\(sleeper)\nexit 9")
        let mail = try harness.mailSection()
        // As the sendmail of Postfix and others is.
        let identity = harness.path("id")
        try FileManager.default.copyItem(atPath: "/usr/bin/id", toPath: identity)
        #expect(chown(identity, 0, 65_534) == 0 && chmod(identity, 0o2755) == 0)
        let queue = "cat > \(harness.path("mail.$$.new")); mv \(harness.path("mail.$$.new")) \(harness.path("mail.$$"))"
        _ = try harness.script("sendmail.sh", "\(identity) -g > \(harness.path("group")); \(queue)")
        try harness.settings(
            backup: """
                HOME_SCRIPT = \(script)
                ON_DELETE = remove
                SNAPSHOTS = \(snapshots)
                [Hooks Provisioning]
                ENABLED = yes
                DIRECTORY = \(harness.path("hooks"))
                [Job other]
                SCRIPT = \(job)
                RUN_AS = nobody
                \(mail)
                """)
    }

    private static func status(_ file: URL) -> stat? {
        var status = stat()
        return lstat(file.path, &status) == 0 ? status : nil
    }
}

/// The daemon with exactly the rights of the shipped unit.
@Suite struct UnitRightsTests {
    private static let programs = ["/usr/bin/rsnapshot", "/usr/bin/bwrap", "/usr/sbin/jk_init", "/usr/bin/setpriv"]
    private static let missing = programs.first { !FileManager.default.isExecutableFile(atPath: $0) }

    @Test(
        "with the capabilities of the unit and no other: add, modify, backup, hooks, a job as another user, mail, delete",
        .enabled(if: geteuid() == 0, "only root can give capabilities away"),
        .enabled(if: missing == nil, "\(missing ?? "") is not installed"))
    func capabilities() async throws {
        let kept = try ShippedUnit.capabilities()
        #expect(!kept.isEmpty && kept.allSatisfy { $0.hasPrefix("CAP_") }, "an allow-list")
        let set = kept.map { "+\($0.dropFirst(4).lowercased())" }.joined(separator: ",")
        try await DaemonHarness.run { harness in
            try await ShippedUnit.exercise(harness) {
                let daemon = try harness.start(
                    by: ["/usr/bin/setpriv", "--bounding-set=-all,\(set)", "--inh-caps=-all", "--"])
                try await daemon.says("requests are detected")
                return daemon
            }
        }
    }

    @Test(
        "within a service of systemd with all directives of the unit the daemon does its work, and its mounts are visible",
        .inGuest)
    func service() async throws {
        try await Guest.run("UnitInsideTests", "UnitMountsInsideTests", under: [ShippedUnit.file])
    }

    // What holds with fewer rights holds with more.
    @Test(
        "with the drop-in for sites that mount nothing as well, quotas hold, and no process of a script escapes",
        .inGuest)
    func dropIn() async throws {
        try await Guest.run(
            "UnitInsideTests", "KernelQuotaInsideTests", "Cgroups", under: [ShippedUnit.file, ShippedUnit.dropIn])
    }
}

/// Within such a service.
@Suite(.onlyInService) struct UnitInsideTests {
    /// The mounts that a process sees.
    static func mounts(_ process: String) throws -> String {
        try String(contentsOfFile: "/proc/\(process)/mountinfo", encoding: .utf8)
    }

    @Test("add, modify, backup, hooks, a job as another user, mail, delete")
    func work() async throws {
        let snapshots = try Self.mounts("self") == Self.mounts("1") ? "readonly" : "own"
        try await DaemonHarness.run { harness in
            try await ShippedUnit.exercise(harness, snapshots: snapshots) { try await harness.running() }
        }
    }

    @Test("each script can have a cgroup, a filter of system calls is there, and no disk can be read")
    func surroundings() throws {
        #expect(LeftoverProcesses.escape == nil)
        #expect(try String(contentsOfFile: "/proc/self/status", encoding: .utf8).contains("Seccomp:\t2\n"))
        #expect(open("/dev/vda", O_RDONLY) == -1 && errno == EPERM)
    }
}

/// Within a service of the unit alone.
@Suite(.onlyInService) struct UnitMountsInsideTests {
    @Test("mounts of the daemon are visible in the system")
    func mounts() throws { #expect(try UnitInsideTests.mounts("self") == UnitInsideTests.mounts("1")) }
}
