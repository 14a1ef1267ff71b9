import Foundation
import JobCore
import TestSupport
import Testing

/// The manual pages: what is made from tables of the program is made anew after a change by
///
///     PROV_REGENERATE=1 swift test --filter ManualTests
@Suite(.serialized) struct ManualTests {
    private static let folder = DaemonBench.checkout.appending(path: "etc/man")
    private static let pages = ["prov-backup-rsnapshot.8", "prov-backup-rsnapshot-jobs.7"]
    private static let jobs = folder.appending(path: "prov-backup-rsnapshot-jobs.7")
    private static let isRegenerating = ProcessInfo.processInfo.environment["PROV_REGENERATE"] == "1"

    private static func text(_ page: String) throws -> String {
        try String(contentsOf: folder.appending(path: page), encoding: .utf8)
    }

    // MARK: What is made

    /// The parts of the page on jobs that stand between marks of these names.
    private static let made: [(mark: String, text: String)] = [
        ("matrix", matrix), ("status", letters), ("profiles", profiles),
    ]

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

    private static func range(_ mark: String, in text: String) throws -> Range<String.Index> {
        let begin = try #require(text.range(of: ".\\\" \(mark) begin\n"), "the page has lost its mark \(mark)")
        let end = try #require(text.range(of: ".\\\" \(mark) end\n", range: begin.upperBound..<text.endIndex))
        return begin.upperBound..<end.lowerBound
    }

    @Test("the tables are made anew", .enabled(if: isRegenerating, "set PROV_REGENERATE=1"))
    func regenerate() throws {
        var text = try String(contentsOf: Self.jobs, encoding: .utf8)
        for part in Self.made { text.replaceSubrange(try Self.range(part.mark, in: text), with: part.text) }
        try Data(text.utf8).write(to: Self.jobs)
    }

    @Test(
        "the tables say what the program does", .enabled(if: !isRegenerating, "they are being made"),
        arguments: made.map(\.mark))
    func tables(mark: String) throws {
        let text = try String(contentsOf: Self.jobs, encoding: .utf8)
        let part = try #require(Self.made.first { $0.mark == mark })
        #expect(
            text[try Self.range(mark, in: text)] == part.text, "run: PROV_REGENERATE=1 swift test --filter ManualTests")
    }

    // MARK: What is written

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
