import LDAP
import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import BackupService
@testable import prov_backup_rsnapshot

/// Scheduled backups of the real daemon. No test waits for a time of day: due times are in the past.
@Suite(
    .enabled(
        if: FileManager.default.isExecutableFile(atPath: "/usr/bin/rsnapshot"),
        "rsnapshot is not installed: apt install rsnapshot"))
struct DaemonScheduleTests {
    /// Writes the daemon's record of an account's snapshots.
    private static func record(
        _ successes: [String: Int], hitTimeLimit: Bool = false, hoursAgoOf uid: String, in harness: DaemonHarness
    ) throws {
        var state = SnapshotState()
        for (level, hours) in successes {
            state.complete(
                .init(number: 0, created: 0), level: level, .init(isWhole: true),
                at: SystemWallClock().now + .seconds(-hours * 3_600))
        }
        if hitTimeLimit { state.copyHitTimeLimit = true }
        let file = harness.home(uid).appending(path: ".snapshots/.state")
        try Data(state.encoded()).write(to: file)
        chmod(file.path, 0o600)
    }

    /// A schedule whose last time was two hours ago.
    private static func twoHoursAgo(_ days: String = "* * *") -> String {
        let time = Calendar.current.dateComponents([.hour, .minute], from: Date(timeIntervalSinceNow: -2 * 3_600))
        return "\(time.minute ?? 0) \(time.hour ?? 0) \(days)"
    }

    private static func settings(_ harness: DaemonHarness, _ lines: String, hook: String? = nil) throws {
        var hooks = ""
        if let hook {
            _ = try harness.script("hooks/pre_script.sh", hook)
            hooks = "[Hooks Backup]\nENABLED = yes\nDIRECTORY = \(harness.path("hooks"))"
        }
        try harness.settings(backup: "HOME_SCRIPT =\n\(hooks)\n[Backup Jobs]\nSLOTS = 1\n\(lines)")
    }

    private static func provision(_ uids: [String], _ harness: DaemonHarness) async throws {
        let daemon = try await harness.running()
        for uid in uids { try await harness.add(uid) }
        for uid in uids { try await harness.reached("added", uid) }
        await harness.stop(daemon)
    }

    @Test(
        "a run that was missed is made up for at the start, once for each account that it was due for, the larger level first"
    )
    func missed() async throws {
        try await DaemonHarness.run { harness in
            try Self.settings(harness, "")
            let uids = ["3724300", "3724301", "3724302"]
            try await Self.provision(uids, harness)
            // Of the others one has had its run, and one was not there at that time.
            try Self.record(["daily": 30, "weekly": 300], hoursAgoOf: uids[0], in: harness)
            try Self.record(["daily": 1, "weekly": 1], hoursAgoOf: uids[1], in: harness)
            let weekday = (Calendar.current.component(.weekday, from: Date(timeIntervalSinceNow: -2 * 3_600)) + 6) % 7
            try Self.settings(
                harness, "DAILY = \(Self.twoHoursAgo())\nWEEKLY = \(Self.twoHoursAgo("* * \(weekday)"))",
                hook: "echo $1 >> \(harness.path("order"))")
            var daemon = try await harness.running()
            for level in ["daily", "weekly"] {
                try await daemon.says("backup \(level): the run over all accounts has ended")
            }
            var jobs: [Job] = []
            try await eventually("its jobs have ended") {
                jobs = try await harness.jobs("--type", "Backup")
                return jobs.count == 2 && jobs.allSatisfy { !$0.isOpen }
            }
            #expect(Set(jobs.map(\.client)) == [uids[0]], "\(jobs)")
            #expect(jobs.allSatisfy { $0.isGood }, "\(jobs)")
            let order = try String(contentsOfFile: harness.path("order"), encoding: .utf8).split(separator: "\n")
            let levels = order.compactMap { id in jobs.first { "\($0.id)" == id }?.level }
            #expect(levels == ["weekly", "daily"])
            await harness.stop(daemon)

            daemon = try await harness.running()
            for level in ["daily", "weekly"] {
                try await daemon.says("backup \(level): the run over all accounts has ended; submitted jobs: 0")
            }
            #expect(try await harness.jobs("--type", "Backup").count == 2)
            await harness.stop(daemon)
        }
    }

