import Daemon
import Foundation
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The manual pages. Their generated parts are in ``GeneratedFilesTests``.
@Suite struct ManualTests {
    private static let directory = DaemonHarness.checkout.appending(path: "etc/man")
    private static let pages = [
        "prov-backup-rsnapshot.8", "prov-backup-rsnapshot.conf.5", "prov-backup-rsnapshot-jobs.7",
    ]

    private static func text(_ page: String) throws -> String {
        try String(contentsOf: directory.appending(path: page), encoding: .utf8)
    }

    private func rendered(_ page: String) async throws -> String {
        let program = try RunningProgram(
            URL(filePath: "/usr/bin/env"),
            [
                "LC_ALL=C.UTF-8", "MANWIDTH=80", "MAN_KEEP_FORMATTING=", "man", "--warnings", "-P", "cat", "-l",
                Self.directory.appending(path: page).path,
            ])
        #expect(await program.end() == 0, "\(program.output)")
        return program.output
    }

    @Test("man shows a page without a warning, and no line is wider than a terminal", arguments: pages)
    func rendering(page: String) async throws {
        try #require(
            FileManager.default.isExecutableFile(atPath: "/usr/bin/man"), "man is missing (apt install man-db)")
        let shown = try await rendered(page)
        #expect(!shown.contains("warning:"), "\(shown)")
        #expect(shown.contains("SEE ALSO"))
        #expect(shown.split(separator: "\n").filter { $0.count > 80 } == [])
    }

    @Test("every exit status of the process is in the page of the commands, and no other")
    func statuses() throws {
        let section = try #require(
            try Self.text(Self.pages[0]).firstMatch(of: /\n\.Sh EXIT STATUS\n(?s:(.*?))\n\.El\n/))
        #expect(
            section.output.1.matches(of: /(?m)^\.It (\d+)$/).map { Int32($0.output.1) }
                == ProcessExitStatus.allCases.map(\.rawValue))
    }

    @Test("every command is in the page of the commands, and every option that it names is one of a command")
    func commands() throws {
        let program = try #require(CommandHelp.program)
        let page = try Self.text(Self.pages[0])
        for path in program.paths() {
            let group = path.prefix { $0 != " " }
            #expect(page.contains("\n.It Cm \(path)") || page.contains("\n.It Cm \(group)\n"), "\(path)")
        }
        func options(_ command: CommandHelp) -> Set<String> {
            command.options.union((command.subcommands ?? []).flatMap(options))
        }
        let known = options(program)
        let named = page.matches(of: /Fl -([a-z-]+)/).map { String($0.output.1) }
        #expect(named.count > 10)
        for option in named { #expect(known.contains(option), "--\(option)") }
    }

    @Test("every key in capitals is one of the settings", arguments: [pages[0], pages[2]])
    func keys(page: String) throws {
        let known = Set(SettingsSchema.daemon.sections.flatMap(\.keys).map(\.name))
        let named = try Self.text(page).matches(of: /(?m)^\.Li ([A-Z_]{3,})(?: |$)/).map { String($0.output.1) }
        #expect(named.count > 3)
        for key in named { #expect(known.contains(key), "\(key)") }
    }
}
