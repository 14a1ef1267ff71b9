import LDAP
import Foundation
import Glibc
import JobCore
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

/// The copied and accessible files in the sandbox, with the real bubblewrap, rsnapshot and rsync.
@Suite(
    .enabled(
        if: isRoot && BackupHarness.hasRsnapshot && Program.isExecutable("/usr/bin/bwrap"),
        "needs root, rsnapshot and bubblewrap"))
struct CopySandboxTests {
    private let uid = "3723707"
    private let number: UInt32 = 3_723_707

    private func incoming(_ harness: BackupHarness) -> FilePath { harness.home(uid).appending("incoming") }

    /// Replaces rsync by a script that runs in the sandbox and writes what it finds into the home.
    private func probe(_ harness: BackupHarness, _ script: String) async throws -> String {
        let answer = harness.home(uid).appending(".snapshots/.sync/answer")
        try harness.directory.write(
            "#!/bin/sh\n{\n\(script)\n} >\(answer) 2>&1\nexit 11\n", to: FilePath("homes/\(uid)/rsync"), mode: 0o755)
        let file = harness.configuration.configurationDirectory.appending("\(uid).conf")
        let changed = try text(file).split(separator: "\n", omittingEmptySubsequences: false).map {
            $0.hasPrefix("cmd_rsync\t") ? "cmd_rsync\t\(harness.home(uid))/rsync" : String($0)
        }
        try harness.directory.write(changed.joined(separator: "\n"), to: FilePath("rsnapshot.d/\(uid).conf"))
        let outcome = try await harness.backup(.daily, uid)
        #expect(outcome.result == .failed && outcome.message.contains("code 11"), "\(outcome)")
        return try text(answer)
    }

    @Test(
        "limits and a priority that are narrower already stay: without capabilities they cannot be widened",
        arguments: [["nice", "-n", "15"], ["prlimit", "--as=4000000000"], ["ionice", "-c", "3"]])
    func narrower(starter: [String]) async throws {
        // Its reports go to descriptor 4.
        let helper = [
            "/bin/sh", "-c", "exec \"$@\" 4>&1", "sh", "setpriv", "--bounding-set=-all,+setuid,+setgid",
            "--inh-caps=-all", "\(CopySandbox.installedHelper)", "-",
            "-",
            "8000000000", "10", "/bin/sh", "-c", "nice; ulimit -v; ionice",
        ]
        let result = try await ScriptRunner().run(
            ScriptInvocation(
                executable: "/usr/bin/env", arguments: starter + helper, environment: ["PATH": "/usr/bin:/bin"],
                workingDirectory: "/", timeLimit: .seconds(300), grace: .seconds(60)))
        let lines = String(decoding: result.output.head, as: UTF8.self).split(separator: "\n")
        #expect(result.termination == .exited(code: 0), "\(lines)")
        #expect(lines.contains(starter[0] == "nice" ? "15" : "10"), "\(lines)")
        #expect(lines.contains(starter[0] == "prlimit" ? "3906250" : "7812500"), "\(lines)")
        #expect(lines.contains { $0.hasPrefix(starter[0] == "ionice" ? "idle" : "best-effort") }, "\(lines)")
    }

    @Test("everything of the account's own is copied as it is: modes, hard links, holes, unreadable files")
    func whole() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(uid)
            let uploads = incoming(harness)
            harness.ownsUploads.withLock { $0 = false }
            for (name, mode) in [("none", 0o000), ("setuid", 0o4755), ("usual", 0o644)] as [(String, mode_t)] {
                let file = try harness.directory.write("text", to: FilePath("homes/\(uid)/incoming/\(name)"))
                chown(file.string, number, number)
                chmod(file.string, mode)
            }
            try harness.directory.makeDirectory(FilePath("homes/\(uid)/incoming/closed"))
            let deep = try harness.directory.write("deep", to: FilePath("homes/\(uid)/incoming/closed/file"))
            link(uploads.appending("usual").string, uploads.appending("second").string)
            let hole = try harness.directory.write("", to: FilePath("homes/\(uid)/incoming/hole"))
            truncate(hole.string, 300 << 20)
            for path in [uploads.appending("closed"), deep, hole] { chown(path.string, number, number) }
            chmod(uploads.appending("closed").string, 0)
            #expect(try await harness.backup(.daily, uid) == .success)