    @Test(
        "a reload that sets a level to a time that has passed makes up for it, as a restart does; others run at their time"
    )
    func missedByReload() async throws {
        try await DaemonHarness.run { harness in
            let uid = "3724300"
            try Self.settings(harness, "WEEKLY = 0 0 1 1 *")
            try await Self.provision([uid], harness)
            try Self.record(["daily": 30, "weekly": 24 * 400], hoursAgoOf: uid, in: harness)
            // It makes up for the weekly one at the start.
            let daemon = try await harness.running()
            try await daemon.says("backup weekly: the run over all accounts has ended; submitted jobs: 1")
            try Self.settings(harness, "WEEKLY = 0 0 1 1 *\nDAILY = \(Self.twoHoursAgo())")
            #expect(try await harness.command("reload").status == 0)
            try await daemon.says("backup daily: the run over all accounts has ended; submitted jobs: 1")
            let runs = daemon.output.components(separatedBy: "backup weekly: the run over all accounts").count - 1
            #expect(runs == 1, "\(daemon.output)")
            await harness.stop(daemon)
        }
    }

    @Test(
        "a reload that changes which accounts are served begins a run again: accounts that came are not missed, those that went get no job, and no mail"
    )
    func otherAccounts() async throws {
        try await DaemonHarness.run { harness in
            func settings(_ filter: String) throws {
                try harness.settings(
                    database: "SEARCH_FILTER = \(filter)",
                    backup: """
                        HOME_SCRIPT =
                        \(harness.mailSection())
                        [Hooks Backup]
                        ENABLED = yes
                        DIRECTORY = \(harness.path("hooks"))
                        [Backup Jobs]
                        SLOTS = 1
                        DAILY = \(Self.twoHoursAgo())
                        """)
            }
            func reload(_ filter: String) async throws {
                try settings(filter)
                #expect(try await harness.command("reload").status == 0)
            }
            try Self.settings(harness, "")
            let uids = (0..<6).map { "372430\($0)" }
            try await Self.provision(uids, harness)
            for uid in uids { try Self.record(["daily": 30], hoursAgoOf: uid, in: harness) }
            _ = try harness.script(
                "hooks/pre_script.sh",
                "while [ ! -e \(harness.path("go")) ] && [ -e \"$0\" ]; do sleep 0.05; done")
            _ = try harness.script("hooks/post_script.sh", "exit 0")
            let two = "(|(uid=\(uids[0]))(uid=\(uids[1])))"
            try settings(two)
            let daemon = try await harness.running()
            try await daemon.says("backup daily: the run over all accounts has ended; submitted jobs: 2")
            try await reload("(uid=37243*)")
            // One runs, four wait, and the run waits for room.
            try await eventually("accounts that came get jobs") {
                try await harness.jobs("--type", "Backup").count == 5
            }
            try await reload(two)
            try harness.touch("go")
            try await daemon.says("backup daily: the run over all accounts has ended; submitted jobs: 0")
            var jobs: [Job] = []
            try await eventually("all have ended") {
                jobs = try await harness.jobs("--type", "Backup")
                return jobs.allSatisfy { !$0.isOpen }
            }
            #expect(jobs.count == 5, "\(jobs)")
            let good = jobs.filter { $0.result == .success }
            #expect(Set(good.map(\.client)) == Set(uids.prefix(2)), "\(jobs)")
            await harness.stop(daemon)
            #expect(try harness.mails() == [])
            let ends = daemon.output.split(separator: "\n").filter { $0.contains("backup aborted: daily") }
            #expect(ends.count == 3 && ends.allSatisfy { $0.contains("NOTICE") }, "\(ends)")
        }
    }

