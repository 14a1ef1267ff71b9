import ArgumentParser
import Foundation
import Testing

@testable import prov_backup_rsnapshot

/// README.md's table of commands is that of the program.
@Suite struct CommandTableTests {
    /// `jobs list`, `run`, …
    private static func names(_ command: any ParsableCommand.Type, _ path: [String] = []) -> [String] {
        let inner = command.configuration.subcommands
        guard !inner.isEmpty else { return [path.joined(separator: " ")] }
        return inner.flatMap { names($0, path + [$0.configuration.commandName ?? "\($0)".lowercased()]) }
    }

    @Test("every command stands in README.md's table")
    func table() throws {
        let text = try String(contentsOf: DaemonBench.checkout.appending(path: "README.md"), encoding: .utf8)
        let start = try #require(text.range(of: "\n## Commands\n"))
        let section = text[start.upperBound...].prefix(
            upTo: text.range(of: "\n## ", range: start.upperBound..<text.endIndex)?.lowerBound ?? text.endIndex)
        let names = Self.names(ProvBackupRsnapshot.self)
        #expect(names.contains("jobs list") && names.count > 15)
        let rows = section.split(separator: "\n").filter { $0.hasPrefix("| `") }
        for name in names {
            #expect(
                rows.contains { $0.contains("`\(name)`") || $0.contains("`\(name) ") }, "\(name) is not in the table")
        }
    }
}
