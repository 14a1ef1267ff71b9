import BackupService
import Foundation
import Glibc
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The real daemon, killed before each of the changes by which it moves an account's snapshots.
@Suite(.enabled(if: geteuid() == 0, "needs root to mount"))
struct SnapshotMoveCrashTests {
    private static let uid = "3724300"

    private static func settings(_ harness: DaemonHarness, _ access: SnapshotAccess) throws {
        try harness.settings(backup: "HOME_SCRIPT =\nON_DELETE = archive\nSNAPSHOTS = \(access)")
    }

    /// Where the snapshot is, by its inode: the mount shows the same one.
    private static func places(_ harness: DaemonHarness) -> [String: ino_t] {
        var places: [String: ino_t] = [:]
        for name in ["\(uid)/.snapshots", ".store/\(uid)"] {
            var status = stat()
            if lstat(harness.homes.appending(path: "\(name)/daily.0/note").path, &status) == 0 {
                places[name] = status.st_ino
            }
        }
        return places
    }

    @Test("a daemon killed before any change of a move loses no snapshot, and the next one completes the move")
    func everyPoint() async throws {
        try await DaemonHarness.run { harness in
            defer { umount2(harness.home(Self.uid).appending(path: ".snapshots").path, Int32(MNT_DETACH)) }
            try Self.settings(harness, .own)
            let first = try await harness.running()
            try await harness.add(Self.uid)
            try await harness.reached("added", Self.uid)
            await harness.stop(first)
            let snapshot = harness.home(Self.uid).appending(path: ".snapshots/daily.0")
            try FileManager.default.createDirectory(at: snapshot, withIntermediateDirectories: false)
            try "note".write(to: snapshot.appending(path: "note"), atomically: false, encoding: .utf8)
            let inode = try #require(Self.places(harness).values.first)
            var point = 0
            var isCrashing = true
            while isCrashing, point < 100 {
                point += 1
                let there = try await Self.crash(harness, at: point, movingTo: .readonly, inode)
                let back = try await Self.crash(harness, at: point, movingTo: .own, inode)
                isCrashing = there || back
            }
            #expect(!isCrashing && point > 5, "the last point was \(point)")
        }
    }

    /// - Returns: false when the move ended before the point.
    private static func crash(
        _ harness: DaemonHarness, at point: Int, movingTo access: SnapshotAccess, _ inode: ino_t
    ) async throws -> Bool {
        try settings(harness, access)
        let daemon = try await harness.running(crashingAt: point)
        try await harness.request(uid, "modify")
        try await eventually("the daemon is killed, or the account is modified") {
            if !daemon.isRunning { return true }
            return try await harness.text(uid, "sstProvisioningMode") == "modified"
        }
        try harness.disarm()
        let isKilled = !daemon.isRunning
        if isKilled {
            #expect(Set(places(harness).values) == [inode], "after a crash before call \(point) to \(access)")
            let next = try await harness.running()
            try await harness.reached("modified", uid)
            await harness.stop(next)
        } else {
            await harness.stop(daemon)
        }
        let isShown = access == .readonly
        let wanted = isShown ? ["\(uid)/.snapshots", ".store/\(uid)"] : ["\(uid)/.snapshots"]
        #expect(places(harness) == Dictionary(uniqueKeysWithValues: wanted.map { ($0, inode) }), "\(point) \(access)")
        #expect(harness.showsSnapshots(of: uid) == isShown, "\(point) \(access)")
        return isKilled
    }
}
