import DirectorySandbox
import Foundation
import SystemPackage
import Testing

/// The shipped systemd unit.
@Suite struct ServiceUnitTests {
    private func unit() throws -> String {
        let folder = try SandboxPieces().directory.removingLastComponent().appending("systemd")
        return try String(
            contentsOfFile: folder.appending("prov-backup-rsnapshot.service").string, encoding: .utf8)
    }

    private func settings() throws -> [Substring: [Substring]] {
        var settings: [Substring: [Substring]] = [:]
        for line in try unit().split(separator: "\n") where !line.hasPrefix("#") && !line.hasPrefix("[") {
            let parts = line.split(separator: "=", maxSplits: 1)
            settings[try #require(parts.first), default: []].append(try #require(parts.last))
        }
        return settings
    }

    @Test func `systemd understands every line of the unit`() async throws {
        let analyze: FilePath = "/usr/bin/systemd-analyze"
        try #require(FileManager.default.isExecutableFile(atPath: analyze.string), "systemd-analyze is missing")
        try await withFolder { folder in
            let file = folder.appending("prov-backup-rsnapshot.service")
            // The program need not be installed where the tests run.
            let text = try unit().replacing("ExecStart=/usr/bin/prov-backup-rsnapshot ", with: "ExecStart=/bin/true ")
            try text.write(toFile: file.string, atomically: false, encoding: .utf8)
            let outcome = try await command(analyze, ["verify", file.string])
            #expect(outcome.code == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
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
