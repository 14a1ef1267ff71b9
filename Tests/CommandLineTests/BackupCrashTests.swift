import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The real daemon, killed before each of the changes that a backup makes to the snapshots.
@Suite(
    .enabled(
        if: geteuid() == 0 && FileManager.default.isExecutableFile(atPath: "/usr/bin/rsnapshot"),
        "needs root and rsnapshot"))
struct BackupCrashTests {
    private static let uid = "3724300"

    /// All levels are full; a note in each snapshot identifies it; an upload for the eighth day.
    private static func prepare(_ harness: DaemonHarness) throws {
        let snapshots = harness.home(uid).appending(path: ".snapshots")
        for name in try FileManager.default.contentsOfDirectory(atPath: snapshots.path) {
            try FileManager.default.removeItem(at: snapshots.appending(path: name))
        }
        for (name, text) in full {
            let snapshot = snapshots.appending(path: name)
            try FileManager.default.createDirectory(at: snapshot, withIntermediateDirectories: true)
            let note = snapshot.appending(path: "note")
            try text.write(to: note, atomically: false, encoding: .utf8)
            // Files of one moment and one size are the same to rsync.
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: -86_400)], ofItemAtPath: note.path)
        }
        try harness.upload("day 8", as: "note", of: uid)
    }

    /// Seven days and four weeks, as many as the account keeps.
    private static let full = notes(days: 1...7, weeks: (1...4).map { "week \($0)" })

    /// - Parameter weeks: the oldest first.
    private static func notes(days: ClosedRange<Int>, weeks: [String]) -> [String: String] {
        var notes: [String: String] = [:]
        for (index, day) in days.reversed().enumerated() { notes["daily.\(index)"] = "day \(day)" }
        for (index, week) in weeks.reversed().enumerated() { notes["weekly.\(index)"] = week }
        return notes
    }

    /// The notes by snapshot, and the names of everything else but the daemon's own files.
    private static func notes(_ harness: DaemonHarness) throws -> [String: String] {
        let snapshots = harness.home(uid).appending(path: ".snapshots")
        let own: Set = [".state", ".copy.conf"]
        return try Dictionary(
            uniqueKeysWithValues: FileManager.default.contentsOfDirectory(atPath: snapshots.path)
                .filter { !own.contains($0) }
                .map { name in
                    let note = snapshots.appending(path: name).appending(path: "note")
                    return (name, (try? String(contentsOf: note, encoding: .utf8)) ?? "none")
                })
    }

    /// The result of an undisturbed backup of a level.
    private static let wanted = [
        "daily": notes(days: 2...8, weeks: (1...4).map { "week \($0)" }),
        "weekly": notes(days: 2...7, weeks: ["week 2", "week 3", "week 4", "day 1"]),
    ]

    @Test(
        "a daemon killed before any of a backup's changes leaves what the next one brings to the end of an undisturbed run",
        arguments: wanted.keys.sorted())
    func everyPoint(level: String) async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let first = try await harness.running()
            try await harness.add(Self.uid)
            try await harness.reached("added", Self.uid)
            await harness.stop(first)
            var point = 0
            var isCrashing = true
            while isCrashing, point < 200 {
                point += 1
                isCrashing = try await Self.crash(harness, level, at: point)
            }
            #expect(!isCrashing && point > 15, "the last point was \(point)")
        }
    }

    /// - Returns: false when the backup ended before the point.
    private static func crash(_ harness: DaemonHarness, _ level: String, at point: Int) async throws -> Bool {
        try prepare(harness)
        let daemon = try await harness.running(crashingAt: point)
        // The answer may be lost with the daemon; the job is then recorded, or was never accepted.
        let asked = try await harness.command("backup", level, "--account", uid, "--force", "--no-wait")
        try await eventually("the daemon is killed, or the backup ends") {
            !daemon.isRunning || daemon.output.contains("backup done") || daemon.output.contains("backup failed")
        }
        try harness.disarm()
        if daemon.isRunning {
            await harness.stop(daemon)
            #expect(try notes(harness) == wanted[level], "undisturbed: \(daemon.output.suffix(1000))")
            return false
        }
        #expect(asked.status == 0, "\(asked.output)")
        let next = try await harness.running()
        var last: Job?
        try await eventually("the job ends after the crash before call \(point)") {
            last = try await harness.jobs("--type", "Backup").last
            return last?.isOpen == false
        }
        #expect(last?.result == .success, "before call \(point): \(last?.message ?? "")")
        let found = try notes(harness)
        #expect(found == wanted[level], "before call \(point): \(found) \(next.output.suffix(2000))")
        await harness.stop(next)
        return true
    }
}
