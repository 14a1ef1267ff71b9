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
