import Foundation
import Glibc
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

    private static let library = DaemonBench.program.deletingLastPathComponent().appending(path: "libCrashPoints.so")

    /// Seven days, told apart by a note in each, and an upload for the eighth.
    private static func prepare(_ bench: DaemonBench) throws {
        let snapshots = bench.home(uid).appending(path: ".snapshots")
        for name in try FileManager.default.contentsOfDirectory(atPath: snapshots.path) {
            try FileManager.default.removeItem(at: snapshots.appending(path: name))
        }
        for day in 1...7 {
            let snapshot = snapshots.appending(path: "daily.\(7 - day)")
            try FileManager.default.createDirectory(at: snapshot, withIntermediateDirectories: true)
            let note = snapshot.appending(path: "note")
            try "day \(day)".write(to: note, atomically: false, encoding: .utf8)
            // Files of one moment and one size are the same to rsync.
            try FileManager.default.setAttributes(
                [.modificationDate: Date(timeIntervalSinceNow: Double(day - 8) * 86_400)], ofItemAtPath: note.path)
        }
        try bench.upload("day 8", as: "note", of: uid)
    }

    /// The notes by snapshot, and the names of everything else but the daemon's own files.
    private static func notes(_ bench: DaemonBench) throws -> [String: String] {
        let snapshots = bench.home(uid).appending(path: ".snapshots")
        let own: Set = [".state", ".copy.conf"]
        return try Dictionary(
            uniqueKeysWithValues: FileManager.default.contentsOfDirectory(atPath: snapshots.path)
                .filter { !own.contains($0) }
                .map { name in
                    let note = snapshots.appending(path: name).appending(path: "note")
                    return (name, (try? String(contentsOf: note, encoding: .utf8)) ?? "none")
                })
    }

    private static let wanted = Dictionary(uniqueKeysWithValues: (0..<7).map { ("daily.\($0)", "day \(8 - $0)") })

    @Test(
        "a daemon killed before any of a backup's changes leaves what the next one brings to the end of an undisturbed run"
    )
    func everyPoint() async throws {
        try await DaemonBench.run { bench in
            try bench.settings()
            let first = try await bench.running()
            try await bench.add(Self.uid)
            try await bench.reached("added", Self.uid)
            await bench.stop(first)
            var point = 0
            var isCrashing = true
            while isCrashing, point < 200 {
                point += 1
                isCrashing = try await Self.crash(bench, at: point)
            }
            #expect(!isCrashing && point > 15, "the last point was \(point)")
        }
    }

    /// - Returns: false when the backup ended before the point.
    private static func crash(_ bench: DaemonBench, at point: Int) async throws -> Bool {
        try prepare(bench)
        let armed = bench.path("armed")
        try? FileManager.default.removeItem(atPath: armed)
        let daemon = try bench.start(
            environment: [
                "LD_PRELOAD": library.path, "PROV_CRASH_AT": "\(point)", "PROV_CRASH_ARMED": armed,
                "PROV_CRASH_COUNT": bench.path("count"),
            ])
        try await daemon.says("wishes are noticed")
        try bench.touch("armed")
        // The answer may be lost with the daemon; the job is then recorded, or was never accepted.
        let asked = try await bench.command("backup", "daily", "--account", uid, "--force", "--no-wait")
        try await eventually("the daemon is killed, or the backup ends") {
            !daemon.isRunning || daemon.output.contains("backup done") || daemon.output.contains("backup failed")
        }
        try FileManager.default.removeItem(atPath: armed)
        if daemon.isRunning {
            await bench.stop(daemon)
            #expect(try notes(bench) == wanted, "undisturbed: \(daemon.output.suffix(1000))")
            return false
        }
        #expect(asked.status == 0, "\(asked.output)")
        let next = try await bench.running()
        var last: JobLine?
        try await eventually("the job ends after the crash before call \(point)") {
            last = try await bench.jobs("--type", "Backup").last
            return last?.isOpen == false
        }
        #expect(last?.result == "success", "before call \(point): \(last?.message ?? "")")
        let found = try notes(bench)
        #expect(found == wanted, "before call \(point): \(found) \(next.output.suffix(2000))")
        await bench.stop(next)
        return true
    }
}
