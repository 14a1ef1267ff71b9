import DirectorySandbox
import Foundation
import SystemPackage
import Testing

/// The shipped systemd units.
@Suite struct ServiceUnitTests {
    private static let daemon = "prov-backup-rsnapshot.service"
    private static let backup = "prov-backup-rsnapshot-backup@.service"
    /// In the order in which they are to run.
    private static let levels = ["yearly", "monthly", "weekly", "daily", "hourly"]

    private static func timer(_ level: String) -> String { "prov-backup-rsnapshot-backup-\(level).timer" }

    private func folder() throws -> FilePath {
        try SandboxPieces().directory.removingLastComponent().appending("systemd")
    }

    private func unit(_ name: String) throws -> String {
        try String(contentsOfFile: folder().appending(name).string, encoding: .utf8)
    }

    private func settings(_ name: String = daemon) throws -> [Substring: [Substring]] {
        var settings: [Substring: [Substring]] = [:]
        for line in try unit(name).split(separator: "\n") where !line.hasPrefix("#") && !line.hasPrefix("[") {
            let parts = line.split(separator: "=", maxSplits: 1)
            settings[try #require(parts.first), default: []].append(try #require(parts.last))
        }
        return settings
    }

    @Test func `systemd understands every line of the units`() async throws {
        let analyze: FilePath = "/usr/bin/systemd-analyze"
        try #require(FileManager.default.isExecutableFile(atPath: analyze.string), "systemd-analyze is missing")
        let names = [Self.daemon, Self.backup] + Self.levels.map(Self.timer)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder().string).sorted() == names.sorted())
        try await withFolder { folder in
            for name in names {
                // The program need not be installed where the tests run.
                let text = try unit(name).replacing("/usr/bin/prov-backup-rsnapshot ", with: "/bin/true ")
                try text.write(toFile: folder.appending(name).string, atomically: false, encoding: .utf8)
            }
            // Also the units that the timers start, by their names as instances.
            for name in names {
                let outcome = try await command(analyze, ["verify", folder.appending(name).string])
                #expect(outcome.code == 0 && outcome.errors.isEmpty, "\(name): \(outcome.errors)")
            }
        }
    }

    @Test func `a timer makes up for what was missed, and starts the backups of its own level`() throws {
        #expect(try settings(Self.backup)["ExecStart"]?.first?.contains(" backup %i ") == true)
        for level in Self.levels {
            let settings = try settings(Self.timer(level))
            #expect(settings["Unit"] == ["prov-backup-rsnapshot-backup@\(level).service"])
            #expect(settings["Persistent"] == ["true"])
        }
    }

    @Test func `a larger level always begins before a smaller one on the same day`() throws {
        var last = -1
        for level in Self.levels {
            let settings = try settings(Self.timer(level))
            let calendar = try #require(settings["OnCalendar"]?.first)
            let delay = try #require(settings["RandomizedDelaySec"]?.first?.firstMatch(of: #/^(\d+)min$/#))
            let time = try #require(calendar.firstMatch(of: #/ (\d+|\*):(\d+):00$/#))
            // In the hour in which the daily run begins.
            let hour = time.1 == "*" ? last / 60 : try #require(Int(time.1))
            let start = try #require(Int(time.2)) + hour * 60
            #expect(start > last, "\(level)")
            last = try start + #require(Int(delay.1))
        }
    }

    @Test func `wrong usage and wrong settings are not tried again, everything else is`() throws {
        let settings = try settings()
        #expect(settings["Restart"] == ["on-failure"])
        #expect(settings["RestartPreventExitStatus"] == ["64 78"])
    }

    @Test func `the daemon has longer to stop than its scripts have to end`() throws {
        // STOP_GRACE is 30 seconds unless it is set.
        let stop = try #require(try settings()["TimeoutStopSec"]?.first)
        #expect(try #require(Int(stop.dropLast())) > 30)
        #expect(stop.hasSuffix("s"))
    }

    @Test func `no setting hides the mounts that a site's script makes`() throws {
        let hiding = [
            "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "ReadWritePaths",
            "ReadOnlyPaths", "InaccessiblePaths", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs",
            "ProtectControlGroups", "ProtectProc", "BindPaths", "TemporaryFileSystem", "RootDirectory", "DynamicUser",
        ]
        #expect(try settings().keys.filter { hiding.contains(String($0)) } == [])
    }
}
