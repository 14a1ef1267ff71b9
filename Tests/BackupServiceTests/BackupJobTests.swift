import LDAP
import Foundation
import Glibc
import Provisioning
import SystemPackage
import TestSupport
import Testing

@testable import BackupService
@testable import JobCore

/// Whole backups, with the real rsnapshot and rsync and an LDAP server.
@Suite(.enabled(if: BackupHarness.hasRsnapshot, "rsnapshot is not installed: apt install rsnapshot"))
struct BackupJobTests {
    private let first = "3723707"
    private let second = "3723708"

    @Test(
        "a real backup: two accounts, daily twice with a change in between; what did not change is shared, and the entry has the sizes"
    )
    func twoAccounts() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first) {
                $0["sstBackupLastSuccessfulBackup"] = ["0", "other:20260101T000000Z"]
            }
            try await harness.addProvisioned(second)
            for uid in [first, second] {
                try harness.directory.makeDirectory(FilePath("homes/\(uid)/incoming/deep"))
                try harness.directory.write(
                    String(repeating: "same", count: 50_000), to: FilePath("homes/\(uid)/incoming/same"))
                try harness.directory.write("old", to: FilePath("homes/\(uid)/incoming/deep/changing"))
                #expect(try await harness.backup(.daily, uid) == .success)
            }
            try harness.directory.write(
                String(repeating: "new!", count: 10_000), to: FilePath("homes/\(first)/incoming/deep/changing"))
            for uid in [first, second] { #expect(try await harness.backup(.daily, uid) == .success) }

            for uid in [first, second] {
                let (newest, older) = (harness.snapshot("daily.0", of: uid), harness.snapshot("daily.1", of: uid))
                #expect(status(newest.appending("same"))?.st_ino == status(older.appending("same"))?.st_ino)
                let isShared =
                    status(newest.pushing("deep/changing"))?.st_ino == status(older.pushing("deep/changing"))?.st_ino
                #expect(isShared == (uid == second))
                #expect(try text(older.pushing("deep/changing")) == "old")
                let all = try await du([harness.home(uid).appending(".snapshots")])
                let alone = try await du([older, newest])
                #expect(try await harness.values("sstBackupSize", of: uid) == all.map(String.init))
                #expect(try await harness.values("sstIncrementSize", of: uid) == [String(alone[1])])
            }
            #expect(try text(harness.snapshot("daily.0/deep/changing", of: first)).hasPrefix("new!"))
            let times = try await harness.values("sstBackupLastSuccessfulBackup", of: first).sorted()
            #expect(times.count == 2 && times[1] == "other:20260101T000000Z")
            #expect(try times[0].wholeMatch(of: Regex("backup1:20[0-9]{6}T[0-9]{6}Z")) != nil)
            #expect(harness.progress.last == 100)
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: harness.configuration.lockDirectory.string) == [])
        }
    }

    @Test("a level that only takes over older snapshots writes the size of all, and neither an increment nor a time")
    func rotation() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first) { $0["sstBackupIntervalDaily"] = ["2"] }
            try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/file"))
            for _ in 0..<2 { #expect(try await harness.backup(.daily, first) == .success) }
            let before = try await harness.values("sstBackupLastSuccessfulBackup", of: first)
            try await harness.manager.modify(BackupHarness.dn(first), [.replace("sstIncrementSize", "7")])
            #expect(try await harness.backup(.weekly, first) == .success)
            #expect(exists(harness.snapshot("weekly.0/file", of: first)))
            #expect(try await harness.values("sstIncrementSize", of: first) == ["7"])
            #expect(try await harness.values("sstBackupLastSuccessfulBackup", of: first) == before)
            let all = try await du([harness.home(first).appending(".snapshots")])
            #expect(try await harness.values("sstBackupSize", of: first) == all.map(String.init))
        }
    }

    @Test("each of the three attributes can be switched off; with all of them off nothing is measured")
    func switches() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            #expect(
                try await harness.backup(.daily, first) {
                    ($0.writesBackupSize, $0.writesIncrementSize, $0.writesBackupTime) = (false, false, false)
                } == .success)
            for name: AttributeName in ["sstBackupSize", "sstIncrementSize", "sstBackupLastSuccessfulBackup"] {
                #expect(try await harness.values(name, of: first) == [])
            }
            #expect(!harness.steps.contains { $0.name == "sizes" })
            #expect(
                try await harness.backup(.daily, first) {
                    ($0.writesIncrementSize, $0.writesBackupTime) = (false, false)
                }
                    == .success)
            #expect(try await harness.values("sstBackupSize", of: first).count == 1)
            #expect(try await harness.values("sstIncrementSize", of: first) == [])
        }
    }

    @Test(
        "a killed rsnapshot is a failure, leaves no process, and no snapshot is changed; the next run continues"
    )
    func killed() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first) {
                $0["sstBackupLastSuccessfulBackup"] = ["backup1:20260101T000000Z"]
            }
            try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/file"))
            #expect(try await harness.backup(.daily, first) == .success)
            let before = try harness.snapshots(of: first)
            let last = try await harness.values("sstBackupLastSuccessfulBackup", of: first)
            let slow = try Self.slowRsync(harness, of: first)
            let request = try await harness.request(.daily, first)
            async let ended = harness.attempt(request)
            let child = try await Self.pid(in: slow)
            #expect(kill(child, SIGKILL) == 0)
            let outcome = try await ended
            #expect(outcome.result == .failed && outcome.failureClass == .permanent, "\(outcome)")
            #expect(outcome.message.contains("signal 9"), "\(outcome)")
            #expect(!Self.isRunning(child))
            #expect(try harness.snapshots(of: first) == before)
            #expect(try await harness.values("sstBackupLastSuccessfulBackup", of: first) == last)

            try Self.usualRsync(harness, of: first)
            #expect(try await harness.backup(.daily, first) == .success)
            #expect(try harness.snapshots(of: first).keys.sorted() == ["daily.0", "daily.1"])
        }
    }

    @Test("a run longer than TIMEOUT and a cancelled one are ended and leave no process")
    func ended() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            let slow = try Self.slowRsync(harness, of: first)
            let request = try await harness.request(.daily, first)
            let clock = ManualSteadyClock()
            async let ended = harness.attempt(request, scripts: ScriptRunner(clock: clock))
            _ = try await Self.pid(in: slow)
            clock.advance(by: .seconds(120))
            let late = try await ended
            #expect(late.result == .failed && late.message.contains("raise TIMEOUT"), "\(late)")
            #expect(Self.processes(running: slow).isEmpty)
            #expect(try await harness.state(of: first).copyHitTimeLimit == true)

            async let canceled = harness.attempt(request)
            _ = try await Self.pid(in: slow)
            let job = try #require(await harness.registry.live().first)
            #expect(await harness.registry.cancel(job.id))
            #expect(try await canceled.result == .aborted)
            #expect(Self.processes(running: slow).isEmpty)
            #expect(try await harness.values("sstBackupLastSuccessfulBackup", of: first) == [])
        }
    }

    @Test(
        "TIMEOUT stops every step but the rotation; no snapshot is changed, and the next run continues",
        arguments: ["account", "make room", "copy", "inspect", "rotate", "clean up"])
    func timeLimit(step: String) async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first) { $0["sstBackupIntervalDaily"] = ["2"] }
            try harness.directory.makeDirectory(FilePath("homes/\(first)/incoming/deep"))
            try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/deep/file"))
            for _ in 0..<2 { #expect(try await harness.backup(.daily, first) == .success) }
            let before = try harness.snapshots(of: first)
            try harness.directory.write("new", to: FilePath("homes/\(first)/incoming/new"))

            let clock = ManualSteadyClock()
            harness.after(step: step) { clock.advance(by: .seconds(120)) }
            let request = try await harness.request(.daily, first, clock: clock)
            let outcome = try await harness.attempt(request)
            harness.after(step: step, nil)
            let isCopied = ["inspect", "rotate", "clean up"].contains(step)
            #expect(outcome.result == (isCopied ? .warnings : .failed), "\(outcome)")
            #expect(outcome.message.contains("raise TIMEOUT in [Backup Jobs]"), "\(outcome)")
            #expect(try await harness.state(of: first).copyHitTimeLimit == true)
            let after = try harness.snapshots(of: first)
            #expect(isCopied ? after["daily.1"] == before["daily.0"] : after == before)
            let copied = status(harness.snapshot(isCopied ? "daily.0/new" : ".sync/new", of: first))?.st_ino
            #expect((copied == nil) == ["account", "make room"].contains(step))

            #expect(try await harness.backup(.daily, first) == .success)
            #expect(try await harness.state(of: first).copyHitTimeLimit == nil)
            #expect(try harness.snapshots(of: first).keys.sorted() == ["daily.0", "daily.1"])
            let newest = try #require(status(harness.snapshot("daily.0/new", of: first))?.st_ino)
            #expect(copied ?? newest == newest, "what was copied is not copied again")
            for name in [".sync", ".partial"] as [FilePath] { #expect(!exists(harness.snapshot(name, of: first))) }
            let all = try await du([harness.home(first).appending(".snapshots")])
            #expect(try await harness.values("sstBackupSize", of: first) == all.map(String.init))
        }
    }

    @Test("a job that TIMEOUT stops before it has begun is also continued after all others")
    func timeLimitAtBegin() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            #expect(try await harness.backup(.daily, first) == .success)
            // The record of the last full copy is lost, and that copy is measured again.
            var state = try await harness.state(of: first)
            state.fullCopy = nil
            try await harness.record(state, of: first)
            try harness.directory.makeDirectory(FilePath("homes/\(first)/.snapshots/.full/inner"))
            let clock = ManualSteadyClock()
            harness.after(step: "account") { clock.advance(by: .seconds(120)) }
            let request = try await harness.request(.daily, first, clock: clock)
            let outcome = try await harness.attempt(request)
            harness.after(step: "account", nil)
            #expect(outcome.result == .failed && outcome.message.contains("raise TIMEOUT"), "\(outcome)")
            #expect(try await harness.state(of: first).copyHitTimeLimit == true)
            #expect(try await harness.backup(.daily, first).result.isSuccess)
            #expect(try await harness.state(of: first).copyHitTimeLimit == nil)
        }
    }

    @Test(
        "how many names a walk may come to grows with what rsync has counted in the copy, by ten times in a night too")
    func names() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            var count = 0
            for number in [0, 20, 200] {
                for _ in 0..<number {
                    try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/file\(count)"))
                    count += 1
                }
                #expect(try await harness.backup(.daily, first) == .success)
                let state = try await harness.state(of: first)
                #expect(state.lastCopy?.names == UInt64(count))
                #expect(state.sizes.nameLimit(of: state.lastCopy?.inode) == .counted(UInt64(count)))
            }
        }
    }

    @Test(
        "a copy that has far more names than rsync has counted is none, with the place and what to do; snapshots stay")
    func tooManyNames() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/file"))
            #expect(try await harness.backup(.daily, first) == .success)
            let before = try harness.snapshots(of: first)
            // As if the account made and moved names faster than they are read.
            let script = try harness.directory.write(
                """
                #!/bin/sh
                for copy; do :; done
                cd "$copy" && seq 100010 | xargs touch
                echo "Number of files: 2 (reg: 1, dir: 1)"

                """, to: FilePath("homes/\(first)/rsync"), mode: 0o755)
            try Self.set(rsync: script, harness, of: first)
            let outcome = try await harness.backup(.daily, first)
            #expect(outcome.result == .failed, "\(outcome)")
            for part in [
                ".snapshots/.sync has more than 100004 names (twice the 2 that were counted", "ps -fu \(first)",
            ] {
                #expect(outcome.message.contains(part), "\(outcome)")
            }
            #expect(try harness.snapshots(of: first) == before)
            try Self.usualRsync(harness, of: first)
            #expect(try await harness.backup(.daily, first) == .success)
            #expect(!exists(harness.snapshot(".partial", of: first)))
        }
    }

    @Test(
        "an rsync or a file with patterns that others can write is not used, though the account's configuration names it",
        arguments: ["cmd_rsync", "exclude_file"])
    func untrusted(directive: String) async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            let file = try harness.directory.write(
                "#!/bin/sh\ntouch \(harness.home(first))/ran\nexec /usr/bin/rsync \"$@\"\n", to: "scripts/named",
                mode: 0o777)
            if directive == "cmd_rsync" {
                try Self.set(rsync: file, harness, of: first)
            } else {
                let own = FilePath("rsnapshot.d/\(first).conf")
                try harness.directory.write(
                    text(harness.directory.path.pushing(own)) + "exclude_file\t\(file)\n", to: own)
            }
            let outcome = try await harness.backup(.daily, first)
            #expect(outcome.result == .wrongConfiguration, "\(outcome)")
            for part in [directive, "is refused: \(file)", "chmod go-w \(file)"] {
                #expect(outcome.message.contains(part), "\(outcome)")
            }
            #expect(!exists(harness.home(first).appending("ran")))
            #expect(try harness.snapshots(of: first).isEmpty)
        }
    }

    @Test(
        "needs root and Linux 6.8: each mount has a number of its own, so that a copy is not continued on another one",
        .enabled(if: isRoot))
    func mountNumbers() throws {
        let directory = try TestDirectory()
        var numbers: Set<UInt64> = []
        for _ in 1...2 {
            let mount = try TestMount(at: directory.homes)
            numbers.insert(try HeldDirectory(configured: directory.homes).mountNumber)
            withExtendedLifetime(mount) {}
        }
        #expect(numbers.count == 2 || numbers == [0])
    }

    @Test("a running rsnapshot is a retryable failure; a stale lock is replaced")
    func locked() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            let lock = harness.configuration.lockDirectory.appending("rsnapshot-\(first).pid")
            let program = try harness.directory.write(
                "#!/bin/sh\necho $$ > \(lock)\nwhile [ -e \(lock) ]; do sleep 0.05; done\n", to: "scripts/rsnapshot",
                mode: 0o755)
            async let byHand = ScriptRunner().run(
                ScriptInvocation(
                    executable: program, environment: ["PATH": "/bin"], timeLimit: .seconds(3_600), grace: .seconds(1)))
            try await eventually("the lock is there") { try exists(lock) && !text(lock).isEmpty }
            let outcome = try await harness.backup(.daily, first)
            #expect(outcome.result == .failed && outcome.failureClass == .retryable)
            #expect(outcome.message.contains("\(lock) is held by process "), "\(outcome.message)")
            #expect(!exists(harness.snapshot("daily.0", of: first)))
            _ = unlink(lock.string)
            _ = try await byHand

            try harness.directory.write("1\n", to: FilePath("run/rsnapshot-\(first).pid"))
            #expect(try await harness.backup(.daily, first) == .success)
            #expect(!exists(lock))
        }
    }

    @Test(
        "backups on a full disk fail with the reason, change no snapshot and leave no unfinished copy",
        .enabled(if: isRoot, "needs root to mount a small file system"))
    func fullDisk() async throws {
        try await BackupHarness.run { harness in
            let small = try TestMount(at: harness.directory.homes, options: "mode=0755,size=2m")
            try await harness.addProvisioned(first)
            for day in 1...3 {
                try harness.directory.write("day \(day)", to: FilePath("homes/\(first)/incoming/note"))
                #expect(try await harness.backup(.daily, first) == .success)
            }
            let before = try harness.snapshots(of: first)
            #expect(before.count == 3)
            for name in ["one", "two"] {
                try harness.directory.write(
                    String(repeating: "x", count: 600_000), to: FilePath("homes/\(first)/incoming/\(name)"))
            }
            for _ in 1...7 {
                let outcome = try await harness.backup(.daily, first)
                #expect(outcome.result == .failed && outcome.failureClass == .permanent)
                #expect(outcome.message.contains("the disk is full"), "\(outcome.message)")
                #expect(try harness.snapshots(of: first) == before)
                for name in [".sync", ".partial"] as [FilePath] { #expect(!exists(harness.snapshot(name, of: first))) }
            }
            _ = unlink(harness.home(first).pushing("incoming/two").string)
            #expect(try await harness.backup(.daily, first) == .success)
            #expect(
                try harness.snapshots(of: first).count == 4
                    && text(harness.snapshot("daily.1/note", of: first)) == "day 3")
            withExtendedLifetime(small) {}
        }
    }

    @Test("a copy that lacks room fails for that reason, also where TIMEOUT cuts off its removal")
    func fullDiskAndTimeLimit() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            let script = harness.home(first).appending("rsync")
            try harness.directory.write(
                """
                #!/bin/sh
                for copy; do :; done
                mkdir "$copy/inner"
                while [ ! -e \(script).go ]; do sleep 0.05; done
                echo 'rsync: [receiver] write failed on "x": No space left on device (28)'
                exit 11

                """, to: FilePath("homes/\(first)/rsync"), mode: 0o755)
            try Self.set(rsync: script, harness, of: first)
            let clock = ManualSteadyClock()
            let request = try await harness.request(.daily, first, clock: clock)
            async let ended = harness.attempt(request)
            _ = try await Self.pid(in: script)
            clock.advance(by: .seconds(120))
            try Self.letGo(script)
            let outcome = try await ended
            #expect(outcome.result == .failed, "\(outcome)")
            for part in ["the disk is full", "the unfinished copy was not removed: ", "TIMEOUT"] {
                #expect(outcome.message.contains(part), "\(outcome)")
            }
            #expect(try await harness.state(of: first).copyHitTimeLimit == true)
        }
    }

    @Test(
        "on a full disk a lowered number of snapshots and leftovers of an interrupted job give the room for the next copy",
        .enabled(if: isRoot, "needs root to mount a small file system"), arguments: [false, true])
    func noFreeByte(isRotationUnrecorded: Bool) async throws {
        try await BackupHarness.run({ $0.lockDirectory = $0.places.roots[0].appending("locks") }) { harness in
            let small = try TestMount(at: harness.directory.homes, options: "mode=0755,size=3m")
            try harness.directory.makeDirectory("homes/locks")
            try await harness.addProvisioned(first)
            for day in 1...4 {
                try harness.directory.write(
                    String(repeating: "\(day)", count: 400_000), to: FilePath("homes/\(first)/incoming/file"))
                #expect(try await harness.backup(.daily, first) == .success)
            }
            if isRotationUnrecorded {
                // As after a crash between the renames and the record.
                var state = try await harness.state(of: first)
                let newest = try #require(try harness.snapshots(of: first)["daily.0"])
                let completed = try #require(state.completed.first)
                state.rotation = .init(
                    level: "daily", inode: newest, source: ".sync", job: completed.job, copy: state.lastCopy,
                    end: completed.end)
                try await harness.record(state, of: first)
            }
            try await harness.manager.modify(BackupHarness.dn(first), [.replace("sstBackupIntervalDaily", "2")])
            try await BackupRsnapshotService(configuration: harness.configuration)
                .carryOut(.modify, try #require(await harness.entry(first)))
            try harness.directory.write(
                String(repeating: "5", count: 400_000), to: FilePath("homes/\(first)/incoming/file"))
            try Self.fill(harness.directory.homes.appending("filler"))
            #expect(try await harness.backup(.daily, first) == .success)
            #expect(try harness.snapshots(of: first).keys.sorted() == ["daily.0", "daily.1"])
            #expect(try text(harness.snapshot("daily.0/file", of: first)).first == "5")
            let state = try await harness.state(of: first)
            #expect(state.rotation == nil && state.lastAttempt?.result == "success")
            let all = try await du([harness.home(first).appending(".snapshots")])
            #expect(try await harness.values("sstBackupSize", of: first) == all.map(String.init))
            withExtendedLifetime(small) {}
        }
    }

    /// Fills a file system.
    private static func fill(_ file: FilePath) throws {
        let descriptor = try FileDescriptor.open(
            file, .writeOnly, options: [.create, .exclusiveCreate], permissions: [.ownerReadWrite])
        let page = [UInt8](repeating: 0, count: 4096)
        try descriptor.closeAfter {
            do { while true { try descriptor.writeAll(page) } } catch let error as Errno where error == .noSpace {}
        }
    }

    @Test("links, pipes, deep directories and names with line feeds affect neither the backup nor the sizes")
    func hostile() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            let incoming = harness.home(first).appending("incoming")
            let outside = try harness.directory.makeDirectory("outside")
            try harness.directory.write(String(repeating: "x", count: 1_000_000), to: "outside/big")
            try harness.directory.link(FilePath("homes/\(first)/incoming/directory"), to: outside)
            try harness.directory.link(FilePath("homes/\(first)/incoming/root"), to: "/")
            try harness.directory.link(FilePath("homes/\(first)/incoming/up"), to: "../../../..")
            try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/two\nlines\u{1b}[31m"))
            try harness.directory.write("option", to: FilePath("homes/\(first)/incoming/--delete-before"))
            #expect(mkfifo(incoming.appending("pipe").string, 0o600) == 0)
            let deep = (1...10).map { "level\($0)" }.joined(separator: "/")
            try harness.directory.makeDirectory(FilePath("homes/\(first)/incoming/\(deep)"))
            try harness.directory.write("deep", to: FilePath("homes/\(first)/incoming/\(deep)/file"))
            let before = try text(outside.appending("big"))
            for _ in 0..<2 { #expect(try await harness.backup(.daily, first) == .success) }
            let newest = harness.snapshot("daily.0", of: first)
            #expect(status(newest.appending("directory")).map { $0.st_mode & S_IFMT } == S_IFLNK)
            #expect(status(newest.appending("pipe")).map { $0.st_mode & S_IFMT } == S_IFIFO)
            #expect(try text(newest.pushing(FilePath("\(deep)/file"))) == "deep")
            let all = try await du([harness.home(first).appending(".snapshots")])
            #expect(try await harness.values("sstBackupSize", of: first) == all.map(String.init))
            #expect(all[0] < 900_000)
            #expect(try text(outside.appending("big")) == before)
        }
    }

    @Test(
        "a copy with less than a tenth warns, and the last full one is kept until a copy is full again or it is accepted"
    )
    func shrunk() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first) {
                $0["sstBackupIntervalDaily"] = ["2"]
                $0["sstBackupIntervalWeekly"] = ["0"]
                $0["sstBackupIntervalMonthly"] = ["0"]
            }
            func upload(_ names: [String]) throws {
                let uploads = harness.home(first).appending("incoming")
                for name in try FileManager.default.contentsOfDirectory(atPath: uploads.string) {
                    _ = unlink(uploads.appending(name).string)
                }
                for name in names {
                    try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/\(name)"))
                }
            }
            let all = (0..<20).map { "file\($0)" }
            try upload(all)
            #expect(try await harness.backup(.daily, first) == .success)
            try upload(["file0"])
            for _ in 0..<3 {
                let outcome = try await harness.backup(.daily, first)
                #expect(
                    outcome.result == .warnings && outcome.message.contains("snapshots accept \(first)"), "\(outcome)")
            }
            #expect(exists(harness.snapshot(".full/file19", of: first)))
            #expect(try harness.snapshots(of: first).keys.sorted() == ["daily.0", "daily.1"])

            let entry = try #require(await harness.entry(first))
            let account = try #require(Account(entry, names: AttributeNames()))
            #expect(try BackupJobs.acceptNewestCopy(of: account, harness.configuration)?.files == 1)
            #expect(try BackupJobs.acceptNewestCopy(of: account, harness.configuration) == nil)
            #expect(try await harness.backup(.daily, first) == .success)
            #expect(!exists(harness.snapshot(".full", of: first)))

            try upload(all)
            #expect(try await harness.backup(.daily, first) == .success)
        }
    }

    /// An account that keeps two snapshots, with so many files.
    private func addFiles(_ count: Int, _ harness: BackupHarness) async throws {
        try await harness.addProvisioned(first) {
            for level in ["Weekly", "Monthly"] {
                $0[AttributeName(unchecked: "sstBackupInterval\(level)")] = ["0"]
            }
            $0["sstBackupIntervalDaily"] = ["2"]
        }
        for index in 0..<count {
            try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/file\(index)"))
        }
    }

    /// Gives files to root, so that only the others are copied.
    private func close(_ indices: Range<Int>, _ harness: BackupHarness, owner: UInt32 = 0) throws {
        harness.ownsUploads.withLock { $0 = false }
        for index in indices {
            let file = harness.home(first).pushing(FilePath("incoming/file\(index)"))
            guard chown(file.string, owner, owner) == 0, chmod(file.string, 0o600) == 0 else {
                throw Errno(rawValue: errno)
            }
        }
    }

    @Test(
        "partial copies, however many files they have, do not replace the last whole snapshot; a whole copy does, and so does an accepted one",
        .enabled(if: isRoot, "needs root for files of other owners"), arguments: [false, true])
    func partialCopies(isAccepted: Bool) async throws {
        try await BackupHarness.run { harness in
            try await addFiles(30, harness)
            for _ in 0..<2 { #expect(try await harness.backup(.daily, first) == .success) }
            // First a tenth is left, then half.
            try close(3..<30, harness)
            for _ in 0..<2 { #expect(try await harness.backup(.daily, first).result == .warnings) }
            try close(3..<15, harness, owner: 3_723_707)
            for _ in 0..<3 {
                let outcome = try await harness.backup(.daily, first)
                #expect(outcome.result == .warnings, "\(outcome)")
                #expect(outcome.message.contains("snapshots accept \(first)"), "\(outcome)")
                #expect(exists(harness.snapshot("daily.0/file14", of: first)))
                #expect(!exists(harness.snapshot("daily.0/file15", of: first)))
                #expect(exists(harness.snapshot(".full/file29", of: first)))
            }
            if isAccepted {
                let entry = try #require(await harness.entry(first))
                let account = try #require(Account(entry, names: AttributeNames()))
                #expect(try BackupJobs.acceptNewestCopy(of: account, harness.configuration)?.files == 15)
                #expect(try BackupJobs.acceptNewestCopy(of: account, harness.configuration) == nil)
                for _ in 0..<3 {
                    let outcome = try await harness.backup(.daily, first)
                    #expect(outcome.result == .warnings && !outcome.message.contains("accept"), "\(outcome)")
                }
            } else {
                try close(15..<30, harness, owner: 3_723_707)
                #expect(try await harness.backup(.daily, first) == .success)
            }
            #expect(!exists(harness.snapshot(".full", of: first)))
        }
    }

    @Test(
        "with --acls, ACLs for users that do not exist in the sandbox are not copied, and the job names their files",
        .enabled(
            if: isRoot && Program.isExecutable("/usr/bin/setfacl"),
            "needs root for the sandbox, and setfacl: apt install acl"))
    func foreignACLs() async throws {
        try await BackupHarness.run { harness in
            try await addFiles(2, harness)
            try Self.change(harness, of: first) {
                $0.hasPrefix("rsync_long_args\t") ? $0 + " --acls" : $0
            }
            try harness.directory.makeDirectory(FilePath("homes/\(first)/incoming/inner"))
            for words in [["-m", "u:33:rw", "file0"], ["-d", "-m", "u:33:rwx", "inner"]] {
                let file = harness.home(first).pushing(FilePath("incoming/\(words.last ?? "")"))
                let setfacl = try await ScriptRunner().run(
                    ScriptInvocation(
                        executable: "/usr/bin/setfacl", arguments: words.dropLast() + [file.string],
                        environment: [:], timeLimit: .seconds(60), grace: .seconds(1)))
                try #require(setfacl.complaint == nil, "\(setfacl.outputTail)")
            }
            let outcome = try await harness.backup(.daily, first)
            #expect(outcome.result == .warnings && outcome.message.contains("set_acl: "), "\(outcome)")
            for name in ["file0", "file1", "inner"] {
                #expect(exists(harness.snapshot(FilePath("daily.0/\(name)"), of: first)))
            }
        }
    }

    @Test("a copy is empty where the template excludes all uploads; without rsync's word for that it is refused")
    func allExcluded() async throws {
        try await BackupHarness.run { harness in
            try await addFiles(1, harness)
            try Self.change(harness, of: first) { $0.hasPrefix("lockfile\t") ? "\($0)\nexclude\tfile*" : $0 }
            let excluded = try await harness.backup(.daily, first)
            #expect(excluded.result == .warnings && excluded.message.contains("RSNAPSHOT_TEMPLATE"), "\(excluded)")
            let copied = try FileManager.default.contentsOfDirectory(
                atPath: harness.snapshot("daily.0", of: first).string)
            #expect(copied == [])
            let before = try harness.snapshots(of: first)
            for (said, status) in [
                ("", 0), ("Number of files: 2 (reg: 1, dir: 1)", 0), ("Number of files: 1 (dir: 1)", 23),
            ] {
                let script = try harness.directory.write(
                    """
                    #!/bin/sh
                    echo 'rsync: [sender] send_files failed to open "/a": Permission denied (13)' | head -n \(status)
                    echo '\(said)'
                    exit \(status)

                    """, to: FilePath("homes/\(first)/rsync"), mode: 0o755)
                try Self.set(rsync: script, harness, of: first)
                let outcome = try await harness.backup(.daily, first)
                #expect(outcome.message.contains("the copy is empty and the uploads are not"), "\(outcome)")
                #expect(try harness.snapshots(of: first) == before)
            }
        }
    }

    @Test(
        "an account of which no copy was ever whole keeps no snapshot beyond the number of its level",
        .enabled(if: isRoot, "needs root for files of other owners"))
    func alwaysPartial() async throws {
        try await BackupHarness.run { harness in
            try await addFiles(10, harness)
            try close(1..<10, harness, owner: 3_723_707)
            try close(0..<1, harness)
            for _ in 0..<4 {
                let outcome = try await harness.backup(.daily, first)
                #expect(outcome.result == .warnings && !outcome.message.contains("accept"), "\(outcome)")
            }
            #expect(!exists(harness.snapshot(".full", of: first)))
            #expect(try harness.snapshots(of: first).keys.sorted() == ["daily.0", "daily.1"])
        }
    }

    @Test(
        "where a smaller level is new, its first copy shares files with the newest snapshot of a larger one, and its sizes say so"
    )
    func newLevel() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            try harness.directory.write(
                String(repeating: "same", count: 100_000), to: FilePath("homes/\(first)/incoming/same"))
            // With fewer, the verification of one snapshot in each job would correct the sizes at once.
            for _ in 0..<3 { #expect(try await harness.backup(.daily, first) == .success) }
            try await harness.manager.modify(BackupHarness.dn(first), [.replace("sstBackupIntervalHourly", "2")])
            try await BackupRsnapshotService(configuration: harness.configuration)
                .carryOut(.modify, try #require(await harness.entry(first)))
            for index in 0..<3 {
                #expect(try await harness.backup(.hourly, first) == .success)
                let older = index == 0 ? "daily.0" : "hourly.1"
                let alone = try await du(
                    [FilePath(older), "hourly.0"].map { harness.snapshot($0, of: first) })
                #expect(try await harness.values("sstIncrementSize", of: first) == [String(alone[1])], "\(index)")
                let all = try await du([harness.home(first).appending(".snapshots")])
                #expect(try await harness.values("sstBackupSize", of: first) == all.map(String.init), "\(index)")
            }
        }
    }

    @Test(
        "the last full snapshot is kept after the loss of the state file or a move of the volume",
        arguments: [false, true])
    func fullCopyWithoutRecord(isStateLost: Bool) async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first) { $0["sstBackupIntervalDaily"] = ["2"] }
            func upload(_ count: Int) throws {
                let uploads = harness.home(first).appending("incoming")
                for name in try FileManager.default.contentsOfDirectory(atPath: uploads.string) {
                    _ = unlink(uploads.appending(name).string)
                }
                for index in 0..<count {
                    try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/file\(index)"))
                }
            }
            try upload(20)
            #expect(try await harness.backup(.daily, first) == .success)
            try upload(1)
            for _ in 0..<(isStateLost ? 2 : 1) { #expect(try await harness.backup(.daily, first).result == .warnings) }
            if isStateLost {
                #expect(exists(harness.snapshot(".full/file19", of: first)))
                try await harness.record(SnapshotState(), of: first)
            } else {
                var state = try await harness.state(of: first)
                state.fullCopy?.inode = 1
                try await harness.record(state, of: first)
            }
            for _ in 0..<3 {
                let outcome = try await harness.backup(.daily, first)
                #expect(outcome.message.contains("snapshots accept \(first)"), "\(outcome)")
            }
            #expect(exists(harness.snapshot(".full/file19", of: first)))
        }
    }

    /// Removes uploads and adds others.
    private func upload(_ names: Range<Int>, _ harness: BackupHarness) throws {
        let uploads = harness.home(first).appending("incoming")
        for name in try FileManager.default.contentsOfDirectory(atPath: uploads.string) {
            _ = unlink(uploads.appending(name).string)
        }
        for name in names { try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/file\(name)")) }
    }

    /// As after a move of the volume.
    private func changeInodes(_ harness: BackupHarness) async throws {
        var state = try await harness.state(of: first)
        state.fullCopy?.inode = 1
        state.lastCopy?.inode = 1
        try await harness.record(state, of: first)
    }

    @Test(
        "after a move of the volume the last full snapshot is kept, whichever level has taken it over, and also if another one has the name .full",
        arguments: ["weekly", "weekly, no longer used", ".full"])
    func takenOverAndMoved(place: String) async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first) {
                ($0["sstBackupIntervalDaily"], $0["sstBackupIntervalWeekly"]) = (["2"], ["2"])
                ($0["sstBackupIntervalMonthly"], $0["sstBackupIntervalYearly"]) = (["0"], ["0"])
            }
            try upload(0..<50, harness)
            #expect(try await harness.backup(.daily, first) == .success)
            try upload(0..<1, harness)
            for level in [.daily, .weekly, .daily] as [SnapshotLevel] {
                #expect(try await harness.backup(level, first).result.isSuccess)
            }
            #expect(exists(harness.snapshot("weekly.0/file49", of: first)))
            let full = try harness.snapshots(of: first)["weekly.0"]
            if place.contains("no longer used") {
                try await harness.manager.modify(BackupHarness.dn(first), [.replace("sstBackupIntervalWeekly", "0")])
                try await BackupRsnapshotService(configuration: harness.configuration)
                    .carryOut(.modify, try #require(await harness.entry(first)))
            } else if place == ".full" {
                try harness.directory.makeDirectory(FilePath("homes/\(first)/.snapshots/.full/inner"))
            }
            try await changeInodes(harness)
            let outcome = try await harness.backup(.daily, first)
            #expect(outcome.message.contains("weekly.0 is assumed to be it and kept"), "\(outcome)")
            #expect(try await harness.state(of: first).fullCopy?.inode == full)
            if place.contains("no longer used") { return }
            for level in [.weekly, .daily, .daily, .weekly, .daily, .daily] as [SnapshotLevel] {
                #expect(try await harness.backup(level, first).result.isSuccess)
            }
            #expect(exists(harness.snapshot(".full/file49", of: first)))
        }
    }

    @Test(
        "after a move of the volume a partial copy that has not shrunk is not taken for the last whole one",
        .enabled(if: isRoot, "needs root for files of other owners"))
    func partialCopyAndMove() async throws {
        try await BackupHarness.run { harness in
            try await addFiles(30, harness)
            #expect(try await harness.backup(.daily, first) == .success)
            try close(15..<30, harness)
            #expect(try await harness.backup(.daily, first).result == .warnings)
            try await changeInodes(harness)
            for _ in 0..<3 { #expect(try await harness.backup(.daily, first).result == .warnings) }
            #expect(exists(harness.snapshot(".full/file29", of: first)))
        }
    }

    @Test(
        "on a full disk nothing is removed while the last full snapshot would have to be guessed",
        .enabled(if: isRoot, "needs root to mount a small file system"))
    func fullCopyOnFullDisk() async throws {
        try await BackupHarness.run({ $0.lockDirectory = $0.places.roots[0].appending("locks") }) { harness in
            let small = try TestMount(at: harness.directory.homes, options: "mode=0755,size=3m")
            try harness.directory.makeDirectory("homes/locks")
            try await harness.addProvisioned(first) {
                for level in ["Weekly", "Monthly", "Yearly"] {
                    $0[AttributeName(unchecked: "sstBackupInterval\(level)")] = ["0"]
                }
                $0["sstBackupIntervalDaily"] = ["2"]
            }
            for index in 0..<20 {
                try harness.directory.write("text", to: FilePath("homes/\(first)/incoming/file\(index)"))
            }
            #expect(try await harness.backup(.daily, first) == .success)
            for index in 1..<20 { _ = unlink(harness.home(first).pushing(FilePath("incoming/file\(index)")).string) }
            #expect(try await harness.backup(.daily, first).result == .warnings)
            var state = try await harness.state(of: first)
            state.fullCopy?.inode = 1
            try await harness.record(state, of: first)
            try await harness.manager.modify(BackupHarness.dn(first), [.replace("sstBackupIntervalDaily", "1")])
            try await BackupRsnapshotService(configuration: harness.configuration)
                .carryOut(.modify, try #require(await harness.entry(first)))
            let filler = harness.directory.homes.appending("filler")
            try Self.fill(filler)
            #expect(try await harness.backup(.daily, first).result == .failed)
            #expect(exists(harness.snapshot("daily.1/file19", of: first)))
            unlink(filler.string)
            #expect(try await harness.backup(.daily, first).result == .warnings)
            #expect(exists(harness.snapshot(".full/file19", of: first)))
            withExtendedLifetime(small) {}
        }
    }

    @Test(
        "a damaged snapshot prevents no new one, neither as the newest nor after it was dropped, and is reported",
        .enabled(if: DamageableVolume.isPossible, "needs root, loop devices and debugfs"))
    func damagedSnapshot() async throws {
        try await BackupHarness.run { harness in
            let volume = try await DamageableVolume(in: harness.directory)
            try await harness.addProvisioned(first) { $0["sstBackupIntervalDaily"] = ["2"] }
            let upload = FilePath("homes/\(first)/incoming/directory/file")
            try harness.directory.makeDirectory(upload.removingLastComponent())
            try harness.directory.write("text", to: upload)
            #expect(try await harness.backup(.daily, first) == .success)
            try await volume.damage("\(first)/.snapshots/daily.0/directory")
            for number in 0..<5 {
                try harness.directory.write("text \(number)", to: upload)
                let outcome = try await harness.backup(.daily, first)
                // Once it is neither linked nor dropped nobody reads it.
                #expect(outcome.result == .warnings || number == 1, "\(number): \(outcome)")
                #expect(try text(harness.snapshot("daily.0/directory/file", of: first)) == "text \(number)")
            }
            withExtendedLifetime(volume) {}
        }
    }

    @Test("of two unfinished copies the larger one is continued, and a larger level does not change it")
    func furtherCopy() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first) { $0["sstBackupIntervalDaily"] = ["2"] }
            for _ in 0..<2 { #expect(try await harness.backup(.daily, first) == .success) }
            let snapshots = FilePath("homes/\(first)/.snapshots")
            func leave(_ name: FilePath, bytes: Int) throws {
                try harness.directory.makeDirectory(snapshots.pushing(name), owner: UInt32(first))
                try harness.directory.write(
                    String(repeating: "x", count: bytes), to: snapshots.pushing(name).appending("file"))
            }
            func size() -> Int64? { status(harness.snapshot(".partial/file", of: first)).map { Int64($0.st_size) } }
            let broken = harness.home(first).appending("rsync")
            try harness.directory.write("#!/bin/sh\nexit 12\n", to: FilePath("homes/\(first)/rsync"), mode: 0o755)
            try Self.set(rsync: broken, harness, of: first)
            try leave(".partial", bytes: 100_000)
            try leave(".sync", bytes: 10)
            #expect(try await harness.backup(.daily, first).result == .failed)
            #expect(size() == 100_000)
            try leave(".sync", bytes: 200_000)
            #expect(try await harness.backup(.daily, first).result == .failed)
            #expect(size() == 200_000)
            #expect(try await harness.backup(.weekly, first) == .success)
            #expect(size() == 200_000)
            try Self.usualRsync(harness, of: first)
            #expect(try await harness.backup(.daily, first) == .success)
            #expect(size() == nil)
            let all = try await du([harness.home(first).appending(".snapshots")])
            #expect(try await harness.values("sstBackupSize", of: first) == all.map(String.init))
        }
    }

    @Test(
        "an unfinished copy of an earlier boot or mount is not continued, since its files may have size and time without contents",
        arguments: zip(
            [
                nil, .written(boot: "an earlier one", isPartialFlushed: false),
                .written(boot: "\(SnapshotWork.boot ?? "") 1", isPartialFlushed: false),
                .written(boot: "an earlier one", isPartialFlushed: true), .flushed,
            ] as [SnapshotState.UnfinishedCopy?], [[], [], [], [".partial"], [".sync", ".partial"]]))
    func earlierBoot(unfinished: SnapshotState.UnfinishedCopy?, reliable: Set<String>) async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            let upload = FilePath("homes/\(first)/incoming/file")
            try harness.directory.write("contents", to: upload)
            let whole = String(repeating: "\0", count: 8)
            for name in [".sync", ".partial"] {
                let copy = FilePath("homes/\(first)/.snapshots/\(name)")
                try harness.directory.makeDirectory(copy, owner: UInt32(first))
                try harness.directory.write(whole, to: copy.appending("file"))
                var times = try #require(status(harness.directory.path.pushing(upload))).times
                #expect(
                    utimensat(AT_FDCWD, harness.directory.path.pushing(copy).appending("file").string, &times, 0) == 0)
            }
            var state = SnapshotState()
            state.unfinished = unfinished
            try await harness.record(state, of: first)
            #expect(try await harness.backup(.daily, first) == .success)
            // What is relied on is linked.
            let copied = try text(harness.snapshot("daily.0/file", of: first))
            #expect(copied == (reliable.isEmpty ? "contents" : whole))
        }
    }

    @Test(
        "a copy that is not flushed never has the name of a flushed one while the state says that this is flushed",
        arguments: [CopyConfinement.on, .root])
    func unflushedCopy(confinement: CopyConfinement) async throws {
        try await BackupHarness.run({ $0.confinement = confinement }) { harness in
            try await harness.addProvisioned(first)
            var work = try await harness.work(on: first)
            let partial = FilePath("homes/\(first)/.snapshots/.partial")
            try harness.directory.makeDirectory(partial, owner: UInt32(first))
            try harness.directory.write("flushed", to: partial.appending("file"))
            let flushed = status(harness.directory.path.pushing(partial))?.st_ino
            work.state.unfinished = .flushed
            _ = try work.prepareCopy(isCancelled: { false })
            guard case .written(let boot, isPartialFlushed: true) = work.state.unfinished else {
                Issue.record("\(String(describing: work.state.unfinished))")
                return
            }
            // A larger copy, at which the daemon is killed; then the state file cannot be written.
            try harness.directory.write(
                String(repeating: "x", count: 100_000), to: FilePath("homes/\(first)/.snapshots/.sync/file"))
            let obstacle = try harness.directory.makeDirectory(FilePath("homes/\(first)/.snapshots/.state.new"))
            #expect(throws: HeldDirectory.Failure.self) { _ = try work.prepareCopy(isCancelled: { false }) }
            #expect(status(harness.directory.path.pushing(partial))?.st_ino == flushed)
            #expect(rmdir(obstacle.string) == 0)

            work.state = try await harness.state(of: first)
            _ = try work.prepareCopy(isCancelled: { false })
            #expect(status(harness.directory.path.pushing(partial))?.st_ino != flushed)
            let unflushed = SnapshotState.UnfinishedCopy.written(boot: boot, isPartialFlushed: false)
            #expect(try await harness.state(of: first).unfinished == unflushed)
            // After a success there is no flushed copy any more.
            work.state.unfinished = .written(boot: boot, isPartialFlushed: true)
            for name in [".sync", ".work", ".partial"] {
                try? FileManager.default.removeItem(atPath: harness.snapshot(FilePath(name), of: first).string)
            }
            _ = try work.prepareCopy(isCancelled: { false })
            #expect(try await harness.state(of: first).unfinished == unflushed)
        }
    }

    @Test(
        "a copy of which the disk did not take all is not continued in the same boot either, whether it had ended or not",
        arguments: [false, true], [CopyConfinement.on, .root])
    func failedFlush(hasEnded: Bool, confinement: CopyConfinement) async throws {
        try await BackupHarness.run({ $0.confinement = confinement }) { harness in
            try await harness.addProvisioned(first)
            var work = try await harness.work(on: first)
            let flushed = try work.prepareCopy(isCancelled: { false }).fileSystem
            let snapshots = FilePath("homes/\(first)/.snapshots")
            try harness.directory.makeDirectory(snapshots.appending(".partial"), owner: UInt32(first))
            for name in [".sync", ".partial"] {
                try harness.directory.write("contents", to: snapshots.appending("\(name)/file"))
            }
            try work.flushUnfinishedCopy(flushed)
            #expect(try await harness.state(of: first).unfinished == .flushed)
            // syncfs(2) refuses a descriptor that was opened by O_PATH.
            let failing = work.snapshots.directory
            #expect(throws: HeldDirectory.Failure.self) {
                if hasEnded {
                    let copy = SnapshotWork.FinishedCopy(
                        end: .init(isWhole: true), hadUploads: true, names: 1, fileSystem: failing)
                    let job = Job(
                        id: JobID(1), type: .backup, name: "daily", level: "daily", subject: JobSubject("1"),
                        client: first, created: SystemWallClock().now)
                    _ = try work.inspect(copy, job: job, uid: first, isCancelled: { false })
                } else {
                    try work.flushUnfinishedCopy(failing)
                }
            }
            let names = try FileManager.default.contentsOfDirectory(
                atPath: harness.snapshot("", of: first).string)
            #expect(names.filter { $0.hasPrefix(".trash-") }.count == 2, "\(names)")
            #expect(Set([".sync", ".partial", ".work"]).isDisjoint(with: names), "\(names)")
        }
    }

    @Test("a state file of a later version fails the backup with the reason, and stays as it is")
    func laterVersion() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            #expect(try await harness.backup(.daily, first) == .success)
            let before = try harness.snapshots(of: first)
            let later = #"{"version": 99, "rotation": {"what": "this version does not know"}}"#
            let file = FilePath("homes/\(first)/.snapshots/.state")
            try harness.directory.write(later, to: file)
            let outcome = try await harness.backup(.daily, first)
            #expect(outcome.result == .failed && outcome.message.contains("later version"), "\(outcome)")
            #expect(outcome.message.contains("rm \(harness.snapshot(".state", of: first))"), "\(outcome)")
            #expect(try text(harness.snapshot(".state", of: first)) == later)
            #expect(try harness.snapshots(of: first) == before)
            let entry = try #require(await harness.entry(first))
            let account = try #require(Account(entry, names: AttributeNames()))
            let failure = #expect(throws: ProvisioningFailure.self) {
                _ = try BackupJobs.acceptNewestCopy(of: account, harness.configuration)
            }
            #expect(failure.map { outcome.message.contains($0.hint) } == true, "one hint: \(failure?.hint ?? "")")
        }
    }

    @Test("a rotation that another job completes has the time of its copy")
    func lateRotation() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            #expect(try await harness.backup(.daily, first) == .success)
            var state = try await harness.state(of: first)
            let completed = try #require(state.completed.first)
            state.rotation = .init(
                level: "daily", inode: try #require(try harness.snapshots(of: first)["daily.0"]), source: ".sync",
                job: completed.job, copy: state.lastCopy, end: completed.end, finished: 1_700_000_000)
            try await harness.record(state, of: first)
            #expect(try await harness.backup(.weekly, first).result.isSuccess)
            let success = try await harness.state(of: first).lastSuccess(of: .daily)
            #expect(success == Timestamp(secondsSince1970: 1_700_000_000))
        }
    }

    @Test("the home of two entries with one uid is copied once, with a warning that names both")
    func sharedUID() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            var copy = try #require(await harness.entry(first))
            copy.dn = try BackupHarness.base.appending("cn", "Account")
            for name in ["entryUUID", "entryCSN"] as [AttributeName] { copy[name] = [] }
            try await harness.manager.add(copy)
            var requests: [JobRequest] = []
            try await harness.jobs().all(of: .daily) { requests += [$0].compactMap(\.self) }
            #expect(requests.count == 2)
            var outcomes: [JobOutcome] = []
            for request in requests { outcomes.append(try await harness.attempt(request)) }
            #expect(outcomes.map(\.result) == [.warnings, .warnings], "\(outcomes)")
            let warning = try #require(outcomes.first { !$0.message.contains("nothing to do: ") }).message
            #expect(warning.contains("\(copy.dn)") && warning.contains("uid=\(first),"), "\(warning)")
            #expect(outcomes.count { $0.message.contains("nothing to do: ") } == 1)
            #expect(try harness.snapshots(of: first).keys.sorted() == ["daily.0"])
            #expect(try await harness.jobs().requests(of: .daily, accounts: [first], isForced: true).jobs.count == 1)
        }
    }

    @Test(
        "an entry of another host, or with another home, keeps no account of the same uid from its backups",
        arguments: ["host", "homeDirectory"])
    func foreignUID(attribute: AttributeName) async throws {
        try await BackupHarness.run(hosts: [BackupHarness.host]) { harness in
            try await harness.addProvisioned(first) { $0["host"] = [AttributeValue(BackupHarness.host)] }
            var copy = try #require(await harness.entry(first))
            let uuid = try #require(copy.text("entryUUID"))
            copy.dn = try BackupHarness.base.appending("cn", "Account")
            for name in ["entryUUID", "entryCSN"] as [AttributeName] { copy[name] = [] }
            try await harness.manager.add(copy)
            let added = try #require(
                await harness.manager.entry(at: copy.dn, attributes: ["*", "entryUUID", "entryCSN"]))
            // Of entries with one home the first by entryUUID would be backed up.
            let isSmaller = try #require(added.text("entryUUID")) < uuid
            let (foreign, own) =
                isSmaller ? (copy.dn, try BackupHarness.dn(first)) : (try BackupHarness.dn(first), copy.dn)
            try await harness.manager.modify(
                foreign,
                [
                    .replace(
                        attribute,
                        AttributeValue(attribute == "host" ? "backup2" : "\(harness.directory.homes)/others/\(first)"))
                ])
            var requests: [JobRequest] = []
            try await harness.jobs().all(of: .daily) { requests += [$0].compactMap(\.self) }
            #expect(requests.count == (attribute == "host" ? 1 : 2))
            var outcomes: [JobOutcome] = []
            for request in requests { outcomes.append(try await harness.attempt(request)) }
            #expect(try harness.snapshots(of: first).keys.sorted() == ["daily.0"], "\(outcomes)")
            #expect(!outcomes.contains { $0.message.contains("nothing to do") }, "\(outcomes)")
            #expect(outcomes.contains { $0.result == .warnings && $0.message.contains("\(own)") }, "\(outcomes)")
        }
    }

    @Test(
        "a job that is repeated after its snapshot was made makes no other, however many jobs were done in between",
        arguments: [0, 100])
    @MainActor func repeatedAfterOthers(count: UInt64) async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            let request = try await harness.request(.daily, first)
            var job: Job?
            #expect(try await harness.attempt(request) { job = $0 } == .success)
            let executor = JobExecutor(registry: harness.registry)
            let earlier = await executor.open(try #require(job))
            var state = try await harness.state(of: first)
            for number in 0..<count {
                state.complete(
                    .init(number: 1_000 + number, created: 0), level: "daily", .init(isWhole: true),
                    at: SystemWallClock().now)
            }
            try await harness.record(state, of: first)
            #expect(try await harness.backup(.daily, first) == .success)
            let before = try harness.snapshots(of: first)
            #expect(before.count == 2)
            #expect(try await harness.state(of: first).completed.count < 20)
            await executor.close(earlier, .success)
            #expect(try await harness.attempt(request, repeating: earlier) == .success)
            #expect(try harness.snapshots(of: first) == before)
        }
    }

    @Test("of two jobs that were requested at once one makes a snapshot, unless the other one was forced")
    func requestedTwice() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            let requests = try await harness.jobs().requests(of: .daily, accounts: [first]).jobs
            let request = try #require(requests.first)
            let waiting = Job(
                id: JobID(900), type: request.type, name: request.name, level: request.level,
                subject: request.subject, client: request.client, created: SystemWallClock().now)
            #expect(try await harness.attempt(request) == .success)
            let second = try await harness.attempt(request, repeating: waiting)
            #expect(second.result == .success && second.message.contains("nothing to do"), "\(second)")
            #expect(try harness.snapshots(of: first).count == 1)
            #expect(try await harness.backup(.daily, first) == .success)
            #expect(try harness.snapshots(of: first).count == 2)
        }
    }

    @Test(
        "a job that is interrupted for more than a day has failed; time without a daemon does not count, whichever other jobs have run since",
        arguments: [false, true])
    func cutOffForLong(hasOther: Bool) async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            let request = try await harness.request(.daily, first)
            let now = SystemWallClock().now
            func ended(attemptsHoursAgo all: Int64..., error: String = "") async throws -> JobOutcome {
                let hours = try #require(all.last)
                var job = Job(
                    id: JobID(700), type: .backup, name: "daily", level: "daily", subject: request.subject,
                    client: first, created: now + .seconds(-76 * 3_600))
                job.priority = request.priority
                job.attempts = all.enumerated().map { number, hours in
                    .init(number: number + 1, began: now + .seconds(-hours * 3_600), fate: .lost)
                }
                job.attempts[0].message = error
                var state = SnapshotState()
                state.lastAttempt = .init(
                    job: hasOther ? 699 : 700, level: hasOther ? "weekly" : "daily",
                    began: now.secondsSince1970 - (hasOther ? 0 : hours * 3_600), message: "")
                try await harness.record(state, of: first)
                return try await harness.attempt(request, repeating: job)
            }
            let outcome = try await ended(attemptsHoursAgo: 75, 60, 40, 20, 1)
            #expect(outcome.result == .failed && outcome.message.contains("24 hours"), "\(outcome)")
            let failed = try await ended(attemptsHoursAgo: 75, 60, 40, 20, 1, error: "the disk is full")
            #expect(failed.result == .failed && failed.message.hasSuffix(": the disk is full"), "\(failed)")
            #expect(try harness.snapshots(of: first).isEmpty)
            #expect(try await ended(attemptsHoursAgo: 25) == .success)
            // Attempts since then that came to no copy.
            #expect(try await ended(attemptsHoursAgo: 75, 1) == .success)
            #expect(try await ended(attemptsHoursAgo: 1) == .success)
        }
    }

    @Test(
        "if the entry keeps fewer snapshots the next copy removes the extra ones; if it keeps more nothing is removed")
    func retention() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first) { $0["sstBackupIntervalDaily"] = ["4"] }
            func keep(_ count: Int) async throws {
                try await harness.manager.modify(
                    BackupHarness.dn(first), [.replace("sstBackupIntervalDaily", AttributeValue("\(count)"))])
                try await BackupRsnapshotService(configuration: harness.configuration)
                    .carryOut(.modify, try #require(await harness.entry(first)))
            }
            for _ in 0..<4 { #expect(try await harness.backup(.daily, first) == .success) }
            try await keep(2)
            #expect(try await harness.backup(.daily, first) == .success)
            #expect(try harness.snapshots(of: first).keys.sorted() == ["daily.0", "daily.1"])
            try await keep(4)
            let outcome = try await harness.backup(.weekly, first)
            #expect(outcome.result == .success && outcome.message.hasPrefix("nothing to do"), "\(outcome)")
            #expect(try await harness.backup(.daily, first) == .success)
            #expect(try harness.snapshots(of: first).keys.sorted() == ["daily.0", "daily.1", "daily.2"])
        }
    }

    @Test("an entry that is removed while rsnapshot runs leaves a copy and a warning")
    func goneMeanwhile() async throws {
        try await BackupHarness.run { harness in
            try await harness.addProvisioned(first)
            let slow = try Self.slowRsync(harness, of: first)
            let request = try await harness.request(.daily, first)
            async let ended = harness.attempt(request)
            _ = try await Self.pid(in: slow)
            try await harness.manager.delete(BackupHarness.dn(first))
            try Self.letGo(slow)
            let outcome = try await ended
            #expect(outcome.result == .warnings && outcome.message.contains("gone from LDAP"), "\(outcome)")
            let next = try await harness.attempt(request)
            #expect(next.result == .aborted && next.message.contains("gone from LDAP"), "\(next)")
        }
    }

    // MARK: A slow rsync

    /// Lets the account's configuration name an rsync that waits until it is released, and then copies.
    /// - Returns: the script, by which its process is found.
    private static func slowRsync(_ harness: BackupHarness, of uid: String) throws -> FilePath {
        let script = harness.home(uid).appending("rsync")
        try harness.directory.write(
            "#!/bin/sh\nwhile [ ! -e \(script).go ]; do sleep 0.05; done\nexec /usr/bin/rsync \"$@\"\n",
            to: FilePath("homes/\(uid)/rsync"), mode: 0o755)
        try set(rsync: script, harness, of: uid)
        return script
    }

    private static func letGo(_ script: FilePath) throws {
        try "".write(toFile: "\(script).go", atomically: false, encoding: .utf8)
    }

    private static func usualRsync(_ harness: BackupHarness, of uid: String) throws {
        try set(rsync: "/usr/bin/rsync", harness, of: uid)
    }

    private static func set(rsync: FilePath, _ harness: BackupHarness, of uid: String) throws {
        try change(harness, of: uid) { $0.hasPrefix("cmd_rsync\t") ? "cmd_rsync\t\(rsync)" : $0 }
    }

    /// Changes each line of the account's configuration.
    private static func change(_ harness: BackupHarness, of uid: String, _ line: (String) -> String) throws {
        let file = harness.configuration.configurationDirectory.appending("\(uid).conf")
        let changed = try text(file).split(separator: "\n", omittingEmptySubsequences: false).map { line(String($0)) }
        try harness.directory.write(changed.joined(separator: "\n"), to: FilePath("rsnapshot.d/\(uid).conf"))
    }

    /// Waits until the script runs. Its process id differs from that in the sandbox.
    private static func pid(in script: FilePath) async throws -> pid_t {
        try await eventually("\(script) runs") { !processes(running: script).isEmpty }
        return try #require(processes(running: script).first)
    }

    /// Those that have not ended or were not reaped.
    private static func processes(running script: FilePath) -> [pid_t] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { pid_t($0) }.filter { process in
            let words = (try? text(FilePath("/proc/\(process)/cmdline")))?.split(separator: "\0") ?? []
            return words.count >= 2 && words[1] == script.string && words[0].hasSuffix("sh")
        }
    }

    /// A zombie counts as ended.
    private static func isRunning(_ process: pid_t) -> Bool {
        guard kill(process, 0) == 0, let status = try? text(FilePath("/proc/\(process)/stat")) else { return false }
        return status.split(separator: ")").last?.split(separator: " ").first != "Z"
    }
}

extension stat {
    /// Last access and last change of the contents, as for utimensat(2).
    fileprivate var times: [timespec] { [st_atim, st_mtim] }
}
