import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// How the daemon reports the ends of its jobs: in the log, by mail, and in `accounts explain`.
@Suite(
    .enabled(
        if: FileManager.default.isExecutableFile(atPath: "/usr/bin/rsnapshot"),
        "rsnapshot is not installed: apt install rsnapshot"))
struct DaemonReportTests {
    /// The backups in `accounts explain --json`.
    private struct Explained: Decodable {
        struct Backup: Decodable {
            struct Level: Decodable {
                let level: String
                let retain: Int
                let snapshots: Int
                let newest: Timestamp?
                let schedule: String?
                let next: Timestamp?
            }
            struct Try: Decodable {
                let level: String
                let result: String?
                let message: String
            }
            let lastGood: Timestamp?
            let lastTry: Try?
            let size: UInt64?
            let levels: [Level]
            let inTheWay: [String]
            let unknown: [String]
        }
        let backup: Backup
    }

    /// The lines of the log about ends of jobs; each is there once.
    private static func line(_ daemon: RunningProgram, _ text: String) throws -> String {
        let lines = daemon.output.split(separator: "\n").filter { $0.contains(text) }
        #expect(lines.count == 1, "\(text): \(lines)")
        return String(try #require(lines.first, "\(text) is not in \(daemon.output.suffix(4000))"))
    }

    @Test(
        "every job leaves one line when it ends, success or not, with job, account and duration; failures go into a mail, the rest of them at the stop"
    )
    func lines() async throws {
        try await DaemonHarness.run { harness in
            let good = try harness.script("good.sh", "exit 0")
            let bad = try harness.script("bad.sh", "exit 3")
            let waiting = try harness.waiting("waiting.sh", for: "never")
            try harness.settings(
                backup: """
                    HOME_SCRIPT =
                    [Job good]
                    SCRIPT = \(good)
                    [Job bad]
                    SCRIPT = \(bad)
                    EXIT_PROFILE = posix
                    [Job waiting]
                    SCRIPT = \(waiting)
                    \(harness.mailSection())
                    """)
            try harness.wasAlive()
            let daemon = try await harness.running()
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            #expect(try await harness.command("backup", "daily", "--account", "3724300").status == 0)
            try FileManager.default.removeItem(at: harness.home("3724300").appending(path: "incoming"))
            #expect(try await harness.command("backup", "daily", "--account", "3724300", "--force").status == 1)
            for name in ["good", "bad"] { try await harness.ended(harness.run(name)) }
            let cancelled = try await harness.run("waiting")
            try await eventually("it runs") { harness.numbers("waiting.sh").count == 1 }
            #expect(try await harness.command("jobs", "cancel", "\(cancelled)").status == 0)
            try await harness.ended(cancelled)
            await harness.stop(daemon)

            let done = try Self.line(daemon, "backup done: daily")
            #expect(
                done.contains("NOTICE") && done.contains("account=3724300") && done.contains("duration="), "\(done)")
            #expect(done.contains("job="), "\(done)")
            #expect(try Self.line(daemon, "backup failed: daily: ").contains("ERROR"))
            #expect(try Self.line(daemon, "provisioning done: add").contains("account=3724300"))
            #expect(try Self.line(daemon, "job good done").contains("NOTICE"))
            #expect(try Self.line(daemon, "job bad failed: ").contains("ERROR"))
            #expect(try Self.line(daemon, "job waiting aborted: ").contains("ERROR"))
            // The first failure was sent at once, the second at the stop; an operator who cancels a job needs no mail.
            let mails = try harness.mails()
            #expect(mails.count == 2, "\(mails)")
            #expect(mails.joined().contains("backup daily 3724300: failed"), "\(mails)")
            #expect(mails.joined().contains("job bad: failed") && !mails.joined().contains("waiting"), "\(mails)")
        }
    }

    @Test("a job that the next start can only close, because its [Job NAME] is gone, has its line and its mail, too")
    func removed() async throws {
        try await DaemonHarness.run { harness in
            let waiting = try harness.waiting("waiting.sh", for: "never")
            func settings(_ job: String) throws {
                try harness.settings(backup: "HOME_SCRIPT =\n\(job)\n\(harness.mailSection())")
            }
            try settings("[Job waiting]\nSCRIPT = \(waiting)")
            let first = try await harness.running()
            let id = try await harness.run("waiting")
            try await eventually("it runs") { harness.numbers("waiting.sh").count == 1 }
            #expect(try await harness.details(id).attempts.count == 1)
            first.kill(SIGKILL)
            _ = await first.end()
            try settings("")
            let second = try await harness.running()
            try await harness.ended(id)
            try await eventually("a mail is sent") { try !harness.mails().isEmpty }
            await harness.stop(second)
            let line = try Self.line(second, "job waiting aborted: the settings no longer contain it")
            #expect(line.contains("job=\(id)"))
            let mail = try harness.mails().joined()
            #expect(mail.contains("job \(id), job waiting: aborted"), "\(mail)")
        }
    }