            let copy = harness.snapshot("daily.0", of: uid)
            for (name, mode) in [("none", 0o000), ("setuid", 0o4755), ("usual", 0o644)] as [(String, mode_t)] {
                let found = try #require(status(copy.appending(name)))
                // A setuid bit would only help the account itself.
                #expect(found.st_mode & 0o7777 == mode && found.st_uid == number && found.st_gid == number, "\(name)")
            }
            #expect(try text(copy.pushing("closed/file")) == "deep")
            #expect(status(copy.appending("second"))?.st_ino == status(copy.appending("usual"))?.st_ino)
            #expect(try #require(status(copy.appending("hole"))).st_blocks < 100)
            #expect(try #require(status(harness.home(uid).appending(".snapshots"))).st_uid == 0)
        }
    }

    @Test("a file of another owner is named in a warning, the rest is a snapshot, and it does not count as a success")
    func foreign() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(uid)
            let file = try harness.directory.write("text", to: FilePath("homes/\(uid)/incoming/own"))
            #expect(try await harness.backup(.daily, uid) == .success)
            let last = try await harness.values("sstBackupLastSuccessfulBackup", of: uid)
            let foreign = incoming(harness).appending("foreign")
            try "text".write(toFile: foreign.string, atomically: false, encoding: .utf8)
            chmod(foreign.string, 0o600)
            harness.ownsUploads.withLock { $0 = false }
            let outcome = try await harness.backup(.daily, uid)
            #expect(outcome.result == .warnings && outcome.message.contains("\(foreign)"), "\(outcome)")
            #expect(exists(harness.snapshot("daily.1", of: uid)) && exists(harness.snapshot("daily.0/own", of: uid)))
            #expect(!exists(harness.snapshot("daily.0/foreign", of: uid)))
            #expect(try await harness.values("sstBackupLastSuccessfulBackup", of: uid) == last)
            _ = file
        }
    }

    @Test(
        "inside there are /usr and the home and nothing else, no network, and no right over what is not the account's")
    func inside() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(uid)
            let secret = try harness.directory.write("secret", to: "secret", mode: 0o644)
            let answer = try await probe(
                harness,
                """
                cat \(secret) /etc/shadow && echo READ
                touch /usr/x && echo WROTE /usr
                touch \(harness.home(uid))/.snapshots/x && echo WROTE .snapshots
                chown 0:0 \(harness.home(uid)) && echo CHOWNED
                mount -t tmpfs none /run && echo MOUNTED
                ls /proc | grep -c '^[0-9]*$'
                cat /proc/net/dev | grep -c :
                ls / | tr '\\n' ' '
                """)
            for word in ["READ", "WROTE", "CHOWNED", "MOUNTED"] { #expect(!answer.contains(word), "\(answer)") }
            #expect(answer.contains("bin dev lib lib64 proc run sbin tmp usr "), "\(answer)")
            #expect(answer.split(separator: "\n").contains("1"), "the loopback interface alone: \(answer)")
        }
    }

    @Test("a sandbox that cannot be built fails the backup; no copy is made without it")
    func broken() async throws {
        try await BackupHarness.run({ _ in }) { harness in
            try await harness.addProvisioned(uid)
            try harness.directory.write("text", to: FilePath("homes/\(uid)/incoming/file"))
            try harness.directory.write(
                "#!/bin/sh\necho no namespaces here\nexit 1\n", to: "scripts/bwrap", mode: 0o755)
            harness.changed.withLock {
                $0.programDirectories.insert(harness.directory.path.appending("scripts"), at: 0)
            }
            let outcome = try await harness.backup(.daily, uid)
            #expect(outcome.result == .failed && outcome.message.contains("no namespaces here"), "\(outcome)")
            #expect(try harness.snapshots(of: uid).isEmpty)
            let findings = await harness.changed.withLock(\.self).requirements()
            #expect(findings.first { $0.subject == "BACKUP_SANDBOX" }?.isMet == false)
        }
    }

    @Test("check reports that the sandbox can be built here", arguments: CopyConfinement.allCases)
    func trial(confinement: CopyConfinement) async throws {
        let directory = try TestDirectory()
        let configuration = try directory.configuration { $0.confinement = confinement }
        let finding = await configuration.requirements().first { $0.subject == "BACKUP_SANDBOX" }
        #expect(finding?.isMet == true, "\(finding?.finding ?? "no finding")")
    }

    @Test("BACKUP_SANDBOX = root copies files of other owners too, and the customer cannot enter where root writes")
    func asRoot() async throws {
        try await BackupHarness.run({ $0.confinement = .root }) { harness in
            try await harness.addProvisioned(uid)
            try harness.directory.write("own", to: FilePath("homes/\(uid)/incoming/own"))
            let foreign = try harness.directory.write(
                "foreign", to: FilePath("homes/\(uid)/incoming/foreign"), mode: 0o600)
            #expect(try await harness.backup(.daily, uid) == .success)
            harness.ownsUploads.withLock { $0 = false }
            chown(foreign.string, 4_000_000, 4_000_000)
            #expect(try await harness.backup(.daily, uid) == .success)
            let copy = harness.snapshot("daily.0", of: uid)
            #expect(status(copy.appending("foreign"))?.st_uid == 4_000_000)
            #expect(status(copy.appending("own"))?.st_uid == number)
            #expect(status(copy.appending("own"))?.st_ino == status(harness.snapshot("daily.1/own", of: uid))?.st_ino)
            #expect(!exists(harness.snapshot(".sync", of: uid)) && !exists(harness.snapshot(".work", of: uid)))
        }
    }

    @Test("BACKUP_SANDBOX = off copies as the account: unreadable files are named and not copied")
    func off() async throws {
        try await BackupHarness.run({ $0.confinement = .off }) { harness in
            try await harness.addProvisioned(uid)
            try harness.directory.write("own", to: FilePath("homes/\(uid)/incoming/own"))
            let first = try await harness.backup(.daily, uid)
            #expect(first == .success)
            let closed = try harness.directory.write(
                "closed", to: FilePath("homes/\(uid)/incoming/closed"), mode: 0o000)
            let outcome = try await harness.backup(.daily, uid)
            #expect(outcome.result == .warnings && outcome.message.contains("\(closed)"), "\(outcome)")
            #expect(status(harness.snapshot("daily.0/own", of: uid))?.st_uid == number)
        }
    }
}
