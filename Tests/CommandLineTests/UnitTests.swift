import BackupService
import Foundation
import JobCore
import Testing

/// The shipped systemd units, as far as they depend on each other.
@Suite struct UnitTests {
    private static func lines(_ unit: String) throws -> [String] {
        let file = DaemonHarness.checkout.appending(path: "etc/systemd/\(unit)")
        return try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map(String.init)
            .filter { !$0.hasPrefix("#") }
    }

    @Test(
        "the daemon's scheduler is the only one: no timer is shipped, and the CHANGELOG has the line that replaces each"
    )
    func noTimers() throws {
        let units = try FileManager.default.contentsOfDirectory(
            atPath: DaemonHarness.checkout.appending(path: "etc/systemd").path)
        #expect(units.sorted() == ["no-mounts.conf", "prov-backup-rsnapshot.service"])
        let changes = try String(contentsOf: DaemonHarness.checkout.appending(path: "CHANGELOG.md"), encoding: .utf8)
        for level in SnapshotLevel.allCases {
            let line = try #require(
                changes.split(separator: "\n").first { $0.contains("`prov-backup-rsnapshot-backup-\(level).timer`") })
            let setting = try #require(line.split(separator: "`").first { $0.hasPrefix(level.rawValue.uppercased()) })
            let parts = setting.split(separator: "=", maxSplits: 1)
            _ = try CronSchedule(parsing: String(parts[1]))
        }
    }

    @Test("the daemon starts when the clock is right, and started means that it answers")
    func order() throws {
        let lines = try Self.lines("prov-backup-rsnapshot.service")
        let after = lines.filter { $0.hasPrefix("After=") }.joined(separator: " ")
        #expect(after.split(whereSeparator: { " =".contains($0) }).contains("time-sync.target"))
        #expect(lines.contains("Type=notify"))
    }

    @Test("a reload asks the daemon with the settings that it was started with")
    func reload() throws {
        let lines = try Self.lines("prov-backup-rsnapshot.service")
        let start = try #require(lines.first { $0.hasPrefix("ExecStart=") }?.dropFirst("ExecStart=".count))
        #expect(lines.contains("ExecReload=" + start.replacing(" run ", with: " reload ")))
    }
}
