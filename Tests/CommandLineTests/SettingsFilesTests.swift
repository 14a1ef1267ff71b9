import Daemon
import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The shipped files, which are generated (see ``GeneratedFilesTests``), as a reader and the program take them.
struct SettingsFilesTests {
    @Test func `the shipped files load unchanged without a warning`() throws {
        let fixture = try SettingsFixture()
        let (settings, warnings, errors) = DaemonConfiguration.load(
            service: try fixture.file("service", SettingsSchema.daemon.serviceFile, mode: 0o644),
            global: try fixture.file("global", SettingsSchema.daemon.globalFile, mode: 0o644), environment: [:])
        #expect(warnings.isEmpty && errors.isEmpty)
        #expect(settings?.engine.connection.credentials == .external)
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

    @Test func `the reference names every key of the files, and the files every key of the reference`() {
        let named = SettingsSchema.daemon.reference.matches(of: #/(?m)^\| `([A-Z_]+)` \|/#).map { String($0.output.1) }
        let shipped = (SettingsSchema.daemon.globalFile + SettingsSchema.daemon.serviceFile)
            .matches(of: #/(?m)^(?:# )?([A-Z_]+) =/#).map { String($0.output.1) }
        #expect(named == shipped)
        #expect(named.contains("ADMIN_PASSWORD_FILE"))
    }
}
