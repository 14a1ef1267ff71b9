import LDAP
import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import BackupService
@testable import prov_backup_rsnapshot

/// Scheduled backups of the real daemon. No test waits for a time of the day: what is due lies in the past.
@Suite(
    .enabled(
        if: FileManager.default.isExecutableFile(atPath: "/usr/bin/rsnapshot"),
        "rsnapshot is not installed: apt install rsnapshot"))
struct DaemonScheduleTests {
    /// Writes what the daemon records of an account's snapshots.
    private static func record(
        _ successes: [String: Int], hitTimeLimit: Bool = false, hoursAgoOf uid: String, in bench: DaemonBench
    ) throws {
        var state = SnapshotState()
        for (level, hours) in successes {
            state.complete(
                .init(number: 0, created: 0), level: level, .init(isWhole: true),
                at: SystemWallClock().now + .seconds(-hours * 3_600))
        }
        if hitTimeLimit { state.copyHitTimeLimit = true }
        let file = bench.home(uid).appending(path: ".snapshots/.state")
        try Data(state.encoded()).write(to: file)
        chmod(file.path, 0o600)
    }

    /// A schedule whose last time was two hours ago.
    private static func twoHoursAgo(_ days: String = "* * *") -> String {
        let time = Calendar.current.dateComponents([.hour, .minute], from: Date(timeIntervalSinceNow: -2 * 3_600))
        return "\(time.minute ?? 0) \(time.hour ?? 0) \(days)"
    }

    private static func settings(_ bench: DaemonBench, _ lines: String, hook: String? = nil) throws {
        var hooks = ""
        if let hook {
            _ = try bench.script("hooks/pre_script.sh", hook)
            hooks = "[Hooks Backup]\nENABLED = yes\nDIRECTORY = \(bench.path("hooks"))"
        }
        try bench.settings(backup: "HOME_SCRIPT =\n\(hooks)\n[Backup Jobs]\nSLOTS = 1\n\(lines)")
    }

    private static func provision(_ uids: [String], _ bench: DaemonBench) async throws {
        let daemon = try await bench.running()
        for uid in uids { try await bench.add(uid) }
        for uid in uids { try await bench.reached("added", uid) }
        await bench.stop(daemon)
    }

    @Test(
        "a run that was missed is made up for at the start, once for each account that it was due for, the larger level first"
    )
    func missed() async throws {
        try await DaemonBench.run { bench in
            try Self.settings(bench, "")
            let uids = ["3724300", "3724301", "3724302"]
            try await Self.provision(uids, bench)
            // Of the others one has had its run, and one was not there at that time.
            try Self.record(["daily": 30, "weekly": 300], hoursAgoOf: uids[0], in: bench)
            try Self.record(["daily": 1, "weekly": 1], hoursAgoOf: uids[1], in: bench)
            let weekday = (Calendar.current.component(.weekday, from: Date(timeIntervalSinceNow: -2 * 3_600)) + 6) % 7
            try Self.settings(
                bench, "DAILY = \(Self.twoHoursAgo())\nWEEKLY = \(Self.twoHoursAgo("* * \(weekday)"))",
                hook: "echo $1 >> \(bench.path("order"))")
            var daemon = try await bench.running()
            for level in ["daily", "weekly"] {
                try await daemon.says("backup \(level): the run over all accounts has ended")
            }
            var jobs: [Job] = []
            try await eventually("its jobs have ended") {
                jobs = try await bench.jobs("--type", "Backup")
                return jobs.count == 2 && jobs.allSatisfy { !$0.isOpen }
            }
            #expect(Set(jobs.map(\.client)) == [uids[0]], "\(jobs)")
            #expect(jobs.allSatisfy { $0.isGood }, "\(jobs)")
            let order = try String(contentsOfFile: bench.path("order"), encoding: .utf8).split(separator: "\n")
            let levels = order.compactMap { id in jobs.first { "\($0.id)" == id }?.level }
            #expect(levels == ["weekly", "daily"])
            await bench.stop(daemon)

            daemon = try await bench.running()
            for level in ["daily", "weekly"] {
                try await daemon.says("backup \(level): the run over all accounts has ended; jobs asked for: 0")
            }
            #expect(try await bench.jobs("--type", "Backup").count == 2)
            await bench.stop(daemon)
        }
    }

