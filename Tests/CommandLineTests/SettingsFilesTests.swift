import DaemonKit
import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The shipped files are made from the declarations. After a change of a declaration make them anew:
///
///     PROV_REGENERATE=1 swift test --filter SettingsFilesTests
struct SettingsFilesTests {
    private static let root = FilePath(#filePath).removingLastComponent().removingLastComponent()
        .removingLastComponent()
    private static let files: [(path: FilePath, content: String)] = [
        (root.appending("etc/Provisioning/Global.conf"), SettingsSchema.daemon.globalFile),
        (root.appending("etc/Provisioning/Backup/Rsnapshot.conf.template"), SettingsSchema.daemon.serviceFile),
    ]

    private static let isRegenerating = ProcessInfo.processInfo.environment["PROV_REGENERATE"] == "1"

    @Test(.enabled(if: isRegenerating, "writes the shipped files: set PROV_REGENERATE=1"))
    func `the shipped files are made anew`() throws {
        for (path, content) in Self.files {
            try FileManager.default.createDirectory(
                atPath: path.removingLastComponent().string, withIntermediateDirectories: true)
            try Data(content.utf8).write(to: URL(filePath: path.string))
        }
    }

    @Test(.enabled(if: !isRegenerating, "the shipped files are being made anew"), arguments: files)
    func `a shipped file says what the declarations say`(file: (path: FilePath, content: String)) throws {
        let shipped = try String(contentsOfFile: file.path.string, encoding: .utf8)
        #expect(shipped == file.content, "run: PROV_REGENERATE=1 swift test --filter SettingsFilesTests")
    }

    @Test func `the shipped files load as they are, without a warning`() throws {
        let fixture = try SettingsFixture()
        let (settings, warnings) = try DaemonConfiguration.load(
            service: try fixture.file("service", SettingsSchema.daemon.serviceFile, mode: 0o644),
            global: try fixture.file("global", SettingsSchema.daemon.globalFile, mode: 0o644), environment: [:])
        #expect(warnings.isEmpty)
        #expect(settings.engine.connection.credentials == .external)
    }

    @Test func `every key that is shown as a comment can be switched on`() throws {
        // Each comment of the form `# KEY = value` is a setting: with all of them in force the file must still be read.
        let fixture = try SettingsFixture()
        let active = (SettingsSchema.daemon.globalFile + "\n" + SettingsSchema.daemon.serviceFile).split(
            separator: "\n"
        ).map { line in
            line.hasPrefix("# [") || line.contains(#/^# [A-Z_0-9]+ = ./#) ? String(line.dropFirst(2)) : String(line)
        }.joined(separator: "\n")
        let (_, warnings) = try fixture.load(active)
        #expect(warnings.isEmpty)
    }

    @Test func `every key has a default that can be read, a meaning and a variable of its own`() {
        var variables: Set<String> = []
        for key in SettingsSchema.daemon.sections.flatMap(\.keys) {
            #expect(key.meaning.hasSuffix("."), "\(key.name)")
            #expect(!key.meaning.contains("\n"), "\(key.name)")
            #expect(variables.insert(key.environmentName(label: "X")).inserted, "\(key.name)")
        }
        #expect(variables.count > 60)
    }

    @Test func `README.md names the keys that need a restart, and no other`() throws {
        let text = try String(contentsOfFile: Self.root.appending("README.md").string, encoding: .utf8)
        let sentence = try #require(text.firstMatch(of: #/alone tells\. ((?:.|\n)*?) need a restart\./#)).output.1
        var keys: Set<String> = []
        for section in SettingsSchema.daemon.sections {
            let names = section.keys.filter(\.needsRestart).map(\.name)
            if !names.isEmpty, names.count == section.keys.count {
                keys.insert("[\(section.name)]")
            } else {
                keys.formUnion(names.map { $0.hasPrefix("LOG_") ? "LOG_…" : $0 })
            }
        }
        #expect(Set(sentence.matches(of: #/`([^`]+)`/#).map { String($0.output.1) }) == keys)
    }

    @Test func `the reference names every key of the files, and the files every key of the reference`() {
        let named = SettingsSchema.daemon.reference.matches(of: #/(?m)^\| `([A-Z_]+)` \|/#).map { String($0.output.1) }
        let shipped = (SettingsSchema.daemon.globalFile + SettingsSchema.daemon.serviceFile)
            .matches(of: #/(?m)^(?:# )?([A-Z_]+) =/#).map { String($0.output.1) }
        #expect(named == shipped)
        #expect(named.contains("ADMIN_PASSWORD_FILE"))
    }
}

extension SettingsSchema {
    /// `etc/Provisioning/Global.conf` as it is shipped.
    fileprivate var globalFile: String {
        template(
            ["Global", "Operation Mode", "Mail"],
            head: """
                Settings that all provisioning daemons of this server share (option -g).

                Every key may also stand in the service's own file, which wins over this one, and in the environment \
                as PROV_SECTION_KEY, which wins over both. What begins with # has the value that is shown.
                """)
    }

    /// `etc/Provisioning/Backup/Rsnapshot.conf.template` as it is shipped.
    fileprivate var serviceFile: String {
        template(
            [
                "Database", "Attributes", "Service", "Backup", "Pool", "Script", "Scripts", "Hooks", "Job", "Exit",
                "Backup Jobs", "History",
            ],
            head: """
                Settings of the backup service (option -c): copy this file to Rsnapshot.conf and look at [Database].

                A file that holds a password must be its owner's alone: chmod 600. Better, keep the password apart by \
                ADMIN_PASSWORD_FILE or by a systemd credential.

                What begins with # has the value that is shown.
                """)
    }
}
