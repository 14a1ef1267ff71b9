import Sandbox
import Foundation
import SystemPackage
import Testing

/// The shipped systemd units.
@Suite struct ServiceUnitTests {
    private static let daemon = "prov-backup-rsnapshot.service"
    private static let dropIn = "no-mounts.conf"

    private func directory() throws -> FilePath {
        try SandboxPieces().directory.removingLastComponent().appending("systemd")
    }

    private func unit(_ name: String) throws -> String {
        try String(contentsOfFile: directory().appending(name).string, encoding: .utf8)
    }

    private func settings(_ name: String = daemon) throws -> [Substring: [Substring]] {
        var settings: [Substring: [Substring]] = [:]
        for line in try unit(name).split(separator: "\n") where !line.hasPrefix("#") && !line.hasPrefix("[") {
            let parts = line.split(separator: "=", maxSplits: 1)
            settings[try #require(parts.first), default: []].append(try #require(parts.last))
        }
        return settings
    }

    private static let analyze: FilePath = "/usr/bin/systemd-analyze"

    /// Calls the body with the unit's path in a directory of its own, with a program that is there.
    private func withUnit(_ body: (FilePath, FilePath) async throws -> Void) async throws {
        try #require(FileManager.default.isExecutableFile(atPath: Self.analyze.string), "systemd-analyze is missing")
        try await withDirectory { directory in
            // The program need not be installed where the tests run.
            let text = try unit(Self.daemon).replacing("/usr/bin/prov-backup-rsnapshot ", with: "/bin/true ")
            try text.write(toFile: directory.appending(Self.daemon).string, atomically: false, encoding: .utf8)
            try await body(directory, directory.appending(Self.daemon))
        }
    }

    /// Installs the shipped drop-in next to the unit.
    private func addDropIn(in directory: FilePath) throws {
        let place = directory.appending("\(Self.daemon).d")
        try FileManager.default.createDirectory(atPath: place.string, withIntermediateDirectories: true)
        try unit(Self.dropIn).write(toFile: place.appending(Self.dropIn).string, atomically: false, encoding: .utf8)
    }

    @Test(arguments: [false, true])
    func `systemd understands every line of the unit, alone and with the drop-in`(hasDropIn: Bool) async throws {
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: directory().string).sorted() == [
                Self.dropIn, Self.daemon,
            ])
        try await withUnit { directory, unit in
            if hasDropIn { try addDropIn(in: directory) }
            let outcome = try await command(Self.analyze, ["verify", unit.string])
            #expect(outcome.code == 0 && outcome.errors.isEmpty, "\(outcome.errors)")
        }
    }

    // Of it 0.1 for cgroup namespaces: RestrictNamespaces= delays the start of scripts.
    @Test(arguments: [(false, 6.5), (true, 5.5)])
    func `what systemd-analyze counts as exposure stays small`(hasDropIn: Bool, most: Double) async throws {
        try await withUnit { directory, unit in
            if hasDropIn { try addDropIn(in: directory) }
            let outcome = try await command(Self.analyze, ["security", "--offline=true", unit.string])
            let total = try #require(outcome.output.split(separator: "\n").last { $0.contains("Overall exposure") })
            let number = try #require(total.split(separator: " ").compactMap { Double($0) }.first, "\(total)")
            #expect(number <= most, "\(total)")
        }
    }

    @Test func `the daemon may read the state of the clock, and may not set it`() throws {
        let settings = try settings()
        let filters = try #require(settings["SystemCallFilter"])
        #expect(filters.first?.hasPrefix("~@clock ") == true)
        // A later line without ~ takes its calls off the list of those that are denied.
        #expect(filters.dropFirst().contains("adjtimex clock_adjtime"))
        #expect(settings["ProtectClock"] == nil, "it would forbid both again")
        let kept = (settings["CapabilityBoundingSet"] ?? []).flatMap { $0.split(separator: " ") }
        #expect(!kept.isEmpty && !kept.contains { $0.hasSuffix("CAP_SYS_TIME") })
    }

    @Test func `wrong usage and wrong settings are not retried, all other failures are`() throws {
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
            "ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateIPC",
            "ReadWritePaths",
            "ReadOnlyPaths", "InaccessiblePaths", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs",
            "ProtectControlGroups", "ProtectProc", "BindPaths", "TemporaryFileSystem", "RootDirectory", "DynamicUser",
        ]
        #expect(try settings().keys.filter { hiding.contains(String($0)) } == [])
    }
}