    @Test("a run asks for jobs as slots become free, and a restart in its middle loses none of them")
    func expansion() async throws {
        try await DaemonBench.run { bench in
            try Self.settings(bench, "")
            let uids = (0..<10).map { "37243\($0 < 10 ? "0" : "")\($0)" }
            try await Self.provision(uids, bench)
            for uid in uids { try Self.record(["daily": 30], hoursAgoOf: uid, in: bench) }
            try Self.settings(
                bench, "DAILY = \(Self.twoHoursAgo())",
                hook: "while [ ! -e \(bench.path("go")) ] && [ -e \"$0\" ]; do sleep 0.05; done")
            var daemon = try await bench.running()
            try await eventually("one runs, and four wait") { try await bench.jobs("--type", "Backup").count == 5 }
            #expect(try await bench.command("status").status == 0)
            #expect(try await bench.jobs("--type", "Backup").count == 5)
            daemon.kill(SIGKILL)
            #expect(await daemon.end() == -SIGKILL)
            try bench.touch("go")
            daemon = try await bench.running()
            try await daemon.says("backup daily: the run over all accounts has ended; jobs asked for: 5")
            try await eventually("all have ended") {
                let jobs = try await bench.jobs("--type", "Backup")
                return jobs.count == 10 && jobs.allSatisfy { !$0.isOpen }
            }
            let jobs = try await bench.jobs("--type", "Backup")
            #expect(Set(jobs.map(\.client)) == Set(uids) && jobs.allSatisfy { $0.isGood }, "\(jobs)")
            await bench.stop(daemon)
        }
    }

    @Test(
        "an account whose copy hit its time limit continues it after all others, and is one of the others again afterwards"
    )
    func timeLimit() async throws {
        try await DaemonBench.run { bench in
            try Self.settings(bench, "")
            let uids = ["3724300", "3724301", "3724302"]
            try await Self.provision(uids, bench)
            for uid in uids {
                try Self.record(["daily": 30], hitTimeLimit: uid != uids[2], hoursAgoOf: uid, in: bench)
            }
            try Self.settings(bench, "DAILY = \(Self.twoHoursAgo())")
            let daemon = try await bench.running()
            try await daemon.says("backup daily: the run over all accounts has ended; jobs asked for: 3")
            let jobs = try await bench.jobs("--type", "Backup")
            #expect(jobs.first?.client == uids[2], "\(jobs)")
            for job in jobs { #expect(try await bench.ended(job.id).isGood) }
            let file = bench.home(uids[0]).appending(path: ".snapshots/.state")
            #expect(try !String(contentsOf: file, encoding: .utf8).contains("copyHitTimeLimit"))
            await bench.stop(daemon)
        }
    }

    @Test(
        "an account whose last success is too old is overdue for `health`, from the daemon's start until its backup is done"
    )
    func overdue() async throws {
        try await DaemonBench.run { bench in
            try Self.settings(bench, "")
            try await Self.provision(["3724300", "3724301"], bench)
            try Self.record(["daily": 10 * 24], hoursAgoOf: "3724300", in: bench)
            try Self.record(["daily": 1], hoursAgoOf: "3724301", in: bench)
            try Self.settings(
                bench, "DAILY = \(Self.twoHoursAgo())",
                hook: "while [ ! -e \(bench.path("go")) ] && [ -e \"$0\" ]; do sleep 0.05; done")
            let daemon = try await bench.running()
            try await eventually("one is overdue") {
                let health = try await bench.command("health")
                return health.status != 0 && health.output.contains("overdue_backups=1")
            }
            try bench.touch("go")
            try await eventually("none is overdue") {
                let health = try await bench.command("health")
                return health.status == 0 && health.output.contains("overdue_backups=0")
            }
            await bench.stop(daemon)
        }
    }

    @Test("a run that cannot list the accounts is a job that failed")
    func notListed() async throws {
        try await DaemonBench.run { bench in
            try Self.settings(bench, "DAILY = \(Self.twoHoursAgo())")
            try await bench.manager.delete(try DaemonBench.dn("1").parent ?? DN(rdns: []))
            let daemon = try bench.start()
            try await daemon.says("backup failed: daily: the accounts cannot be listed")
            try await eventually("it has failed") {
                try await bench.jobs("--type", "Backup").contains {
                    $0.result == .failed && $0.level == "daily"
                }
            }
            daemon.kill(SIGTERM)
            _ = await daemon.end()
        }
    }

    @Test(
        "while accounts have a level without a schedule `check` says NOT with the line to write, and the daemon warns")
    func unscheduled() async throws {
        try await DaemonBench.run { bench in
            try Self.settings(bench, "")
            let empty = try await bench.command("check")
            #expect(!empty.output.contains("[Backup Jobs]"), "\(empty.output)")
            try await Self.provision(["3724300"], bench)
            try Self.settings(bench, "DAILY = 0 3 * * *")
            let check = try await bench.command("check")
            #expect(check.status == 1)
            let lines = check.output.split(separator: "\n").filter { $0.contains("[Backup Jobs]: ") }
            #expect(lines.contains { $0.hasPrefix("ok ") && $0.contains("daily") })
            for (level, key) in [("weekly", "WEEKLY = "), ("monthly", "MONTHLY = ")] {
                let line = try #require(lines.first { $0.hasPrefix("NOT ") && $0.contains(level) }, "\(check.output)")
                #expect(line.contains("3724300") && line.contains(key))
            }
            let daemon = try await bench.running()
            try await daemon.says("WEEKLY = ")
            #expect(!daemon.output.contains("DAILY = "))
            await bench.stop(daemon)
        }
    }
}
