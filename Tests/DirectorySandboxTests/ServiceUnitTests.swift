import DirectorySandbox
import Foundation
import SystemPackage
import Testing

/// The shipped systemd units.
@Suite struct ServiceUnitTests {
    private static let daemon = "prov-backup-rsnapshot.service"

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
        let names = [Self.daemon]
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder().string).sorted() == names.sorted())
        try await withFolder { folder in
            for name in names {
                // The program need not be installed where the tests run.
                let text = try unit(name).replacing("/usr/bin/prov-backup-rsnapshot ", with: "/bin/true ")
                try text.write(toFile: folder.appending(name).string, atomically: false, encoding: .utf8)
            }
            for name in names {
                let outcome = try await command(analyze, ["verify", folder.appending(name).string])
                #expect(outcome.code == 0 && outcome.errors.isEmpty, "\(name): \(outcome.errors)")
            }
        }
    }

    @Test func `the daemon may ask whether the clock is kept right, and may not set it`() throws {
        let settings = try settings()
        let filters = try #require(settings["SystemCallFilter"])
        #expect(filters.first?.hasPrefix("~@clock ") == true)
        // A later line without ~ takes its calls off the list of those that are denied.
        #expect(filters.dropFirst().contains("adjtimex clock_adjtime"))
        #expect(settings["ProtectClock"] == nil, "it would forbid both again")
        let taken = (settings["CapabilityBoundingSet"] ?? []).flatMap { $0.split(separator: " ") }
        #expect(taken.contains { $0.hasSuffix("CAP_SYS_TIME") })
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