    @Test(
        "a run that a reload of the accounts ends begins again with its own time; if the level has lost its schedule, it begins when it has one again",
        arguments: [false, true])
    func begunAgain(losesSchedule: Bool) async throws {
        try await DaemonHarness.run { harness in
            try Self.settings(harness, "")
            let uids = (0..<6).map { "372430\($0)" }
            try await Self.provision(uids, harness)
            // With times that are all ahead only the time of the run makes an account due.
            for uid in uids { try Self.record(["daily": losesSchedule ? 30 : -48], hoursAgoOf: uid, in: harness) }
            _ = try harness.waiting("hooks/pre_script.sh", for: "go")
            func settings(_ filter: String, _ schedule: String) throws {
                try harness.settings(
                    database: "SEARCH_FILTER = \(filter)",
                    backup: "HOME_SCRIPT =\n[Hooks Backup]\nENABLED = yes\nDIRECTORY = \(harness.path("hooks"))\n"
                        + "[Backup Jobs]\nSLOTS = 1\n\(schedule)")
            }
            let schedule = "DAILY = \(Self.twoHoursAgo())"
            try settings("(uid=3724*)", schedule)
            try harness.wasAlive(at: Date(timeIntervalSinceNow: -3 * 3_600))
            let daemon = try await harness.running()
            try await eventually("one runs, four wait, and the run waits for room") {
                try await harness.jobs("--type", "Backup").count == 5
            }
            try settings("(uid=37243*)", losesSchedule ? "" : schedule)
            var reload = try await harness.command("reload")
            #expect(reload.status == 0, "\(reload.output)")
            try await daemon.says("backup daily: the run ends early")
            if losesSchedule {
                try settings("(uid=37243*)", schedule)
                reload = try await harness.command("reload")
                #expect(reload.status == 0, "\(reload.output)")
            }
            try harness.touch("go")
            let end = "backup daily: the run over all accounts has ended; submitted jobs: "
            try await daemon.says(end + "1")
            try await eventually("all have ended") {
                let jobs = try await harness.jobs("--type", "Backup")
                return jobs.count == 6 && jobs.allSatisfy { !$0.isOpen }
            }
            #expect(daemon.output.components(separatedBy: end).count - 1 == 1, "\(daemon.output)")
            await harness.stop(daemon)
        }
    }

    @Test("a run submits jobs as slots become free, and a restart in its middle loses none of them")
    func expansion() async throws {
        try await DaemonHarness.run { harness in
            try Self.settings(harness, "")
            let uids = (0..<10).map { "37243\($0 < 10 ? "0" : "")\($0)" }
            try await Self.provision(uids, harness)
            for uid in uids { try Self.record(["daily": 30], hoursAgoOf: uid, in: harness) }
            try Self.settings(
                harness, "DAILY = \(Self.twoHoursAgo())",
                hook: "while [ ! -e \(harness.path("go")) ] && [ -e \"$0\" ]; do sleep 0.05; done")
            var daemon = try await harness.running()
            try await eventually("one runs, and four wait") { try await harness.jobs("--type", "Backup").count == 5 }
            #expect(try await harness.command("status").status == 0)
            #expect(try await harness.jobs("--type", "Backup").count == 5)
            daemon.kill(SIGKILL)
            #expect(await daemon.end() == -SIGKILL)
            try harness.touch("go")
            daemon = try await harness.running()
            try await daemon.says("backup daily: the run over all accounts has ended; submitted jobs: 5")
            try await eventually("all have ended") {
                let jobs = try await harness.jobs("--type", "Backup")
                return jobs.count == 10 && jobs.allSatisfy { !$0.isOpen }
            }
            let jobs = try await harness.jobs("--type", "Backup")
            #expect(Set(jobs.map(\.client)) == Set(uids) && jobs.allSatisfy { $0.isGood }, "\(jobs)")
            await harness.stop(daemon)
        }
    }

