import Daemon
import Foundation
import JobCore
import TestSupport
import Testing

@testable import BackupService
@testable import prov_backup_rsnapshot

/// Files that are generated from declarations of the program, as a whole or between two marks. After a change of a declaration this
/// command writes them again:
///
///     PROV_REGENERATE=1 swift test --filter GeneratedFilesTests
@Suite(.serialized) struct GeneratedFilesTests {
    struct Part: Sendable, CustomTestStringConvertible {
        /// In the repository.
        let path: String
        /// Of the two lines around the text; `nil` for a whole file.
        var mark: String?
        let text: String

        var testDescription: String { mark.map { "\(path): \($0)" } ?? path }

        private var file: URL { DaemonHarness.checkout.appending(path: path) }

        private func range(in content: String) throws -> Range<String.Index> {
            guard let mark else { return content.startIndex..<content.endIndex }
            let marks =
                path.hasSuffix(".md")
                ? (begin: "<!-- \(mark) -->\n", end: "<!-- /\(mark) -->\n")
                : (begin: ".\\\" \(mark) begin\n", end: ".\\\" \(mark) end\n")
            let begin = try #require(content.range(of: marks.begin), "\(path) has lost its mark \(mark)")
            let end = try #require(content.range(of: marks.end, range: begin.upperBound..<content.endIndex))
            return begin.upperBound..<end.lowerBound
        }

        func recorded() throws -> String {
            let content = try String(contentsOf: file, encoding: .utf8)
            return String(content[try range(in: content)])
        }

        func write() throws {
            var content = try String(contentsOf: file, encoding: .utf8)
            content.replaceSubrange(try range(in: content), with: text)
            try Data(content.utf8).write(to: file)
        }
    }

    private static let jobs = "etc/man/prov-backup-rsnapshot-jobs.7"
    private static let settings = "etc/man/prov-backup-rsnapshot.conf.5"
    private static let parts = [
        Part(path: "etc/Provisioning/Global.conf", text: SettingsSchema.daemon.globalFile),
        Part(path: "etc/Provisioning/Backup/Rsnapshot.conf.template", text: SettingsSchema.daemon.serviceFile),
        Part(path: "docs/settings.md", mark: "settings", text: SettingsSchema.daemon.reference),
        Part(path: settings, mark: "rules", text: SettingsSchema.manualRules),
        Part(path: settings, mark: "settings", text: SettingsSchema.daemon.manualSections),
        Part(path: settings, mark: "refused", text: refusals.map(\.manual).joined()),
        Part(
            path: "docs/home-script.md", mark: "refused directives",
            text: "| refused | why | instead |\n|---|---|---|\n" + refusals.map(\.row).joined()),
        Part(path: jobs, mark: "matrix", text: matrix),
        Part(path: jobs, mark: "status", text: letters),
        Part(path: jobs, mark: "profiles", text: profiles),
    ]

    private static let isRegenerating = ProcessInfo.processInfo.environment["PROV_REGENERATE"] == "1"

    @Test("files are generated again", .enabled(if: isRegenerating, "set PROV_REGENERATE=1"))
    func regenerate() throws {
        for part in Self.parts { try part.write() }
    }

    @Test(
        "a generated file says what the declarations say", .enabled(if: !isRegenerating, "they are being generated"),
        arguments: parts)
    func current(part: Part) throws {
        #expect(
            try part.recorded() == part.text, "run: PROV_REGENERATE=1 swift test --filter GeneratedFilesTests")
    }

    // MARK: Directives of rsnapshot

    private struct Refusal {
        let names: [String]
        let reason: String
        let fix: String

        var row: String { "| \(names.map { "`\($0)`" }.joined(separator: ", ")) | \(reason) | \(fix) |\n" }
        var manual: String {
            ".It \(names.map { ManualText.words("`\($0)`") }.joined(separator: " , "))\n"
                + ManualText.lines("\(reason); \(fix).")
        }
    }

    private static var refusals: [Refusal] {
        var names: [[String]: [String]] = [:]
        for (name, directive) in RsnapshotDirective.table {
            if case .refused(let reason, let fix) = directive.rule { names[[reason, fix], default: []].append(name) }
        }
        return names.map { Refusal(names: $0.value.sorted(), reason: $0.key[0], fix: $0.key[1]) }
            .sorted { $0.names[0] < $1.names[0] }
    }

    // MARK: Jobs

    /// As a table of tbl(1): its columns are wide enough for the longest word of each, and 76 characters together.
    private static var matrix: String {
        let widths = [7, 5, 7, 8, 7, 10, 8, 10, 6]
        func line(_ cells: [String]) -> String {
            cells.map { cell in
                let text = cell.replacing("_", with: "_\\:").replacing("configuration", with: "configu\\%ration")
                    .replacing("FAILURE", with: "FAIL\\:URE")
                return "T{\n\(text)\nT}"
            }.joined(separator: "|") + "\n"
        }
        return ".in 0\n.na\n.TS\ntab(|);\n" + widths.map { "lw(\($0)n)" }.joined(separator: "1 ") + ".\n"
            + line(HookMatrix.columns) + HookMatrix.rows.map { "_\n" + line($0.cells) }.joined() + ".TE\n.ad\n.in\n"
    }

    private static var letters: String {
        JobStatus.allCases.map { ".It \($0.rawValue) Ta \($0.title)\n" }.joined()
    }

    private static var profiles: String {
        ExitProfile.builtIn.map { profile in
            let meanings = profile.meanings.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value.title)" }
            return ".It Li \(profile.name)\n\(meanings.joined(separator: ", ")).\n"
        }.joined()
    }
}

extension SettingsSchema {
    /// `etc/Provisioning/Global.conf` as it is shipped.
    var globalFile: String {
        template(
            ["Global", "Operation Mode", "Mail"],
            head: """
                Settings that all provisioning daemons of this server share (option -g).

                Every key may also stand in the service's own file, which wins over this one, and in the environment \
                as PROV_SECTION_KEY, which wins over both. Keys behind # have the value that is shown.
                """)
    }

    /// `etc/Provisioning/Backup/Rsnapshot.conf.template` as it is shipped.
    var serviceFile: String {
        template(
            [
                "Database", "Attributes", "Service", "Backup", "Pool", "Script", "Scripts", "Hooks", "Job", "Exit",
                "Backup Jobs", "History",
            ],
            head: """
                Settings of the backup service (option -c): copy this file to Rsnapshot.conf and look at [Database].

                A file that holds a password must be its owner's alone: chmod 600. Better, keep the password apart by \
                ADMIN_PASSWORD_FILE or by a systemd credential.

                Keys behind # have the value that is shown.
                """)
    }
}
