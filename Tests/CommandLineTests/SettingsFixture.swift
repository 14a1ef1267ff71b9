import Daemon
import Foundation
import SystemPackage
import Testing

@testable import prov_backup_rsnapshot

/// Writes settings files into a directory of its own and loads them.
final class SettingsFixture: Sendable {
    let directory: FilePath

    /// The settings that every service file needs.
    static let minimum = """
        [Database]
        SERVER = ldapi:///
        SASL_MECHANISM = EXTERNAL
        SERVICE_SUBTREE = ou=accounts,dc=example,dc=org

        """

    init() throws {
        let url = FileManager.default.temporaryDirectory.appending(path: "settings-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        directory = FilePath(url.path)
    }

    deinit {
        do { try FileManager.default.removeItem(atPath: directory.string) } catch { print("left behind: \(error)") }
    }

    func file(_ name: String, _ content: String, mode: Int = 0o600) throws -> FilePath {
        let path = directory.appending(name)
        try Data(content.utf8).write(to: URL(filePath: path.string))
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path.string)
        return path
    }

    func load(
        _ service: String, global: String? = nil, environment: [String: String] = [:]
    ) throws -> (settings: DaemonConfiguration, warnings: [SettingsProblem]) {
        let (settings, warnings, errors) = DaemonConfiguration.load(
            service: try file("service.conf", service), global: try global.map { try file("global.conf", $0) },
            environment: environment)
        return (try #require(settings, "\(errors)"), warnings)
    }

    /// The errors of a service file.
    func errors(_ service: String, environment: [String: String] = [:]) throws -> [SettingsProblem] {
        DaemonConfiguration.load(
            service: try file("service.conf", service), global: nil, environment: environment
        ).errors
    }
}
