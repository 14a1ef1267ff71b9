import LDAP
import Foundation
import Glibc
import JobCore
import Provisioning
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

/// In the virtual machine, with mounted file systems with quotas, as root: the suite `UnitRightsTests` runs it there.
@Suite(.onlyInGuest, .serialized) struct KernelQuotaInsideTests {
    @Test("ext4: the account can write up to the quota of its entry, also after a change")
    func ext4() async throws {
        try await expectLimits(on: #require(Guest.quotaMount)) { configuration, _ in configuration.quota = .setquota }
    }

    @Test("quotas that are mounted and switched off are reported, and the command of the hint switches them on")
    func switchedOff() async throws {
        let mount = try #require(Guest.quotaMount)
        let directory = try TestDirectory(in: FilePath(mount))
        let configuration = try directory.configuration { $0.quota = .setquota }
        func found() async -> Requirement? { await configuration.requirements().first { $0.subject == "QUOTA" } }
        #expect(await found()?.isMet == true)
        try await runTool("/usr/sbin/quotaoff", "-u", mount)
        let off = await found()
        #expect(off?.isMet == false, "\(off.map { "\($0)" } ?? "")")
        let hint = try #require(off?.hint)
        let command = try #require(hint.split(separator: ", then: ").last?.split(separator: ";").first)
        try await runTool("/bin/sh", "-c", String(command))
        #expect(await found()?.isMet == true)
    }

    @Test("btrfs: the account can write up to the quota of its entry, also after a change")
    func btrfs() async throws {
        try await expectLimits(on: #require(Guest.btrfsMount)) { configuration, directory in
            configuration.quota = .btrfs
            // The checkout may belong to another user, and a script that root runs must belong to root.
            let script = directory.path.pushing("create-chroot.sh")
            try FileManager.default.copyItem(atPath: shippedScript.string, toPath: script.string)
            chown(script.string, 0, 0)
            configuration.homeScript = script
        }
    }

    @Test(
        "a copy counts as the account's: where its quota is used up the copy fails, and the snapshots stay as they are")
    func copy() async throws {
        try await BackupHarness.run(in: FilePath(#require(Guest.quotaMount)), { $0.quota = .setquota }) { harness in
            // A uid that no other test uses, since the kernel counts by uid.
            let uid = "3723708"
            try await harness.addProvisioned(uid) { $0["sstQuota"] = [AttributeValue(String(5 << 19))] }
            let file = harness.home(uid).appending("incoming/file")
            // The file and its copy: two of two and a half mebibytes.
            #expect(try await write(mebibytes: 1, to: file, as: uid).complaint == nil)
            #expect(try await harness.backup(.daily, uid) == .success)
            let before = try harness.snapshots(of: uid)
            #expect(try await write(mebibytes: 1, to: file, as: uid).complaint == nil)
            let outcome = try await harness.backup(.daily, uid)
            #expect(outcome.result == .failed, "\(outcome)")
            #expect(outcome.message.contains("code 11") && outcome.message.contains("quota is used up"), "\(outcome)")
            #expect(try harness.snapshots(of: uid) == before)
        }
    }

    private func expectLimits(
        on mount: String, _ change: (inout BackupConfiguration, TestDirectory) throws -> Void
    ) async throws {
        let directory = try TestDirectory(in: FilePath(mount))
        var configuration = try directory.configuration { $0.onDelete = .remove }
        try change(&configuration, directory)
        let service = BackupRsnapshotService(configuration: configuration)
        let file = directory.homes.pushing("3723707/incoming/file")
        var entry = directory.entry()

        entry["sstQuota"] = [AttributeValue(String(1 << 20))]
        try await service.carryOut(.add, entry)
        let refused = try await write(mebibytes: 2, to: file)
        #expect(refused.outputTail.contains("Disk quota exceeded"), "\(refused.outputTail)")
        let size = status(file)?.st_size ?? 0
        #expect((1 << 19...1 << 20).contains(size), "\(size) bytes were written")

        entry["sstQuota"] = [AttributeValue(String(8 << 20))]
        try await service.carryOut(.modify, entry)
        let granted = try await write(mebibytes: 2, to: file)
        #expect(granted.complaint == nil, "\(granted.outputTail)")
        #expect(try await write(mebibytes: 9, to: file).outputTail.contains("Disk quota exceeded"))

        entry["sstQuota"] = ["0"]
        try await service.carryOut(.modify, entry)
        let unlimited = try await write(mebibytes: 9, to: file)
        #expect(unlimited.complaint == nil, "\(unlimited.outputTail)")

        try await service.carryOut(.delete, entry)
        #expect(!exists(directory.homes.appending("3723707")), "also where it is a subvolume")
    }

    /// As the account, since root is not limited. Flushed at the end, since a file system may count only written blocks.
    private func write(mebibytes: Int, to file: FilePath, as uid: String = "3723707") async throws -> ScriptResult {
        try await ScriptRunner().run(
            ScriptInvocation(
                executable: "/usr/bin/setpriv",
                arguments: [
                    "--reuid=\(uid)", "--regid=\(uid)", "--clear-groups", "dd", "if=/dev/urandom", "of=\(file)",
                    "bs=64K",
                    "count=\(mebibytes * 16)", "conv=fsync",
                ], environment: ["PATH": "/usr/bin:/bin", "LC_ALL": "C"], timeLimit: .seconds(60), grace: .seconds(1)))
    }
}
