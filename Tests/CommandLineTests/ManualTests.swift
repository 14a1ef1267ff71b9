import Foundation
import TestSupport
import Testing

/// The manual pages. Their generated parts are in ``GeneratedFilesTests``.
@Suite struct ManualTests {
    private static let folder = DaemonBench.checkout.appending(path: "etc/man")
    private static let pages = [
        "prov-backup-rsnapshot.8", "prov-backup-rsnapshot.conf.5", "prov-backup-rsnapshot-jobs.7",
    ]

    private static func text(_ page: String) throws -> String {
        try String(contentsOf: folder.appending(path: page), encoding: .utf8)
    }

    private func rendered(_ page: String) async throws -> String {
        let program = try RunningProgram(
            URL(filePath: "/usr/bin/env"),
            [
                "LC_ALL=C.UTF-8", "MANWIDTH=80", "MAN_KEEP_FORMATTING=", "man", "--warnings", "-P", "cat", "-l",
                Self.folder.appending(path: page).path,
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

    @Test("every exit status of the process stands in the page", arguments: ["0", "1", "64", "69", "75", "77", "78"])
    func status(_ status: String) throws {
        #expect(try Self.text(Self.pages[0]).contains("\n.It \(status)\n"))
    }

    @Test("every command of the program stands in the page")
    func commands() async throws {
        let program = try RunningProgram(DaemonBench.program, ["--help"])
        #expect(await program.end() == 0)
        let names = program.output.matches(of: #/(?m)^  ([a-z]+)(?: \(default\))?  /#).map { String($0.output.1) }
        #expect(names.count >= 6, "\(program.output)")
        let page = try Self.text(Self.pages[0])
        for name in names { #expect(page.contains("\n.It Cm \(name)"), "\(name)") }
    }
}
