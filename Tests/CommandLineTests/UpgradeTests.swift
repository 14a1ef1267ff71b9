import Foundation
import Glibc
import TestSupport
import Testing

/// The program takes over the state that an earlier release left on a server. `Upgrade/fixture` describes and records it.
@Suite struct UpgradeTests {
    private static let fixture = DaemonHarness.checkout.appending(path: "Tests/CommandLineTests/Upgrade/fixture")
    /// The claim in the recording is this host's.
    private static let asHost = [
        "/usr/bin/unshare", "--uts", "sh", "-c", "hostname old.example.org && exec \"$@\"", "sh",
    ]

    @Test(
        "state of an earlier release is taken over: its claim is resumed, finished accounts stay untouched, new requests and backups work; its history is set aside with a message",
        .enabled(if: geteuid() == 0, "needs root: files have owners"), arguments: ["0.1.0"])
    func takeOver(release: String) async throws {
        try await DaemonHarness.run { harness in
            try await Self.unpack(release, harness)
            try harness.touch("go")
            let done = ["3724300", "3724301", "3724303", "3724304"]
            let changes = try await Self.changeNumbers(of: done, harness)
            #expect(try await harness.text("3724302", "provisioningClaim")?.hasPrefix("old.example.org ") == true)
            let snapshots = harness.home("3724300").appending(path: ".snapshots")
            let before = try ["daily.0", "daily.1"].map { try harness.tree(snapshots.appending(path: $0)) }
            #expect(before.map(\.count) == [3, 2])
            let cutOff = harness.home("3724305").appending(path: ".snapshots")
            let first = try harness.tree(cutOff.appending(path: "daily.1"))
            #expect(first.count == 2)
            let configuration = try Self.identity(harness.configuration("3724300"))

            let daemon = try await harness.serving(by: Self.asHost)
            try await harness.reached("added", "3724302")
            #expect(try await harness.text("3724302", "sstProvisioningReturnValue") == "0")
            #expect(try await harness.text("3724302", "provisioningClaim") == nil)
            #expect(harness.exists("homes/3724302/incoming") && harness.exists("rsnapshot.d/3724302.conf"))

            #expect(daemon.output.contains("3 jobs that it has as open are not taken over"), "\(daemon.output)")
            let histories = try FileManager.default.contentsOfDirectory(atPath: harness.path("state"))
                .filter { $0.hasPrefix("history.sqlite.old-") && !$0.hasSuffix("-wal") && !$0.hasSuffix("-shm") }
            #expect(histories.count == 1, "\(histories)")
            let health = try await DaemonHarness.outcome(["health", "-c", harness.settingsFile.path])
            #expect(health.status == 0, "\(health)")
            let retired = "Rsnapshot.conf:\(try harness.line("HOST = mail.example.org")):"
            #expect(daemon.output.components(separatedBy: retired).count == 2, "\(daemon.output)")

            // Accounts without open work were not touched.
            #expect(try await Self.changeNumbers(of: done, harness) == changes)
            #expect(try Self.identity(harness.configuration("3724300")) == configuration)
            #expect(try before == ["daily.0", "daily.1"].map { try harness.tree(snapshots.appending(path: $0)) })
            #expect(try FileManager.default.contentsOfDirectory(atPath: harness.path("homes/.deleted")).count == 1)

            try await harness.request("3724301", "modify", ["sstBackupIntervalDaily": "9"])
            try await harness.reached("modified", "3724301")
            let text = try String(contentsOf: harness.configuration("3724301"), encoding: .utf8)
            #expect(text.contains("retain\tdaily\t9"), "\(text)")
            let newest = try await harness.json("jobs", "list", "--account", "3724301").last?["id"].number
            #expect(try #require(newest) > 13)

            let backup = try await DaemonHarness.outcome(
                ["backup", "daily", "--account", "3724300", "--force", "-c", harness.settingsFile.path])
            #expect(backup.status == 0, "\(backup)")
            #expect(try before == ["daily.1", "daily.2"].map { try harness.tree(snapshots.appending(path: $0)) })

            // Half of its rotation was done: no snapshot is lost, and no index is missing.
            let next = try await DaemonHarness.outcome(
                ["backup", "daily", "--account", "3724305", "--force", "-c", harness.settingsFile.path])
            #expect(next.status == 0, "\(next)")
            let names = try FileManager.default.contentsOfDirectory(atPath: cutOff.path).filter { $0 != ".state" }
                .sorted()
            #expect(names == [".copy.conf", "daily.0", "daily.1", "daily.2"])
            #expect(try harness.tree(cutOff.appending(path: "daily.2")) == first)
            for name in ["daily.0", "daily.1"] {
                #expect(try harness.tree(cutOff.appending(path: name)).count == 3)
            }
            await harness.stop(daemon)
        }
    }

    /// Puts the files in their places and the accounts into LDAP.
    private static func unpack(_ release: String, _ harness: DaemonHarness) async throws {
        let unpacking = try RunningProgram(
            fixture,
            [
                "unpack", release, harness.directory.path, "SERVER=\(harness.sandbox.uri)",
                "PASSWORD_FILE=\(harness.sandbox.daemonPasswordFile)",
            ])
        #expect(await unpacking.end() == 0, "\(unpacking.output)")
        // The control lets the entries keep their entryUUID.
        let loading = try RunningProgram(
            URL(filePath: "/usr/bin/ldapadd"),
            [
                "-x", "-H", harness.sandbox.uri, "-D", harness.sandbox.adminDN, "-w", harness.sandbox.adminPassword,
                "-e",
                "relax", "-f", harness.path("accounts.ldif"),
            ], environment: ["LDAPNOINIT": "1"])
        #expect(await loading.end() == 0, "\(loading.output)")
    }

    private static func changeNumbers(of uids: [String], _ harness: DaemonHarness) async throws -> [String] {
        var numbers: [String] = []
        for uid in uids { numbers.append(try #require(try await harness.text(uid, "entryCSN"))) }
        return numbers
    }

    /// Type, time and content of a file.
    private static func identity(_ file: URL) throws -> [String] {
        var status = stat()
        #expect(stat(file.path, &status) == 0)
        return ["\(status.st_ino)", "\(status.st_mtim.tv_sec)", try String(contentsOf: file, encoding: .utf8)]
    }
}
