import Foundation
import Glibc
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The real daemon on a machine that lacks something.
@Suite struct DaemonShortageTests {
    @Test(
        "a full volume of homes delays all accounts: nothing on the entries, one line in the log, health is critical; with room again they are done",
        .enabled(if: geteuid() == 0))
    func fullDisk() async throws {
        try await DaemonHarness.run { harness in
            #expect(mount("none", harness.homes.path, "tmpfs", 0, "size=1m,nr_inodes=32,mode=0755") == 0)
            defer { umount2(harness.homes.path, Int32(MNT_DETACH)) }
            let filler = harness.homes.appending(path: "filler").path
            #expect(mkdir(filler, 0o700) == 0)
            var count = 0
            while case let file = creat("\(filler)/\(count)", 0o600), file >= 0 {
                close(file)
                count += 1
            }
            #expect(errno == ENOSPC)
            // More attempts than MAX_ATTEMPTS follow.
            try harness.settings(service: "MAX_ATTEMPTS = 2\nRETRY_MAX_DELAY = 1s")
            let daemon = try await harness.running()
            let uids = ["3724300", "3724301"]
            for uid in uids { try await harness.add(uid) }
            try await Self.expectHeldUp(harness, daemon, uids, "No space left on device", "df \(harness.homes.path)")
            for number in 0..<count { unlink("\(filler)/\(number)") }
            try await Self.expectDone(harness, daemon, uids)
        }
    }

    @Test("a daemon that runs short of open files starts no script, and the account waits for that as for a disk")
    func openFiles() async throws {
        try await DaemonHarness.run { harness in
            let script = try harness.script("home.sh", "mkdir -p \"$2\"")
            try harness.settings(service: "MAX_ATTEMPTS = 2\nRETRY_MAX_DELAY = 1s", backup: "HOME_SCRIPT = \(script)")
            let daemon = try await harness.running()
            func limitFiles(to number: Int) async throws {
                let program = URL(filePath: "/usr/bin/prlimit")
                let limit = try RunningProgram(program, ["--pid", "\(daemon.id)", "--nofile=\(number):"])
                #expect(await limit.end() == 0, "\(limit.output)")
            }
            // Too few for the start of a script, and enough for all else.
            let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/\(daemon.id)/fd").count
            try await limitFiles(to: open + 16)
            try await harness.add("3724300")
            try await Self.expectHeldUp(harness, daemon, ["3724300"], "Too many open files", "LimitNOFILE")
            try await limitFiles(to: 1_024)
            try await Self.expectDone(harness, daemon, ["3724300"])
        }
    }

    @Test(
        "scheduled backups and scripts that get no job number on a full disk wait, health is critical, and with room again they are made up for",
        .enabled(
            if: geteuid() == 0 && FileManager.default.isExecutableFile(atPath: "/usr/bin/rsnapshot"),
            "needs root and rsnapshot"))
    func noJobNumbers() async throws {
        try await DaemonHarness.run { harness in
            let uid = "3724300"
            try harness.settings()
            let first = try await harness.running()
            try await harness.add(uid)
            try await harness.reached("added", uid)
            await harness.stop(first)

            // Without a file of its state this daemon is new: it purges nothing today, which would reserve numbers.
            let state = harness.path("state")
            #expect(mount("none", state, "tmpfs", 0, "size=8m,mode=0700") == 0)
            defer { umount2(state, Int32(MNT_DETACH)) }
            let filler = open("\(state)/filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
            let page = [UInt8](repeating: 1, count: 4_096)
            while write(filler, page, page.count) > 0 {}
            let cause = errno
            close(filler)
            #expect(cause == ENOSPC)
            let script = try harness.script("tick.sh", "echo >> \(harness.path("ticks"))")
            let schedule = "* * * * *"
            try harness.settings(
                backup:
                    "HOME_SCRIPT =\n[Job tick]\nSCRIPT = \(script)\nSCHEDULE = \(schedule)\n[Backup Jobs]\nDAILY = \(schedule)"
            )
            let daemon = try await harness.running()
            var delayed: [JSON] = []
            try await eventually("both are delayed") {
                delayed = try await harness.json("status").first?["daemon"]["delayedJobs"].array ?? []
                return delayed.count == 2
            }
            #expect(delayed.map { $0["work"].string } == ["backup daily", "run tick"])
            for delay in delayed {
                #expect(delay["reason"].string?.contains("job-number") == true, "\(delay)")
                #expect(delay["since"].string != nil)
            }
            let health = try await harness.command("health")
            #expect(health.status == 2 && health.output.contains("backup daily is delayed"), "\(health.output)")
            #expect(!harness.exists("ticks"))

            #expect(unlink("\(state)/filler") == 0)
            try await eventually("the script has run") { harness.exists("ticks") }
            try await eventually("the backup has ended") {
                try await harness.newest("Backup", of: uid)?.isGood == true
            }
            try await eventually("nothing is delayed") {
                try await harness.json("status").first?["daemon"]["delayedJobs"] == .null
            }
            await harness.stop(daemon)
        }
    }

    private static func expectHeldUp(
        _ harness: DaemonHarness, _ daemon: RunningProgram, _ uids: [String], _ reason: String, _ hint: String
    ) async throws {
        let all = HealthReport.accounts(uids.count)
        try await eventually("health is critical\n\(daemon.output.suffix(2_000))") {
            try await harness.command("health").output.contains(
                "provisioning of \(all) is delayed")
        }
        try await eventually("there were more attempts than MAX_ATTEMPTS") {
            try await harness.command("status", "--json").output.contains(/"attempt" *: *[3-9]/)
        }
        let health = try await harness.command("health")
        #expect(health.status == 2 && health.output.hasPrefix("BACKUP CRITICAL - "), "\(health.output)")
        let status = try await harness.command("status")
        #expect(status.output.contains("delayed    \(all) since "), "\(status.output)")
        for part in [reason, hint] {
            #expect(health.output.contains(part) && status.output.contains(part), "\(part): \(health) \(status)")
        }
        for uid in uids {
            // While an attempt runs, the output says so.
            try await eventually("it is explained") {
                let explained = try await harness.command("accounts", "explain", uid).output
                return explained.contains("a shortage of the machine delays it since")
                    && explained.contains("fix what delays provisioning")
            }
            #expect(try await harness.text(uid, "sstProvisioningMode") == "adding")
            #expect(try await harness.text(uid, "sstProvisioningReturnValue") == nil)
        }
    }

    private static func expectDone(_ harness: DaemonHarness, _ daemon: RunningProgram, _ uids: [String]) async throws {
        for uid in uids {
            try await harness.reached("added", uid)
            #expect(try await harness.text(uid, "sstProvisioningReturnValue") == "0")
        }
        try await daemon.says("no request waits any more because of this")
        let health = try await harness.command("health")
        #expect(health.status == 0, "\(health.output)")
        let lines = daemon.output.split(separator: "\n")
        #expect(lines.count { $0.contains("provisioning is delayed: ") } == 1, "\(daemon.output)")
        let again = lines.filter { $0.contains("failed and is tried again") }
        #expect(again.allSatisfy { $0.contains("DEBUG") }, "\(daemon.output)")
        await harness.stop(daemon)
    }
}