    @Test("accounts list shows the last backup, and accounts explain the levels, the last attempt and the problems")
    func explained() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: "HOME_SCRIPT =\n[Backup Jobs]\nDAILY = 0 3 * * *\nWEEKLY = 0 2 * * 0")
            let daemon = try await harness.running()
            for uid in ["3724300", "3724301"] {
                try await harness.add(uid)
                try await harness.reached("added", uid)
            }
            #expect(try await harness.command("backup", "daily", "--account", "3724300").status == 0)

            let listed = try await harness.command("accounts", "list", "--json").output.split(separator: "\n")
            #expect(listed.first { $0.contains("3724300") }?.contains("\"lastBackup\":\"20") == true, "\(listed)")
            #expect(listed.first { $0.contains("3724301") }?.contains("lastBackup") == false, "\(listed)")
            #expect(try await harness.command("accounts", "list").output.hasPrefix("UID"))
            #expect(try await harness.command("accounts", "list").output.contains("LAST BACKUP"))

            func explain(_ uid: String) async throws -> Explained.Backup {
                let shown = try await harness.command("accounts", "explain", uid, "--json")
                return try JSONDecoder().decode(Explained.self, from: Data(shown.output.utf8)).backup
            }
            let good = try await explain("3724300")
            #expect(good.lastGood != nil && good.size ?? 0 > 0 && good.lastTry?.result == "success")
            #expect(good.levels.map(\.level) == ["daily", "weekly", "monthly"])
            #expect(good.levels.map(\.snapshots) == [1, 0, 0] && good.levels.map(\.retain) == [7, 4, 3])
            #expect(good.levels.map { $0.next != nil } == [true, true, false])
            #expect(good.levels.first?.newest != nil && good.levels.first?.schedule == "0 3 * * *")
            #expect(good.inTheWay.count == 1 && good.inTheWay.first?.contains("MONTHLY") == true, "\(good.inTheWay)")
            #expect(good.unknown.isEmpty, "\(good.unknown)")

            if geteuid() == 0 {
                // Another user sees everything that is readable for him, and the output names the rest.
                let (other, password) = (harness.path("other.conf"), harness.path("other-password"))
                try FileManager.default.copyItem(atPath: harness.sandbox.daemonPasswordFile.string, toPath: password)
                #expect(chown(password, 65_534, 65_534) == 0 && chmod(password, 0o600) == 0)
                try String(contentsOf: harness.settingsFile, encoding: .utf8)
                    .replacing(harness.sandbox.daemonPasswordFile.string, with: password)
                    .write(toFile: other, atomically: true, encoding: .utf8)
                chmod(other, 0o644)
                let socket = URL(
                    filePath: try #require(harness.sandbox.uri.dropFirst(8).removingPercentEncoding?.description))
                #expect(chmod(socket.deletingLastPathComponent().path, 0o711) == 0 && chmod(socket.path, 0o666) == 0)
                let program = try RunningProgram(
                    URL(filePath: "/usr/bin/setpriv"),
                    [
                        "--reuid=65534", "--regid=65534", "--clear-groups", DaemonHarness.program.path, "accounts",
                        "explain", "3724300", "--json", "-c", other,
                    ])
                #expect(await program.end() == 0, "\(program.output)")
                let seen = try JSONDecoder().decode(Explained.self, from: Data(program.output.utf8)).backup
                #expect(seen.lastGood == good.lastGood && seen.levels.map(\.snapshots) == [1, 0, 0])
                #expect(seen.unknown.contains { $0.contains(".state") && $0.contains("root") }, "\(seen.unknown)")
            }

            // The other account has every problem.
            let other = harness.configuration("3724301")
            try FileManager.default.removeItem(at: other)
            try await harness.manager.modify(DaemonHarness.dn("3724301"), [.replace("sstIsActive", "FALSE")])
            await harness.stop(daemon)
            let bad = try await explain("3724301")
            #expect(bad.lastGood == nil && bad.lastTry == nil)
            for part in ["sstIsActive", other.path, "systemctl start"] {
                #expect(bad.inTheWay.contains { $0.contains(part) }, "\(part): \(bad.inTheWay)")
            }
            let text = try await harness.command("accounts", "explain", "3724301").output
            for title in ["last backup", "last attempt", "daily", "problem"] {
                #expect(text.contains(title), "\(text)")
            }
        }
    }
}