    @Test(
        "an account whose copy hit its time limit continues it after all others, and is one of the others again afterwards"
    )
    func timeLimit() async throws {
        try await DaemonHarness.run { harness in
            try Self.settings(harness, "")
            let uids = ["3724300", "3724301", "3724302"]
            try await Self.provision(uids, harness)
            for uid in uids {
                try Self.record(["daily": 30], hitTimeLimit: uid != uids[2], hoursAgoOf: uid, in: harness)
            }
            try Self.settings(harness, "DAILY = \(Self.twoHoursAgo())")
            let daemon = try await harness.running()
            try await daemon.says("backup daily: the run over all accounts has ended; submitted jobs: 3")
            let jobs = try await harness.jobs("--type", "Backup")
            #expect(jobs.first?.client == uids[2], "\(jobs)")
            for job in jobs { #expect(try await harness.ended(job.id).isGood) }
            let file = harness.home(uids[0]).appending(path: ".snapshots/.state")
            #expect(try !String(contentsOf: file, encoding: .utf8).contains("copyHitTimeLimit"))
            await harness.stop(daemon)
        }
    }

    @Test(
        "an account whose last success is too old is overdue for `health`, from the daemon's start until its backup is done"
    )
    func overdue() async throws {
        try await DaemonHarness.run { harness in
            try Self.settings(harness, "")
            try await Self.provision(["3724300", "3724301"], harness)
            try Self.record(["daily": 10 * 24], hoursAgoOf: "3724300", in: harness)
            try Self.record(["daily": 1], hoursAgoOf: "3724301", in: harness)
            try Self.settings(
                harness, "DAILY = \(Self.twoHoursAgo())",
                hook: "while [ ! -e \(harness.path("go")) ] && [ -e \"$0\" ]; do sleep 0.05; done")
            let daemon = try await harness.running()
            try await eventually("one is overdue") {
                let health = try await harness.command("health")
                return health.status != 0 && health.output.contains("overdue_backups=1")
            }
            try harness.touch("go")
            try await eventually("none is overdue") {
                let health = try await harness.command("health")
                return health.status == 0 && health.output.contains("overdue_backups=0")
            }
            await harness.stop(daemon)
        }
    }

    @Test("a run that cannot list the accounts is a job that failed")
    func notListed() async throws {
        try await DaemonHarness.run { harness in
            try Self.settings(harness, "DAILY = \(Self.twoHoursAgo())")
            try await harness.manager.delete(try DaemonHarness.dn("1").parent ?? DN(rdns: []))
            let daemon = try harness.start()
            try await daemon.says("backup failed: daily: the accounts cannot be listed")
            try await eventually("it has failed") {
                try await harness.jobs("--type", "Backup").contains {
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
        try await DaemonHarness.run { harness in
            try Self.settings(harness, "")
            let empty = try await harness.command("check")
            #expect(!empty.output.contains("[Backup Jobs]"), "\(empty.output)")
            try await Self.provision(["3724300"], harness)
            try Self.settings(harness, "DAILY = 0 3 * * *")
            let check = try await harness.command("check")
            #expect(check.status == 1)
            let lines = check.output.split(separator: "\n").filter { $0.contains("[Backup Jobs]: ") }
            #expect(lines.contains { $0.hasPrefix("ok ") && $0.contains("daily") })
            for (level, key) in [("weekly", "WEEKLY = "), ("monthly", "MONTHLY = ")] {
                let line = try #require(lines.first { $0.hasPrefix("NOT ") && $0.contains(level) }, "\(check.output)")
                #expect(line.contains("3724300") && line.contains(key))
            }
            let daemon = try await harness.running()
            try await daemon.says("WEEKLY = ")
            #expect(!daemon.output.contains("DAILY = "))
            await harness.stop(daemon)
        }
    }
}
